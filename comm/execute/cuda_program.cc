#include "comm/execute/cuda_program.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace weft::comm {

namespace {

namespace cuda = kernels::cuda;

// Chunks of a part start at multiples of it (kernels/cuda/collective_program.cuh).
constexpr std::int64_t kChunkAlign = 128;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

class Encoder {
 public:
  explicit Encoder(const MemorySchedule& schedule) : schedule_(schedule) {
    program_.chunks_per_block = schedule.chunks_per_block;
  }

  CudaProgram encode() {
    for (const MemoryStep& step : schedule_.steps) {
      if (step.kind != MemoryStepKind::await) flush_awaits();
      switch (step.kind) {
        case MemoryStepKind::publish:
          program_.instructions.push_back({cuda::Do::publish, false, 0, 0, 0, step.stage});
          break;
        case MemoryStepKind::await:
          add_await(step);
          break;
        case MemoryStepKind::move:
          for (std::int32_t i = 0; i < step.sources.front().slice.count; ++i) add_move(step, i);
          break;
      }
    }
    flush_awaits();
    return std::move(program_);
  }

 private:
  // Awaits in a row are one instruction, each member's waited for by a thread of its own.
  void add_await(const MemoryStep& step) {
    for (cuda::Operand& one : awaits_) {
      if (one.member != step.peer) continue;
      one.chunk = std::max(one.chunk, step.stage);
      return;
    }
    awaits_.push_back({static_cast<std::uint8_t>(step.peer), cuda::At::input, 0, step.stage});
  }

  void flush_awaits() {
    if (awaits_.empty()) return;
    const auto first = static_cast<std::int32_t>(program_.operands.size());
    program_.instructions.push_back(
        {cuda::Do::await, false, 0, 0, first, static_cast<std::int32_t>(awaits_.size())});
    program_.operands.insert(program_.operands.end(), awaits_.begin(), awaits_.end());
    awaits_.clear();
  }

  // The place of a chunk in its block says how long it is.
  std::int32_t place_in_block(const Location& location, std::int32_t i) const {
    std::int32_t chunk = location.slice.chunk + i;
    if (location.slice.buffer == Buffer::scratch) {
      chunk = (*schedule_.scratch)[static_cast<std::size_t>(location.rank)]
                                  [static_cast<std::size_t>(chunk)];
    }
    return chunk % schedule_.chunks_per_block;
  }

  void add_move(const MemoryStep& step, std::int32_t i) {
    const std::int32_t place = place_in_block(step.sources.front(), i);
    cuda::Instruction move{cuda::Do::move,
                           step.completes,
                           static_cast<std::uint8_t>(step.sources.size()),
                           static_cast<std::uint8_t>(step.targets.size()),
                           static_cast<std::int32_t>(program_.operands.size()),
                           place};
    WEFT_ASSERT(
        step.sources.size() <= cuda::kMembersMax && step.targets.size() <= cuda::kMembersMax,
        "a move has at most one source and one target a rank");
    for (const auto* side : {&step.sources, &step.targets}) {
      for (const Location& location : *side) {
        WEFT_ASSERT(place_in_block(location, i) == place, "slices of a move are equally long");
        const auto at = static_cast<cuda::At>(location.slice.buffer);
        program_.operands.push_back(
            {static_cast<std::uint8_t>(location.rank), at, 0, location.slice.chunk + i});
      }
    }
    program_.instructions.push_back(move);
  }

  const MemorySchedule& schedule_;
  CudaProgram program_;
  std::vector<cuda::Operand> awaits_;
};

static_assert(static_cast<int>(cuda::At::input) == static_cast<int>(Buffer::input) &&
              static_cast<int>(cuda::At::output) == static_cast<int>(Buffer::output) &&
              static_cast<int>(cuda::At::scratch) == static_cast<int>(Buffer::scratch));

}  // namespace

CudaProgram encode_for_cuda(std::span<const MemorySchedule> world, int rank) {
  WEFT_ASSERT(world.size() <= cuda::kMembersMax, "kernels know so many members");
  CudaProgram program = Encoder(world[static_cast<std::size_t>(rank)]).encode();
  for (const MemorySchedule& schedule : world) {
    for (const MemoryStep& step : schedule.steps) {
      program.stages = std::max(program.stages, step.stage + 1);
    }
  }
  for (const auto& chunks : *world.front().scratch) {
    program.scratch_chunks =
        std::max(program.scratch_chunks, static_cast<std::int32_t>(chunks.size()));
  }
  return program;
}

std::int64_t part_of_lane(const CudaProgram& program, Elems block, DType dtype, int lanes,
                          Bytes scratch) {
  const std::int64_t align = kChunkAlign / size_of(dtype).value;
  const std::int64_t unit = align * program.chunks_per_block;
  std::int64_t units = std::max<std::int64_t>(ceil_div(ceil_div(block.value, lanes), unit), 1);
  if (program.scratch_chunks > 0) {
    // So many units give every chunk as many times the alignment.
    const std::int64_t room = scratch.value / (program.scratch_chunks * kChunkAlign);
    WEFT_ASSERT(room > 0, "schedules that need more scratch are kept away");
    units = std::min(units, room);
  }
  return units * unit;
}

}  // namespace weft::comm
