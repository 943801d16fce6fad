#include "comm/passes/passes.h"
#include "comm/schedule/builder.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

// Tile t of k chunks, each cut into `tiles`: the t-th k of the k * tiles smaller ones.
Slice cut(Slice slice, int tiles, int t) {
  slice.chunk = slice.chunk * tiles + t * slice.count;
  return slice;
}

}  // namespace

Schedule tile(const Schedule& schedule, int tiles) {
  WEFT_ASSERT(tiles >= 1, "at least one tile");
  if (tiles == 1) return schedule;
  Schedule result = schedule;
  result.chunks_per_block *= tiles;
  result.scratch.clear();
  for (const std::int32_t chunk : schedule.scratch) {
    for (int t = 0; t < tiles; ++t) result.scratch.push_back(chunk * tiles + t);
  }
  result.steps.clear();
  result.steps.reserve(schedule.steps.size() * static_cast<std::size_t>(tiles));
  for (const Step& step : schedule.steps) {
    for (int t = 0; t < tiles; ++t) {
      Step& piece = result.steps.emplace_back(step);
      piece.from = cut(step.from, tiles, t);
      piece.to = cut(step.to, tiles, t);
      for (Slice& operand : piece.operands) operand = cut(operand, tiles, t);
    }
  }
  compute_dependencies(result);
  return result;
}

}  // namespace weft::comm
