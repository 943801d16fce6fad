// Where a chunk lies: binds a schedule's chunks to element ranges for given counts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/schedule/schedule.h"
#include "kernels/base/units.h"

namespace weft::comm {

struct ElemRange {
  Elems begin;
  Elems end;
  Elems count() const { return end - begin; }
};

// Block sizes of one operation. Every rank of a collective passes the same sizes for a same block,
// so that both ends of a message agree on its length. all_to_all_v has sizes of its own on each
// side; everything else has one list.
class Layout {
 public:
  // `input_blocks` and `output_blocks` have block_count() entries each. Chunk boundaries inside a
  // block fall on multiples of `align` elements from the block's start (64 bytes' worth, so that
  // chunks do not share cache lines), except that a block shorter than chunks_per_block * align
  // puts its elements into its first chunks.
  Layout(const Schedule& schedule, std::span<const Elems> input_blocks,
         std::span<const Elems> output_blocks, Elems align);

  ElemRange range(Slice slice) const;  // of scratch: from the start of scratch
  Elems size(Buffer buffer) const;     // of the whole buffer

 private:
  Elems chunk_begin(int side, std::int32_t chunk) const;  // also of the one past the last

  std::int32_t chunks_per_block_ = 1;
  Elems align_{1};
  std::vector<Elems> starts_[2];  // block starts of input and output, and the end
  std::vector<Elems> scratch_;    // scratch chunk starts, and the end
};

}  // namespace weft::comm
