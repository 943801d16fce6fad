// Where things are in an arena, and how large they are; the same for all members of a group.
#pragma once

#include <cstdint>

#include "kernels/cuda/collective.h"

namespace weft::comm::cuda_ipc {

struct ArenaLayout {
  int members = 1;
  std::uint64_t small_bytes = 0;    // payload of a small message
  std::uint64_t scratch_bytes = 0;  // of a lane and round
  std::uint64_t slot_bytes = 0;     // of a piece of a message between two
  int message_lanes = 0;

  std::uint64_t small_offset = 0;
  std::uint64_t scratch_offset = 0;
  std::uint64_t slots_offset = 0;
  std::uint64_t bytes = 0;

  explicit ArenaLayout(int members);
};

// Fills in what of `party` the layout says.
void describe(const ArenaLayout& layout, kernels::cuda::Party& party);

}  // namespace weft::comm::cuda_ipc
