#include <fmt/format.h>

#include <algorithm>

#include "comm/verify/memory_world.h"

namespace weft::comm {

namespace {

void check_schedule(const MemoryWorld& world, std::int32_t rank) {
  const MemorySchedule& schedule = world.schedule(rank);
  const MemorySchedule& first = world.schedules.front();
  const Problem& mine = schedule.problem;
  const Problem& theirs = first.problem;
  const auto refute = [&](const char* what) {
    throw Refuted{fmt::format("rank {}'s schedule: {}", rank, what)};
  };
  if (static_cast<int>(mine.collective) >= kScheduledCollectives) {
    refute("is of no scheduled collective");
  }
  if (mine.rank != rank || mine.world_size != world.size()) {
    throw Refuted{fmt::format("schedule {} says it is rank {} of {}, not {} of {}", rank, mine.rank,
                              mine.world_size, rank, world.size())};
  }
  if (mine.collective != theirs.collective || mine.root != theirs.root || mine.root < 0 ||
      mine.root >= world.size()) {
    refute("its problem is not that of the others");
  }
  if (schedule.chunks_per_block < 1 || schedule.chunks_per_block != first.chunks_per_block ||
      schedule.reach != first.reach) {
    refute("it cuts blocks into other chunks, or reaches further, than rank 0's");
  }
  if (schedule.scratch == nullptr || std::ssize(*schedule.scratch) != world.size()) {
    refute("it does not know every rank's scratch");
  }
  if (schedule.scratch != first.scratch && *schedule.scratch != *first.scratch) {
    refute("it knows of other scratch than rank 0");
  }
  const std::int32_t wide =
      block_count(mine, wide_buffer(mine.collective)) * schedule.chunks_per_block;
  for (const std::int32_t chunk : (*schedule.scratch)[static_cast<std::size_t>(rank)]) {
    if (chunk < 0 || chunk >= wide) refute("its scratch stands for chunks that do not exist");
  }
}

class StepCheck {
 public:
  StepCheck(const MemoryWorld& world, std::int32_t rank)
      : world_(world), schedule_(world.schedule(rank)), ref_{rank, -1} {}

  void step(StepId id) {
    ref_.id = id;
    const MemoryStep& step = world_.step(ref_);
    switch (step.kind) {
      case MemoryStepKind::publish:
        check_no_move(step);
        if (step.peer != -1) refute("publishes to all, not to a peer");
        if (step.stage != ++published_) refute("each publish raises the counter by one, from 1 on");
        return;
      case MemoryStepKind::await:
        check_no_move(step);
        if (step.peer < 0 || step.peer >= world_.size() || step.peer == ref_.rank) {
          refute("has no such peer");
        }
        if (step.stage < 0) refute("awaits a stage that no counter has");
        return;
      case MemoryStepKind::move:
        check_move(step);
        return;
    }
    refute("is no step");
  }

 private:
  [[noreturn]] void refute(const char* what) const {
    throw Refuted{fmt::format("{}: {}", world_.text(ref_), what)};
  }

  void check_no_move(const MemoryStep& step) const {
    if (!step.sources.empty() || !step.targets.empty() || step.completes) {
      refute("moves nothing, yet names what to move");
    }
  }

  void check_move(const MemoryStep& step) const {
    if (step.peer != -1 || step.stage != 0) refute("a move waits for nobody");
    if (step.sources.empty() || step.targets.empty()) refute("a move has sources and targets");
    for (const Location& at : step.sources) check_location(at, false);
    for (const Location& at : step.targets) check_location(at, true);
    const Location& length = step.targets.front();
    for (const Location& at : step.sources) check_length(at, length);
    for (const Location& at : step.targets) check_length(at, length);
    for (std::size_t i = 0; i < step.targets.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (overlaps(step.targets[j], step.targets[i])) refute("writes twice to one place");
      }
      for (const Location& source : step.sources) {
        if (overlaps(source, step.targets[i]) && !same(source, step.targets[i])) {
          refute("writes over part of what it reads");
        }
      }
    }
    if (step.completes && (step.sources.size() < 2 || !is_reducing(world_.problem().collective))) {
      refute("completes a value although it reduces nothing");
    }
  }

  void check_location(const Location& at, bool written) const {
    if (at.rank < 0 || at.rank >= world_.size()) refute("names a rank that does not exist");
    const Slice slice = at.slice;
    const Problem& problem = world_.problem();
    const bool root = at.rank == problem.root;
    const std::int64_t chunks =
        slice.buffer == Buffer::scratch
            ? std::ssize(scratch_of(at.rank))
            : std::int64_t{block_count(problem, slice.buffer)} * schedule_.chunks_per_block;
    if (slice.count < 1 || slice.chunk < 0 || slice.chunk > chunks - slice.count) {
      refute("names chunks that do not exist");
    }
    if (slice.buffer == Buffer::scratch) return;
    if (at.rank != ref_.rank && schedule_.reach == Reach::scratch) {
      refute("touches another rank's buffers, and may only touch its scratch");
    }
    if (slice.buffer == Buffer::input) {
      if (written) refute("writes to the input");
      if (problem.collective == Collective::broadcast) refute("a broadcast has no input");
      if (problem.collective == Collective::scatter && !root) {
        refute("a scatter's input exists on the root only");
      }
    }
    if (slice.buffer == Buffer::output && !root &&
        (problem.collective == Collective::reduce || problem.collective == Collective::gather)) {
      refute("the output exists on the root only");
    }
  }

  std::span<const std::int32_t> scratch_of(std::int32_t rank) const {
    return (*schedule_.scratch)[static_cast<std::size_t>(rank)];
  }

  std::int64_t class_of(const Location& at, std::int32_t i) const {
    return chunk_class(world_.schedule(at.rank).problem, schedule_.chunks_per_block,
                       scratch_of(at.rank), at.slice, i);
  }

  void check_length(const Location& at, const Location& length) const {
    bool equal = at.slice.count == length.slice.count;
    for (std::int32_t i = 0; equal && i < at.slice.count; ++i) {
      equal = class_of(at, i) == class_of(length, i);
    }
    if (!equal) refute("its slices are not equally long");
  }

  bool overlaps(const Location& a, const Location& b) const {
    if (a.rank != b.rank) return false;
    const std::int32_t first = world_.cell(a, 0);
    const std::int32_t other = world_.cell(b, 0);
    return first < other + b.slice.count && other < first + a.slice.count;
  }
  bool same(const Location& a, const Location& b) const {
    return a.rank == b.rank && world_.cell(a, 0) == world_.cell(b, 0);
  }

  const MemoryWorld& world_;
  const MemorySchedule& schedule_;
  StepRef ref_;
  std::int32_t published_ = 0;
};

}  // namespace

void check_memory_schedules(MemoryWorld& world) {
  for (std::int32_t rank = 0; rank < world.size(); ++rank) check_schedule(world, rank);
  for (const MemorySchedule& schedule : world.schedules) {
    const auto rank = static_cast<std::size_t>(schedule.problem.rank);
    const auto scratch = static_cast<std::int32_t>((*schedule.scratch)[rank].size());
    world.cells.emplace_back(schedule.problem, schedule.chunks_per_block, scratch, world.in_place);
  }
}

void check_memory_steps(const MemoryWorld& world) {
  for (std::int32_t rank = 0; rank < world.size(); ++rank) {
    StepCheck check(world, rank);
    for (StepId id = 0; id < std::ssize(world.schedule(rank).steps); ++id) check.step(id);
  }
}

}  // namespace weft::comm
