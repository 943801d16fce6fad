#include <algorithm>
#include <deque>
#include <map>
#include <string_view>
#include <utility>

#include "comm/passes/lowering.h"
#include "kernels/base/error.h"

namespace weft::comm::lowering {

namespace {

// lower() is for schedules that the verifier has proved; what it trips over in others is named.
[[noreturn]] void refuse_step(std::span<const Schedule> world, std::int32_t rank, StepId id,
                              std::string_view what) {
  const Schedule& schedule = world[static_cast<std::size_t>(rank)];
  fail<InvalidArgument>(
      "cannot lower {} by {}: rank {} step {} {}; only schedules that verify() proves, of one lane "
      "and not fused, can be lowered",
      name_of(schedule.problem.collective), schedule.algorithm, rank,
      print(schedule.steps[static_cast<std::size_t>(id)], id), what);
}

// A step of the message schedules and when it would run.
struct Turn {
  std::int32_t level;
  std::int32_t rank;
  StepId step;
};

// Runs every rank's steps in the order of their ids, sends being taken at once, one level a step.
class Levels {
 public:
  explicit Levels(std::span<const Schedule> world)
      : world_(world),
        next_(world.size(), 0),
        clock_(world.size(), 0),
        waits_(world.size(), kNone) {}

  std::vector<Turn> run() {
    for (std::size_t rank = 0; rank < world_.size(); ++rank) ready_.push_back(rank);
    while (!ready_.empty()) {
      const std::size_t rank = ready_.front();
      ready_.pop_front();
      advance(rank);
    }
    for (std::size_t rank = 0; rank < world_.size(); ++rank) {
      if (next_[rank] == world_[rank].steps.size()) continue;
      const auto stuck = static_cast<StepId>(next_[rank]);
      refuse_step(world_, static_cast<std::int32_t>(rank), stuck,
                  "waits for a message that nobody sends");
    }
    std::stable_sort(turns_.begin(), turns_.end(), [](const Turn& a, const Turn& b) {
      return std::pair(a.level, a.rank) < std::pair(b.level, b.rank);
    });
    return std::move(turns_);
  }

 private:
  void advance(std::size_t rank) {
    const auto me = static_cast<std::int32_t>(rank);
    const std::vector<Step>& steps = world_[rank].steps;
    for (std::size_t& id = next_[rank]; id < steps.size(); ++id) {
      const Step& step = steps[id];
      const auto n = static_cast<std::int32_t>(world_.size());
      if (is_fused(step.kind) || step.lane != 0) {
        refuse_step(world_, me, static_cast<StepId>(id), "is fused or of another lane");
      }
      if ((receives(step.kind) || step.kind == StepKind::send) &&
          (step.peer < 0 || step.peer >= n || step.peer == me)) {
        refuse_step(world_, me, static_cast<StepId>(id), "has no such peer");
      }
      std::int32_t level = clock_[rank] + 1;
      if (receives(step.kind)) {
        std::deque<std::int32_t>& sent = links_[{step.peer, me}];
        if (sent.empty()) {
          waits_[rank] = step.peer;
          return;
        }
        level = std::max(level, sent.front() + 1);
        sent.pop_front();
      }
      clock_[rank] = level;
      turns_.push_back({level, me, static_cast<StepId>(id)});
      if (step.kind != StepKind::send) continue;
      links_[{me, step.peer}].push_back(level);
      const auto peer = static_cast<std::size_t>(step.peer);
      if (waits_[peer] != me) continue;
      waits_[peer] = kNone;
      ready_.push_back(peer);
    }
  }

  std::span<const Schedule> world_;
  std::vector<std::size_t> next_;
  std::vector<std::int32_t> clock_;
  std::vector<std::int32_t> waits_;
  std::deque<std::size_t> ready_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::deque<std::int32_t>> links_;
  std::vector<Turn> turns_;
};

// Runs the steps in their turns, keeping which version every chunk holds.
class Reader {
 public:
  explicit Reader(Program& program) : program_(program) {
    for (const Schedule& schedule : program.world) {
      cells_.emplace_back(schedule, true);
      state_.emplace_back(static_cast<std::size_t>(cells_.back().size()), kNone);
      generation_.emplace_back(schedule.scratch.size(), 0);
    }
  }

  void run() {
    for (const Turn& turn : Levels(program_.world).run()) {
      turn_ = turn;
      const Step& step = program_.world[at(turn.rank)].steps[at(turn.step)];
      switch (step.kind) {
        case StepKind::send:
          send(step);
          break;
        case StepKind::recv:
        case StepKind::recv_reduce:
          receive(step);
          break;
        default:
          local(step);
      }
    }
    mark_results();
  }

 private:
  static std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }

  VersionId& state(std::int32_t rank, Buffer buffer, std::int32_t chunk) {
    return state_[at(rank)][at(cells_[at(rank)].cell(buffer, chunk))];
  }

  VersionId new_version(const Place& home) {
    program_.versions.emplace_back().home = home;
    return static_cast<VersionId>(program_.versions.size()) - 1;
  }

  Read read(Slice slice, std::int32_t i) {
    const std::int32_t chunk = slice.chunk + i;
    VersionId& held = state(turn_.rank, slice.buffer, chunk);
    Place place{turn_.rank, slice.buffer, chunk};
    if (held == kNone) {
      if (slice.buffer == Buffer::scratch) {
        refuse_step(program_.world, turn_.rank, turn_.step, "reads what nothing has written");
      }
      held = new_version(place);
    }
    if (slice.buffer == Buffer::scratch) place = program_.version(held).home;
    return {held, place};
  }

  void store(Slice slice, std::int32_t i, Op op) {
    const std::int32_t chunk = slice.chunk + i;
    op.rank = turn_.rank;
    op.level = turn_.level;
    op.step = turn_.step;
    op.to = {turn_.rank, slice.buffer, chunk};
    const auto id = static_cast<OpId>(program_.ops.size());
    VersionId& held = state(turn_.rank, slice.buffer, chunk);
    if (slice.buffer == Buffer::scratch) {
      std::int32_t& generation = generation_[at(turn_.rank)][at(chunk)];
      op.to.chunk = scratch_name(ScratchSpace::own, generation++, chunk);
    } else if (held != kNone) {
      Version& old = program_.version(held);
      old.overwriter = id;
      old.overwritten_level = turn_.level;
    }
    held = new_version(op.to);
    program_.version(held).writer = id;
    op.writes = held;
    program_.ops.push_back(std::move(op));
  }

  void send(const Step& step) {
    std::vector<Read>& message = links_[{turn_.rank, step.peer}].emplace_back();
    for (std::int32_t i = 0; i < step.from.count; ++i) {
      const Read& sent = message.emplace_back(read(step.from, i));
      Version& version = program_.version(sent.version);
      if (version.writer != kNone || version.send_level != kNone) continue;
      version.send_level = turn_.level;
      version.send_step = turn_.step;
      version.sent_from = sent.place;
    }
  }

  void receive(const Step& step) {
    auto& link = links_[{step.peer, turn_.rank}];
    const std::vector<Read> message = std::move(link.front());
    link.pop_front();
    if (std::ssize(message) != step.to.count) {
      refuse_step(program_.world, turn_.rank, turn_.step, "expects a longer or shorter message");
    }
    for (std::int32_t i = 0; i < step.to.count; ++i) {
      Op op;
      op.operands.push_back(message[at(i)]);
      op.folds = step.kind == StepKind::recv_reduce;
      op.completes = step.completes;
      if (op.folds) op.operands.push_back(read(step.from, i));
      store(step.to, i, std::move(op));
    }
  }

  void local(const Step& step) {
    const CellMap& cells = cells_[at(turn_.rank)];
    const bool itself =
        step.kind == StepKind::copy && cells.first(step.from) == cells.first(step.to);
    for (std::int32_t i = 0; i < step.to.count; ++i) {
      Op op;
      op.folds = step.kind == StepKind::reduce;
      op.completes = step.completes;
      if (step.kind == StepKind::copy) op.operands.push_back(read(step.from, i));
      for (const Slice& operand : step.operands) op.operands.push_back(read(operand, i));
      if (step.kind == StepKind::copy && step.to.buffer != Buffer::scratch) {
        program_.version(op.operands.front().version).local_copy =
            static_cast<OpId>(program_.ops.size());
      }
      if (itself) {
        op.itself = true;
        op.rank = turn_.rank;
        op.level = turn_.level;
        op.step = turn_.step;
        op.to = {turn_.rank, step.to.buffer, step.to.chunk + i};
        program_.ops.push_back(std::move(op));
      } else {
        store(step.to, i, std::move(op));
      }
    }
  }

  void mark_results() {
    for (const Schedule& schedule : program_.world) {
      const std::int32_t rank = schedule.problem.rank;
      for (std::int32_t c = 0; c < chunk_count(schedule, Buffer::output); ++c) {
        const VersionId held = state(rank, Buffer::output, c);
        if (held == kNone) continue;
        Version& version = program_.version(held);
        version.result = version.home.buffer == Buffer::output;
      }
    }
  }

  Program& program_;
  Turn turn_{};
  std::vector<CellMap> cells_;
  std::vector<std::vector<VersionId>> state_;          // by rank and cell
  std::vector<std::vector<std::int32_t>> generation_;  // by rank and scratch chunk
  std::map<std::pair<std::int32_t, std::int32_t>, std::deque<std::vector<Read>>> links_;
};

}  // namespace

std::int64_t scratch_name(ScratchSpace space, std::int32_t generation, std::int32_t chunk) {
  return ((std::int64_t{generation} * 4 + static_cast<std::int64_t>(space)) << 32) + chunk;
}

Program::Program(std::span<const Schedule> schedules, Reach reach_asked)
    : world(schedules),
      reach(schedules.front().problem.collective == Collective::barrier ? Reach::scratch
                                                                        : reach_asked),
      asked(reach_asked) {}

void read_messages(Program& program) { Reader(program).run(); }

}  // namespace weft::comm::lowering
