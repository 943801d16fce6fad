// Runs the schedules of all ranks on numbers, in a random order that takes every freedom the step
// language gives: who goes first, how long a message stays under way, when memory that is being
// received into turns to garbage. An oracle that shares nothing with the verifier but the language.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "comm/schedule/schedule.h"

namespace weft::comm {

struct ConcreteOptions {
  int link_capacity = 0;
  bool in_place = false;
  std::uint64_t seed = 0;
};

// Empty when every rank ends with what the collective promises; else what is wrong.
std::string run_concretely(std::span<const Schedule> schedules, const ConcreteOptions& options);

}  // namespace weft::comm
