#include "comm/execute/memory_plan.h"

#include <algorithm>
#include <utility>

#include "comm/transport/memory/area.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr std::int64_t kLineBytes = 64;  // chunks do not share cache lines
constexpr int kInput = 0;
constexpr int kOutput = 1;

int side_of(Buffer buffer) { return buffer == Buffer::input ? kInput : kOutput; }

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

namespace {

bool keeps_to_itself(const MemorySchedule& schedule) {
  int publishes = 0;
  for (const MemoryStep& step : schedule.steps) {
    publishes += step.kind == MemoryStepKind::publish ? 1 : 0;
    for (const Location& target : step.targets) {
      const bool abroad = target.rank != schedule.problem.rank;
      if (abroad && target.slice.buffer == Buffer::scratch) return false;
    }
  }
  return publishes <= 1;
}

}  // namespace

MemoryPlan make_memory_plan(std::span<const MemorySchedule> world, int rank) {
  MemoryPlan plan;
  plan.schedule = world[static_cast<std::size_t>(rank)];
  for (const auto& chunks : *plan.schedule.scratch) {
    plan.scratch_chunks = std::max(plan.scratch_chunks, chunks.size());
  }
  for (const MemoryStep& step : plan.schedule.steps) {
    if (step.kind == MemoryStepKind::move) continue;
    plan.enters_late = step.kind == MemoryStepKind::publish;
    break;
  }
  plan.may_be_inline = std::all_of(world.begin(), world.end(), keeps_to_itself);
  return plan;
}

void MemoryBinding::bind(std::shared_ptr<const MemoryPlan> plan, std::span<const Elems> inputs,
                         std::span<const Elems> outputs, DType dtype, Bytes scratch_bytes) {
  plan_ = std::move(plan);
  const std::int64_t element = size_of(dtype).value;
  align_ = Elems(kLineBytes / element);
  std::int64_t longest = 0;
  for (const int side : {kInput, kOutput}) {
    const auto sizes = side == kInput ? inputs : outputs;
    sizes_[side].assign(sizes.begin(), sizes.end());
    starts_[side].assign(1, Elems(0));
    for (const Elems size : sizes) {
      starts_[side].push_back(starts_[side].back() + size);
      longest = std::max(longest, size.value);
    }
    parts_[side].clear();
  }
  part_ = Elems(longest);
  const auto chunks = static_cast<std::int64_t>(plan_->scratch_chunks);
  if (chunks > 0) {
    // Of a part of u units of alignment each chunk gets at most ceil(u / chunks a block).
    const std::int64_t units = scratch_bytes.value / (chunks * kLineBytes);
    WEFT_ASSERT(units > 0, "the planner keeps schedules that need more scratch away");
    const std::int64_t most = units * plan_->schedule.chunks_per_block * align_.value;
    part_ = Elems(std::min(longest, most));
  }
  rounds_ = longest == 0 ? 1 : ceil_div(longest, std::max<std::int64_t>(part_.value, 1));
  round_ = -1;
  set_round(0);
  std::int64_t most = 0;
  for (const auto& starts : scratch_starts_) most = std::max(most, starts.back().value);
  scratch_bytes_ = Bytes(most * element);  // of the first round, which no other exceeds
  inline_ = plan_->may_be_inline && rounds_ == 1 &&
            static_cast<std::size_t>(most * element) <= memory::kInlineBytes;
}

Elems MemoryBinding::part_size(int side, std::int32_t block) const {
  return parts_[side][static_cast<std::size_t>(block)];
}

void MemoryBinding::set_round(std::int64_t round) {
  if (round == round_) return;
  round_ = round;
  shift_ = Elems(part_.value * round);
  bool same = !parts_[kInput].empty() || !parts_[kOutput].empty();
  for (const int side : {kInput, kOutput}) {
    auto& parts = parts_[side];
    if (parts.size() != sizes_[side].size()) same = false;
    parts.resize(sizes_[side].size());
    for (std::size_t b = 0; b < parts.size(); ++b) {
      const Elems part(
          std::clamp<std::int64_t>(sizes_[side][b].value - shift_.value, 0, part_.value));
      same = same && part == parts[b];
      parts[b] = part;
    }
  }
  if (!same) bind_round();
}

void MemoryBinding::bind_round() {
  const MemorySchedule& schedule = plan_->schedule;
  const int wide = side_of(wide_buffer(schedule.problem.collective));
  const std::int32_t per_block = schedule.chunks_per_block;
  scratch_starts_.clear();
  for (const auto& chunks : *schedule.scratch) {
    auto& starts = scratch_starts_.emplace_back(1, Elems(0));
    for (const std::int32_t chunk : chunks) {
      const std::int32_t block = chunk / per_block;
      const Elems length = chunk_begin(wide, block, chunk % per_block + 1) -
                           chunk_begin(wide, block, chunk % per_block);
      starts.push_back(starts.back() + length);
    }
  }
  steps_.clear();
  slices_.clear();
  for (const MemoryStep& step : schedule.steps) bind_step(step);
}

// As Layout: a part of u = ceil(size / align) units gives each chunk u / chunks units, and one more
// to the first u % chunks of them.
Elems MemoryBinding::chunk_begin(int side, std::int32_t block, std::int32_t index) const {
  const Elems size = part_size(side, block);
  const std::int32_t chunks = plan_->schedule.chunks_per_block;
  if (index == 0) return Elems(0);
  if (index == chunks) return size;
  const std::int64_t units = ceil_div(size.value, align_.value);
  const std::int64_t each = units / chunks;
  const std::int64_t more = units % chunks;
  const std::int64_t before = index * each + std::min<std::int64_t>(index, more);
  return std::min(size, align_ * before);
}

// The i-th chunk of a location.
MemoryBinding::Range MemoryBinding::range(const Location& location, std::int32_t i) const {
  const std::int32_t chunk = location.slice.chunk + i;
  if (location.slice.buffer == Buffer::scratch) {
    const auto& starts = scratch_starts_[static_cast<std::size_t>(location.rank)];
    const Elems begin = starts[static_cast<std::size_t>(chunk)];
    return {0, begin, starts[static_cast<std::size_t>(chunk) + 1] - begin};
  }
  const int side = side_of(location.slice.buffer);
  const std::int32_t per_block = plan_->schedule.chunks_per_block;
  const std::int32_t block = chunk / per_block;
  const Elems begin = chunk_begin(side, block, chunk % per_block);
  return {block, begin, chunk_begin(side, block, chunk % per_block + 1) - begin};
}

// One bound step for each run of chunks that lie one behind the other everywhere.
void MemoryBinding::bind_step(const MemoryStep& step) {
  BoundStep bound;
  bound.kind = step.kind;
  bound.completes = step.completes;
  bound.peer = step.peer;
  bound.stage = step.stage;
  if (step.kind != MemoryStepKind::move) {
    steps_.push_back(bound);
    return;
  }
  std::vector<Location> all = step.sources;
  all.insert(all.end(), step.targets.begin(), step.targets.end());
  bound.sources = static_cast<std::int32_t>(step.sources.size());
  bound.targets = static_cast<std::int32_t>(step.targets.size());
  for (const Location& location : all) {
    const bool others = location.rank != plan_->schedule.problem.rank;
    if (others && location.slice.buffer != Buffer::scratch) bound.at_home = false;
  }
  bool open = false;  // steps_.back() is a piece of this step
  for (std::int32_t i = 0; i < all.front().slice.count; ++i) {
    const Elems count = range(all.front(), i).count;
    if (count.value == 0) continue;
    bool extends = open;
    for (std::size_t k = 0; k < all.size(); ++k) {
      const Range found = range(all[k], i);
      WEFT_ASSERT(found.count == count, "slices of a move are equally long");
      if (!extends) continue;
      const BoundSlice& before = slices_[static_cast<std::size_t>(steps_.back().first) + k];
      extends = before.block == found.block && before.offset + steps_.back().count == found.offset;
    }
    if (extends) {
      steps_.back().count += count;
      continue;
    }
    bound.first = static_cast<std::int32_t>(slices_.size());
    bound.count = count;
    for (const Location& location : all) {
      const Range found = range(location, i);
      slices_.push_back({location.rank, location.slice.buffer, found.block, found.offset});
    }
    steps_.push_back(bound);
    open = true;
  }
}

}  // namespace weft::comm
