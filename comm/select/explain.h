// Why choose() chooses what it does, candidate by candidate.
#pragma once

#include <string>
#include <vector>

#include "comm/select/select.h"

namespace weft::comm {

struct Candidate {
  std::string_view algorithm;
  bool possible = true;
  double seconds = 0;  // expected; 0: not possible, or no model
  std::string why;     // "the fastest", "1.7 x the fastest", "does not do 6 ranks" ...
};

struct Explanation {
  Choice choice;
  std::string rule;  // what decided: "the model", or "measured: ..."
  std::string source;
  std::vector<Candidate> candidates;  // those of algorithms(), in order
};

// crowded counts for Medium::memory, where all ranks address each other's memory; the others send
// messages.
Explanation explain(const Problem& problem, Bytes bytes, const Tuning& tuning, Medium medium,
                    bool crowded);

}  // namespace weft::comm
