// What all ranks do together, they do or none does.
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace weft::parallel {

// Runs `action` on every rank, then asks whether all went well: if it threw anywhere, the lowest
// such rank's error is thrown on every rank, with the rank's name before it where there are
// several. `action` itself must not call the communicator. Collective.
void together(Communicator& communicator, const std::function<void()>& action);

// Texts of any length. Every rank's, by rank, on rank `root` (elsewhere nothing); and the other way
// round: `texts` counts on the root, each rank gets its own. Collective.
std::vector<std::string> gather_texts(Communicator& communicator, const std::string& text,
                                      int root = 0);
std::string scatter_texts(Communicator& communicator, const std::vector<std::string>& texts,
                          int root = 0);
// The root's. Collective.
std::string broadcast_text(Communicator& communicator, std::string text, int root = 0);
// All ranks' texts, each once, in the order of ranks. No text holds a line break. Collective.
std::vector<std::string> unite_texts(Communicator& communicator,
                                     const std::vector<std::string>& texts);

}  // namespace weft::parallel
