#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "comm/schedule/cells.h"
#include "comm/verify/world.h"

namespace weft::comm {

std::int64_t chunk_class(const Problem& problem, std::int32_t chunks_per_block,
                         std::span<const std::int32_t> scratch, Slice slice, std::int32_t i) {
  const Buffer wide = wide_buffer(problem.collective);
  std::int32_t chunk = slice.chunk + i;
  Buffer buffer = slice.buffer;
  if (buffer == Buffer::scratch) {
    chunk = scratch[static_cast<std::size_t>(chunk)];
    buffer = wide;
  }
  const std::int64_t cut = chunks_per_block;
  if (problem.collective == Collective::all_to_all) {  // each pair has a length of its own
    const std::int64_t n = problem.world_size;
    const std::int64_t other = chunk / cut;
    const std::int64_t pair =
        buffer == Buffer::input ? problem.rank * n + other : other * n + problem.rank;
    return pair * cut + chunk % cut;
  }
  const bool narrow = block_count(problem, buffer) < block_count(problem, wide);
  return narrow ? problem.rank * cut + chunk : chunk;
}

namespace {

class StepCheck {
 public:
  StepCheck(const World& world, std::int32_t rank)
      : world_(world),
        schedule_(world.schedule(rank)),
        rank_(rank),
        cells_(schedule_, world.options.in_place),
        seen_(schedule_.steps.size(), -1) {}

  void schedule() {
    const Problem& mine = schedule_.problem;
    const Schedule& first = world_.schedules.front();
    const Problem& theirs = first.problem;
    if (mine.rank != rank_ || mine.world_size != world_.size() ||
        mine.collective != theirs.collective || mine.root != theirs.root || mine.root < 0 ||
        mine.root >= world_.size()) {
      refute("its problem is not that of the others");
    }
    if (schedule_.chunks_per_block < 1 || schedule_.lanes < 1 ||
        schedule_.chunks_per_block != first.chunks_per_block || schedule_.lanes != first.lanes) {
      refute("it cuts blocks into other chunks, or uses other lanes, than rank 0");
    }
    const std::int32_t wide = chunk_count(schedule_, wide_buffer(mine.collective));
    for (const std::int32_t chunk : schedule_.scratch) {
      if (chunk < 0 || chunk >= wide) refute("its scratch stands for chunks that do not exist");
    }
  }

  void step(StepId id) {
    id_ = id;
    const Step& step = schedule_.steps[static_cast<std::size_t>(id)];
    check_peers(step);
    check_slices(step);
    check_overlap(step);
    const bool may_complete = step.kind == StepKind::recv_reduce || step.kind == StepKind::reduce ||
                              step.kind == StepKind::recv_reduce_send;
    if (step.completes && !(may_complete && is_reducing(schedule_.problem.collective))) {
      refute("completes a value although it reduces nothing");
    }
    for (const StepId before : step.after) {
      if (before < 0 || before >= id) refute("may only come after earlier steps");
      StepId& seen = seen_[static_cast<std::size_t>(before)];
      if (seen == id) refute("names a step twice in `after`");
      seen = id;
    }
  }

 private:
  [[noreturn]] void refute(const char* what) const {
    if (id_ < 0) throw Refuted{fmt::format("rank {}'s schedule: {}", rank_, what)};
    throw Refuted{fmt::format("{}: {}", world_.text({rank_, id_}), what)};
  }

  void check_peers(const Step& step) const {
    const auto is_link = [&](std::int32_t peer, std::int32_t lane) {
      return peer >= 0 && peer < world_.size() && peer != rank_ && lane >= 0 &&
             lane < schedule_.lanes;
    };
    const bool talks = receives(step.kind) || sends(step.kind);
    if (talks ? !is_link(step.peer, step.lane) : (step.peer != -1 || step.lane != 0)) {
      refute("has no such peer or lane");
    }
    if (is_fused(step.kind) ? !is_link(step.send_peer, step.send_lane)
                            : (step.send_peer != -1 || step.send_lane != 0)) {
      refute("has no such peer or lane to send on to");
    }
  }

  void check_slices(const Step& step) const {
    const bool storeless = step.kind == StepKind::recv_reduce_send && step.to.count == 0;
    const bool writes = step.kind != StepKind::send && !storeless;
    check_slice(step.from, reads_from(step.kind), false);
    check_slice(step.to, writes, true);
    if ((step.kind == StepKind::reduce) == step.operands.empty()) {
      refute("operands belong to reduce, and it needs some");
    }
    for (const Slice& operand : step.operands) check_slice(operand, true, false);
    const Slice length = payload_of(step);
    const auto same = [&](Slice slice) {
      if (slice.count == 0) return;
      bool equal = slice.count == length.count;
      for (std::int32_t i = 0; equal && i < slice.count; ++i) {
        equal = chunk_class(schedule_, slice, i) == chunk_class(schedule_, length, i);
      }
      if (!equal) refute("its slices are not equally long");
    };
    same(step.from);
    for (const Slice& operand : step.operands) same(operand);
  }

  void check_slice(Slice slice, bool used, bool written) const {
    if (!used) {
      if (slice != Slice{}) refute("names a slice that its kind does not use");
      return;
    }
    if (slice.count < 1 || slice.chunk < 0 ||
        slice.chunk > chunk_count(schedule_, slice.buffer) - slice.count) {
      refute("names chunks that do not exist");
    }
    const Problem& problem = schedule_.problem;
    const bool root = problem.rank == problem.root;
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

  // A source may be the very slice that is written, but not a part of it or more than it.
  void check_overlap(const Step& step) const {
    if (step.kind == StepKind::send || step.to.count == 0) return;
    const std::int32_t to = cells_.first(step.to);
    const auto check = [&](Slice slice) {
      if (slice.count == 0) return;
      const std::int32_t from = cells_.first(slice);
      const bool disjoint = from + slice.count <= to || to + step.to.count <= from;
      if (!disjoint && from != to) refute("writes over part of what it reads");
    };
    check(step.from);
    for (const Slice& operand : step.operands) check(operand);
  }

  const World& world_;
  const Schedule& schedule_;
  std::int32_t rank_;
  StepId id_ = -1;
  CellMap cells_;
  std::vector<StepId> seen_;  // the last step that named this one in `after`
};

}  // namespace

void check_steps(const World& world) {
  for (std::int32_t rank = 0; rank < world.size(); ++rank) {
    const Schedule& schedule = world.schedule(rank);
    // First of all the numbers that the check itself needs.
    if (static_cast<int>(schedule.problem.collective) >= kScheduledCollectives) {
      throw Refuted{fmt::format("rank {}'s schedule is of no scheduled collective", rank)};
    }
    if (schedule.problem.rank != rank || schedule.problem.world_size != world.size()) {
      throw Refuted{fmt::format("schedule {} says it is rank {} of {}, not {} of {}", rank,
                                schedule.problem.rank, schedule.problem.world_size, rank,
                                world.size())};
    }
    StepCheck check(world, rank);
    check.schedule();
    for (StepId id = 0; id < std::ssize(schedule.steps); ++id) check.step(id);
  }
}

}  // namespace weft::comm
