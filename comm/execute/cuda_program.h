// A memory schedule as CUDA kernels read it (kernels/cuda/collective.h): a compact list of
// instructions on single chunks. A pure function; like the schedule, a program knows no sizes, so
// one serves all calls of its kind.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/schedule/memory_schedule.h"
#include "kernels/base/units.h"
#include "kernels/cuda/collective.h"

namespace weft::comm {

struct CudaProgram {
  std::vector<kernels::cuda::Instruction> instructions;
  std::vector<kernels::cuda::Operand> operands;
  std::int32_t stages = 1;  // more than the last stage of any rank
  std::int32_t chunks_per_block = 1;
  std::int32_t scratch_chunks = 0;  // most that any rank has
};

// Rank `rank`'s of a lowered world of at most kMembersMax ranks.
CudaProgram encode_for_cuda(std::span<const MemorySchedule> world, int rank);

// Elements of every block that a lane takes at a time: all of a lane's share if scratch has room
// for it, else as many as it has room for. `scratch`: of one lane and round.
std::int64_t part_of_lane(const CudaProgram& program, Elems block, DType dtype, int lanes,
                          Bytes scratch);

}  // namespace weft::comm
