// Runs all ranks at once on expressions. An await waits for a counter that only rises, so the order
// in which ranks that can go on are taken changes neither who can run nor, without races, any
// value: one run stands for all, and ranks that are left over when none can go on are a deadlock.
//
// Races are found with vector clocks. Rank r's epoch is the stage that its next publish will have;
// what it does now has happened before another rank's step if that rank knows r's counter to have
// reached this epoch, from awaiting it or from awaiting somebody who did. Per cell the last write
// and the reads since are remembered, and each access must come after those that it conflicts with.
// Source: Flanagan and Freund, "FastTrack: efficient and precise dynamic race detection", PLDI
// 2009.
#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <vector>

#include "comm/verify/expressions.h"
#include "comm/verify/memory_world.h"
#include "comm/verify/outcome.h"

namespace weft::comm {

namespace {

constexpr std::int32_t kNobody = -1;

struct Access {
  StepRef step;
  std::int32_t epoch = 0;
};

class Run {
 public:
  explicit Run(const MemoryWorld& world);
  void run();

 private:
  using Clock = std::vector<std::int32_t>;  // by rank: the stage it is known to have reached
  struct Cell {
    NodeId value = kUnwritten;
    Access writer;
    std::int32_t readers = kNobody;  // since the last write; a list in readers_
  };
  struct Reader {
    Access access;
    std::int32_t next;
  };
  struct Snapshot {
    Clock clock;
    std::int64_t awaited = 0;  // by how many steps still to come
  };

  static std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }
  Cell& cell(const Location& where, std::int32_t i) {
    return cells_[at(where.rank)][at(world_.cell(where, i))];
  }
  Snapshot& snapshot(std::int32_t rank, std::int32_t stage) {
    return snapshots_[at(rank)][at(stage)];
  }

  void advance(std::int32_t rank);
  bool await(const MemoryStep& step);
  void publish();
  void move(const MemoryStep& step);
  void move_chunk(const MemoryStep& step, std::int32_t i);
  void check_completes(const MemoryStep& step, std::int32_t i, NodeId value) const;

  bool knows(std::int32_t rank, const Access& access) const {
    return access.step.rank == rank || clocks_[at(rank)][at(access.step.rank)] >= access.epoch;
  }
  void touch(const Location& where, std::int32_t i, bool writes);
  void report_unwritten(const Location& where, std::int32_t i) const;
  std::int32_t publishes_until(StepRef ref) const;
  void order(const Access& before, const Location& where, std::int32_t i) const;
  void check_finish(std::int32_t rank) const;
  [[noreturn]] void report_deadlock() const;

  const MemoryWorld& world_;
  mutable Outcome outcome_;
  std::vector<std::vector<Cell>> cells_;  // by rank
  std::vector<Reader> readers_;
  std::vector<StepId> next_;                        // by rank
  std::vector<Clock> clocks_;                       // by rank; its own entry is what it published
  std::vector<std::vector<Snapshot>> snapshots_;    // by rank and stage
  std::vector<std::vector<std::int32_t>> waiting_;  // by rank: who waits for its counter
  std::vector<std::unordered_map<std::int32_t, Access>> touched_;  // by rank: others' last accesses
  std::deque<std::int32_t> ready_;
  std::vector<NodeId> operands_;
  StepRef now_;
};

Run::Run(const MemoryWorld& world)
    : world_(world), outcome_(world.problem(), world.schedules.front().chunks_per_block) {
  const auto n = world.schedules.size();
  next_.assign(n, 0);
  clocks_.assign(n, Clock(n, kNobody));
  snapshots_.assign(n, std::vector<Snapshot>(1));
  waiting_.resize(n);
  touched_.resize(n);
  for (std::int32_t rank = 0; rank < world.size(); ++rank) {
    cells_.emplace_back(at(world.cells[at(rank)].size()));
    outcome_.put_contributions(rank, [&](Slice slice, NodeId leaf) {
      cell({rank, slice}, 0).value = leaf;
    });
    clocks_[at(rank)][at(rank)] = 0;
    for (const MemoryStep& step : world.schedule(rank).steps) {
      if (step.kind == MemoryStepKind::publish) snapshots_[at(rank)].emplace_back();
    }
    ready_.push_back(rank);
  }
  for (const MemorySchedule& schedule : world.schedules) {
    for (const MemoryStep& step : schedule.steps) {
      if (step.kind != MemoryStepKind::await) continue;
      if (step.stage < std::ssize(snapshots_[at(step.peer)])) {
        ++snapshot(step.peer, step.stage).awaited;
      }
    }
  }
}

void Run::run() {
  while (!ready_.empty()) {
    const std::int32_t rank = ready_.front();
    ready_.pop_front();
    advance(rank);
  }
  for (std::int32_t rank = 0; rank < world_.size(); ++rank) {
    if (next_[at(rank)] < std::ssize(world_.schedule(rank).steps)) report_deadlock();
  }
  for (std::int32_t rank = 0; rank < world_.size(); ++rank) {
    check_finish(rank);
    outcome_.check_result(rank, [&](Slice slice) { return cell({rank, slice}, 0).value; });
  }
}

void Run::advance(std::int32_t rank) {
  const std::vector<MemoryStep>& steps = world_.schedule(rank).steps;
  for (StepId& id = next_[at(rank)]; id < std::ssize(steps); ++id) {
    now_ = {rank, id};
    const MemoryStep& step = steps[at(id)];
    switch (step.kind) {
      case MemoryStepKind::publish:
        publish();
        break;
      case MemoryStepKind::await:
        if (!await(step)) return;
        break;
      case MemoryStepKind::move:
        move(step);
        break;
    }
  }
}

// Every rank enters sooner or later, so stage 0 always comes.
bool Run::await(const MemoryStep& step) {
  Clock& mine = clocks_[at(now_.rank)];
  if (clocks_[at(step.peer)][at(step.peer)] < step.stage) {
    waiting_[at(step.peer)].push_back(now_.rank);
    return false;
  }
  Snapshot& theirs = snapshot(step.peer, step.stage);
  for (std::size_t i = 0; i < theirs.clock.size(); ++i)
    mine[i] = std::max(mine[i], theirs.clock[i]);
  mine[at(step.peer)] = std::max(mine[at(step.peer)], step.stage);
  if (--theirs.awaited == 0) theirs.clock = {};
  return true;
}

void Run::publish() {
  Clock& mine = clocks_[at(now_.rank)];
  const std::int32_t stage = ++mine[at(now_.rank)];
  Snapshot& now = snapshot(now_.rank, stage);
  if (now.awaited > 0) now.clock = mine;
  std::vector<std::int32_t>& waiting = waiting_[at(now_.rank)];
  ready_.insert(ready_.end(), waiting.begin(), waiting.end());
  waiting.clear();
}

void Run::move(const MemoryStep& step) {
  for (std::int32_t i = 0; i < step.targets.front().slice.count; ++i) move_chunk(step, i);
}

void Run::move_chunk(const MemoryStep& step, std::int32_t i) {
  // A copy of memory onto itself touches nothing.
  const auto itself = [&](const Location& target) {
    return step.sources.size() == 1 && target.rank == step.sources.front().rank &&
           world_.cell(target, i) == world_.cell(step.sources.front(), i);
  };
  if (std::all_of(step.targets.begin(), step.targets.end(), itself)) return;
  operands_.clear();
  for (const Location& source : step.sources) {
    touch(source, i, false);
    operands_.push_back(cell(source, i).value);
    if (operands_.back() == kUnwritten) report_unwritten(source, i);
  }
  const NodeId value = outcome_.expressions().combine(operands_);
  if (step.sources.size() > 1) check_completes(step, i, value);
  for (const Location& target : step.targets) {
    if (itself(target)) continue;
    touch(target, i, true);
    cell(target, i).value = value;
  }
}

void Run::check_completes(const MemoryStep& step, std::int32_t i, NodeId value) const {
  if (!is_reducing(world_.problem().collective)) return;
  const Location& target = step.targets.front();
  const MemorySchedule& schedule = world_.schedule(target.rank);
  const std::int64_t chunk = chunk_class(schedule.problem, schedule.chunks_per_block,
                                         (*schedule.scratch)[at(target.rank)], target.slice, i);
  const bool complete = outcome_.is_complete(value, static_cast<std::int32_t>(chunk));
  if (complete == step.completes) return;
  throw Refuted{fmt::format("{}: {}, yet its value is {}{}", world_.text(now_),
                            step.completes ? "completes a value" : "is said not to complete",
                            outcome_.describe(value), world_.around(now_))};
}

// Nobody has, in this run; somebody may, in another that is as good.
void Run::report_unwritten(const Location& where, std::int32_t i) const {
  for (std::int32_t rank = 0; rank < world_.size(); ++rank) {
    for (StepId id = next_[at(rank)]; id < std::ssize(world_.schedule(rank).steps); ++id) {
      for (const Location& target : world_.step({rank, id}).targets) {
        const std::int32_t first = world_.cell(target, 0);
        const std::int32_t cell = world_.cell(where, i);
        if (target.rank != where.rank || cell < first || cell >= first + target.slice.count) {
          continue;
        }
        if (rank != now_.rank) order({{rank, id}, publishes_until({rank, id}) + 1}, where, i);
      }
    }
  }
  throw Refuted{
      fmt::format("reads what nothing has written: {}{}", world_.text(now_), world_.around(now_))};
}

std::int32_t Run::publishes_until(StepRef ref) const {
  const std::vector<MemoryStep>& steps = world_.schedule(ref.rank).steps;
  return static_cast<std::int32_t>(
      std::count_if(steps.begin(), steps.begin() + ref.id,
                    [](const MemoryStep& step) { return step.kind == MemoryStepKind::publish; }));
}

// The current step's access to one cell.
void Run::touch(const Location& where, std::int32_t i, bool writes) {
  const std::int32_t me = now_.rank;
  const Access access{now_, clocks_[at(me)][at(me)] + 1};
  if (where.rank != me && where.slice.buffer != Buffer::scratch) {
    if (clocks_[at(me)][at(where.rank)] < 0) {
      throw Refuted{fmt::format(
          "rank {} touches rank {}'s {} and has not awaited that it has entered:{}", me, where.rank,
          print({where.slice.buffer, where.slice.chunk + i, 1}), world_.around(now_))};
    }
    touched_[at(where.rank)][me] = access;
  }
  Cell& cell = this->cell(where, i);
  if (cell.writer.epoch > 0) order(cell.writer, where, i);
  if (!writes) {
    readers_.push_back({access, cell.readers});
    cell.readers = static_cast<std::int32_t>(readers_.size()) - 1;
    return;
  }
  for (std::int32_t r = cell.readers; r != kNobody; r = readers_[at(r)].next) {
    order(readers_[at(r)].access, where, i);
  }
  cell.writer = access;
  cell.readers = kNobody;
}

void Run::order(const Access& before, const Location& where, std::int32_t i) const {
  if (knows(now_.rank, before)) return;
  throw Refuted{fmt::format(
      "ranks {} and {} touch rank {}'s {} and nothing orders them: rank {} would have to await "
      "stage {} of rank {}{}{}",
      before.step.rank, now_.rank, where.rank,
      print({where.slice.buffer, where.slice.chunk + i, 1}), now_.rank, before.epoch,
      before.step.rank, world_.around(before.step), world_.around(now_))};
}

void Run::check_finish(std::int32_t rank) const {
  for (const auto& [other, access] : touched_[at(rank)]) {
    if (knows(rank, access)) continue;
    throw Refuted{fmt::format(
        "rank {} may finish, and have its buffers freed or changed, while rank {} still uses them: "
        "it would have to await stage {} of rank {}{}{}",
        rank, other, access.epoch, other, world_.around(access.step),
        world_.around({rank, static_cast<StepId>(world_.schedule(rank).steps.size()) - 1}))};
  }
}

void Run::report_deadlock() const {
  std::int32_t rank = 0;
  const auto stuck = [&](std::int32_t r) {
    return next_[at(r)] < std::ssize(world_.schedule(r).steps);
  };
  while (!stuck(rank)) ++rank;
  // Walk from rank to the rank it waits for, to the one that is through or to one seen before.
  std::vector<bool> visited(next_.size());
  while (stuck(rank) && !visited[at(rank)]) {
    visited[at(rank)] = true;
    rank = world_.step({rank, next_[at(rank)]}).peer;
  }
  std::string text = "deadlock:";
  if (!stuck(rank)) {
    for (std::int32_t r = 0; r < world_.size(); ++r) {
      if (!stuck(r) || world_.step({r, next_[at(r)]}).peer != rank) continue;
      throw Refuted{fmt::format("{}\n  {}, yet rank {} is through and published {} stages{}", text,
                                world_.text({r, next_[at(r)]}), rank, clocks_[at(rank)][at(rank)],
                                world_.around({r, next_[at(r)]}))};
    }
  }
  const std::int32_t first = rank;
  int lines = 0;
  do {
    const StepRef ref{rank, next_[at(rank)]};
    const std::int32_t peer = world_.step(ref).peer;
    text += fmt::format("\n  {}, and rank {} has published {} and waits, too", world_.text(ref),
                        peer, clocks_[at(peer)][at(peer)]);
    rank = peer;
  } while (rank != first && ++lines < 16);
  throw Refuted{text};
}

}  // namespace

void run_in_memory(const MemoryWorld& world) { Run(world).run(); }

}  // namespace weft::comm
