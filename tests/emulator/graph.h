// Graphs: captured work, to be run as often as wanted.
#pragma once

#include <memory>
#include <vector>

#include "tests/emulator/capture.h"

namespace weft::emulated {

struct Captured {
  std::vector<Node> nodes;
  std::vector<std::shared_ptr<void>> kept;
};

struct Graph {
  Captured work;
};

// Launches hold what they run, so that it may be updated or destroyed meanwhile.
struct GraphExec {
  std::shared_ptr<const Captured> work;
};

}  // namespace weft::emulated
