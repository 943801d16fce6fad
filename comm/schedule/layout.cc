#include "comm/schedule/layout.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr int kInput = 0;
constexpr int kOutput = 1;

std::vector<Elems> starts_of(std::span<const Elems> blocks) {
  std::vector<Elems> starts(blocks.size() + 1);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    WEFT_ASSERT(blocks[i] >= Elems(0), "block sizes are not negative");
    starts[i + 1] = starts[i] + blocks[i];
  }
  return starts;
}

}  // namespace

Layout::Layout(const Schedule& schedule, std::span<const Elems> input_blocks,
               std::span<const Elems> output_blocks, Elems align)
    : chunks_per_block_(schedule.chunks_per_block), align_(align) {
  WEFT_ASSERT(align >= Elems(1), "chunks are aligned to at least one element");
  WEFT_ASSERT(std::ssize(input_blocks) == block_count(schedule.problem, Buffer::input) &&
                  std::ssize(output_blocks) == block_count(schedule.problem, Buffer::output),
              "one size a block");
  starts_[kInput] = starts_of(input_blocks);
  starts_[kOutput] = starts_of(output_blocks);
  const int wide = wide_buffer(schedule.problem.collective) == Buffer::input ? kInput : kOutput;
  scratch_.reserve(schedule.scratch.size() + 1);
  scratch_.push_back(Elems(0));
  for (const std::int32_t chunk : schedule.scratch) {
    scratch_.push_back(scratch_.back() + chunk_begin(wide, chunk + 1) - chunk_begin(wide, chunk));
  }
}

// A block of u = ceil(size / align) units gives each chunk u / chunks units, and one more to the
// first u % chunks of them.
Elems Layout::chunk_begin(int side, std::int32_t chunk) const {
  const std::vector<Elems>& starts = starts_[side];
  const std::int32_t block = chunk / chunks_per_block_;
  const std::int32_t index = chunk % chunks_per_block_;
  const Elems begin = starts[static_cast<std::size_t>(block)];
  if (index == 0) return begin;  // also of the one past the last block
  const Elems size = starts[static_cast<std::size_t>(block) + 1] - begin;
  const std::int64_t units = (size.value + align_.value - 1) / align_.value;
  const std::int64_t each = units / chunks_per_block_;
  const std::int64_t more = units % chunks_per_block_;
  const std::int64_t before = index * each + std::min<std::int64_t>(index, more);
  return begin + std::min(size, align_ * before);
}

ElemRange Layout::range(Slice slice) const {
  const std::int32_t end = slice.chunk + slice.count;
  if (slice.buffer == Buffer::scratch) {
    return {scratch_[static_cast<std::size_t>(slice.chunk)],
            scratch_[static_cast<std::size_t>(end)]};
  }
  const int side = slice.buffer == Buffer::input ? kInput : kOutput;
  return {chunk_begin(side, slice.chunk), chunk_begin(side, end)};
}

Elems Layout::size(Buffer buffer) const {
  if (buffer == Buffer::scratch) return scratch_.back();
  return starts_[buffer == Buffer::input ? kInput : kOutput].back();
}

}  // namespace weft::comm
