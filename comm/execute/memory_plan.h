// A memory schedule made ready to run, and bound to block sizes. Like a message plan it is
// immutable and shared; what a call adds is a MemoryBinding.
//
// Rounds. Scratch is small, so a long operation is cut into rounds of a part of every block each,
// which run one after the other through the whole schedule; a schedule that needs no scratch runs
// once over everything. All ranks find the same rounds from the same counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "comm/schedule/memory_schedule.h"
#include "kernels/base/dtype.h"
#include "kernels/base/units.h"

namespace weft::comm {

struct MemoryPlan {
  MemorySchedule schedule;
  std::size_t scratch_chunks = 0;  // most that any rank has
  bool enters_late = false;        // publishes before it awaits: that says enough
  // On every rank alike: publishes once, and nobody writes into another's scratch: what is
  // published may lie beside the flag, and be written there together with it.
  bool may_be_inline = false;
};

// Rank `rank`'s of a lowered world.
MemoryPlan make_memory_plan(std::span<const MemorySchedule> world, int rank);

// The two forms of one collective.
struct MemoryPlans {
  std::shared_ptr<const MemoryPlan> by_scratch;
  std::shared_ptr<const MemoryPlan> everywhere;  // for buffers that all ranks address
};

// Part of a location: elements of one block (or of scratch, counted as block 0).
struct BoundSlice {
  std::int32_t rank = 0;
  Buffer buffer = Buffer::input;
  std::int32_t block = 0;
  Elems offset;  // from the start of the block's part of this round; of scratch: from its start
};

struct BoundStep {
  MemoryStepKind kind = MemoryStepKind::move;
  bool completes = false;
  bool at_home = true;  // touches no other rank's input or output
  std::int32_t peer = -1;
  std::int32_t stage = 0;
  std::int32_t first = 0;  // into MemoryBinding::slices: sources, then targets
  std::int32_t sources = 0;
  std::int32_t targets = 0;
  Elems count;
};

class MemoryBinding {
 public:
  // `inputs` and `outputs`: block sizes, as Layout has them. `scratch_bytes`: what a round may use.
  // `align`: elements; parts of blocks and chunks start at multiples of it.
  void bind(std::shared_ptr<const MemoryPlan> plan, std::span<const Elems> inputs,
            std::span<const Elems> outputs, DType dtype, Bytes scratch_bytes);
  bool is_bound_to(const MemoryPlan* plan) const { return plan_.get() == plan; }
  void forget() { plan_ = nullptr; }

  const MemoryPlan& plan() const { return *plan_; }
  std::int64_t rounds() const { return rounds_; }
  // Most that any rank needs in a round.
  Bytes scratch_bytes() const { return scratch_bytes_; }
  bool is_inline() const { return inline_; }  // all scratch fits beside the flag
  const std::vector<BoundStep>& steps() const { return steps_; }
  const BoundSlice* slices(const BoundStep& step) const {
    return slices_.data() + static_cast<std::size_t>(step.first);
  }
  // Where a block's part of the round starts, in elements from the start of the buffer.
  Elems start(Buffer buffer, std::int32_t block) const {
    return starts_[static_cast<std::size_t>(buffer)][static_cast<std::size_t>(block)] + shift_;
  }
  // Before a round's steps are looked at.
  void set_round(std::int64_t round);

 private:
  void bind_round();
  void bind_step(const MemoryStep& step);
  struct Range {
    std::int32_t block;
    Elems offset;
    Elems count;
  };
  Range range(const Location& location, std::int32_t chunk) const;
  Elems chunk_begin(int side, std::int32_t block, std::int32_t index) const;
  Elems part_size(int side, std::int32_t block) const;

  std::shared_ptr<const MemoryPlan> plan_;
  std::vector<Elems> sizes_[2];   // of blocks
  std::vector<Elems> starts_[2];  // of blocks, in their buffer
  Elems align_{1};
  Elems part_{0};  // of every block, a round
  std::int64_t rounds_ = 1;
  bool inline_ = false;
  Bytes scratch_bytes_;
  std::int64_t round_ = -1;
  Elems shift_{0};
  std::vector<Elems> parts_[2];                     // sizes the steps are bound for
  std::vector<std::vector<Elems>> scratch_starts_;  // by rank
  std::vector<BoundStep> steps_;
  std::vector<BoundSlice> slices_;
};

}  // namespace weft::comm
