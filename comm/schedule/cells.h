// Memory as dependencies see it: one cell a chunk, and one cell for two chunks that in-place use
// makes the same memory.
#pragma once

#include <cstdint>

#include "comm/schedule/schedule.h"

namespace weft::comm {

class CellMap {
 public:
  // With `in_place` false nothing is shared.
  CellMap(const Schedule& schedule, bool in_place);
  CellMap(const Problem& problem, std::int32_t chunks_per_block, std::int32_t scratch_chunks,
          bool in_place);

  std::int32_t cell(Buffer buffer, std::int32_t chunk) const {
    return offsets_[static_cast<std::size_t>(buffer)] + chunk;
  }
  std::int32_t first(Slice slice) const { return cell(slice.buffer, slice.chunk); }
  std::int32_t size() const { return size_; }

 private:
  std::int32_t offsets_[3] = {};
  std::int32_t size_ = 0;
};

// Calls visit(first, count, writes) for every run of cells that a step touches; a run read and
// written comes twice, read first. A copy of memory onto itself touches nothing.
template <class Visit>
void for_each_range(const CellMap& cells, const Step& step, Visit&& visit) {
  const auto all = [&](Slice slice, bool writes) {
    visit(cells.first(slice), slice.count, writes);
  };
  if (step.kind == StepKind::copy && cells.first(step.from) == cells.first(step.to)) return;
  if (reads_from(step.kind)) all(step.from, false);
  for (const Slice& operand : step.operands) all(operand, false);
  if (step.kind != StepKind::send && step.to.count > 0) all(step.to, true);
}

// The same, cell by cell: visit(cell, writes).
template <class Visit>
void for_each_access(const CellMap& cells, const Step& step, Visit&& visit) {
  for_each_range(cells, step, [&](std::int32_t first, std::int32_t count, bool writes) {
    for (std::int32_t i = 0; i < count; ++i) visit(first + i, writes);
  });
}

}  // namespace weft::comm
