// Breaks memory schedules in every small way, step by step, and expects the proof to object.
//
// A mutant that the verifier lets live must be one of the changes that harmless() explains, and
// must come out right when it is run on numbers in random orders.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "comm/passes/lower.h"
#include "comm/verify/verify.h"
#include "tests/schedule/host_layouts.h"
#include "tests/schedule/memory_concrete.h"

namespace weft::comm {
namespace {

constexpr int kConcreteRuns = 12;

enum class Change {
  drop_await,
  drop_publish,
  drop_move,
  duplicate_move,
  earlier_stage,
  later_stage,
  other_peer,
  swap_steps,
  swap_sources,
  drop_source,
  repeat_source,
  drop_target,
  other_source,
  other_target,
  completes,
};

const char* name_of(Change change) {
  constexpr const char* kNames[] = {
      "drop_await",    "drop_publish", "drop_move",    "duplicate_move", "earlier_stage",
      "later_stage",   "other_peer",   "swap_steps",   "swap_sources",   "drop_source",
      "repeat_source", "drop_target",  "other_source", "other_target",   "completes"};
  return kNames[static_cast<std::size_t>(change)];
}

using World = std::vector<MemorySchedule>;

struct Mutant {
  Change change;
  int rank;
  StepId step;
  World world;
};

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Makes the mutants of one step of one rank.
class Mutator {
 public:
  using Use = std::function<void(const Mutant&)>;
  Mutator(const World& world, int rank, StepId step, const Use& use)
      : world_(world), rank_(rank), id_(step), use_(use) {}

  void all() {
    swap();
    switch (original().kind) {
      case MemoryStepKind::publish:
        return drop(Change::drop_publish);
      case MemoryStepKind::await:
        return awaits();
      case MemoryStepKind::move:
        return moves();
    }
  }

 private:
  const MemorySchedule& mine() const { return world_[at(rank_)]; }
  const MemoryStep& original() const { return mine().steps[at(id_)]; }

  void emit(Change change, const std::function<void(MemorySchedule&)>& mutate) {
    Mutant mutant{change, rank_, id_, world_};
    MemorySchedule& schedule = mutant.world[at(rank_)];
    mutate(schedule);
    // A counter has no gaps, whatever happened to its publishes.
    std::int32_t stage = 0;
    for (MemoryStep& step : schedule.steps) {
      if (step.kind == MemoryStepKind::publish) step.stage = ++stage;
    }
    use_(mutant);
  }
  void change(Change change, const std::function<void(MemoryStep&)>& mutate) {
    emit(change, [&](MemorySchedule& s) { mutate(s.steps[at(id_)]); });
  }
  void drop(Change change) {
    emit(change, [&](MemorySchedule& s) { s.steps.erase(s.steps.begin() + id_); });
  }

  // Among them a publish before the move that it is for, and a move before its await.
  void swap() {
    if (id_ + 1 == std::ssize(mine().steps)) return;
    emit(Change::swap_steps,
         [&](MemorySchedule& s) { std::swap(s.steps[at(id_)], s.steps[at(id_ + 1)]); });
  }

  void awaits() {
    drop(Change::drop_await);
    if (original().stage > 0) change(Change::earlier_stage, [](MemoryStep& s) { --s.stage; });
    change(Change::later_stage, [](MemoryStep& s) { ++s.stage; });
    for (int peer = 0; peer < std::ssize(world_); ++peer) {
      if (peer != original().peer)
        change(Change::other_peer, [&](MemoryStep& s) { s.peer = peer; });
    }
  }

  void moves() {
    drop(Change::drop_move);
    emit(Change::duplicate_move, [&](MemorySchedule& s) {
      const MemoryStep copy = s.steps[at(id_)];
      s.steps.insert(s.steps.begin() + id_, copy);
    });
    change(Change::completes, [](MemoryStep& s) { s.completes = !s.completes; });
    const int sources = static_cast<int>(original().sources.size());
    for (int k = 0; k < sources; ++k) {
      change(Change::drop_source, [&](MemoryStep& s) { s.sources.erase(s.sources.begin() + k); });
      change(Change::repeat_source, [&](MemoryStep& s) { s.sources.push_back(s.sources[at(k)]); });
      if (k > 0) {
        change(Change::swap_sources,
               [&](MemoryStep& s) { std::swap(s.sources[at(k)], s.sources[at(k - 1)]); });
      }
      locations(original().sources[at(k)], Change::other_source,
                [&](MemoryStep& s) -> Location& { return s.sources[at(k)]; });
    }
    for (int k = 0; k < std::ssize(original().targets); ++k) {
      change(Change::drop_target, [&](MemoryStep& s) { s.targets.erase(s.targets.begin() + k); });
      locations(original().targets[at(k)], Change::other_target,
                [&](MemoryStep& s) -> Location& { return s.targets[at(k)]; });
    }
  }

  void locations(const Location& here, Change kind,
                 const std::function<Location&(MemoryStep&)>& pick) {
    for (int rank = 0; rank < std::ssize(world_); ++rank) {
      for (const Buffer buffer : {Buffer::input, Buffer::output, Buffer::scratch}) {
        const int chunks = buffer == Buffer::scratch
                               ? static_cast<int>((*mine().scratch)[at(rank)].size())
                               : block_count(mine().problem, buffer) * mine().chunks_per_block;
        for (int chunk = 0; chunk < chunks; ++chunk) {
          const Location other{rank, {buffer, chunk, here.slice.count}};
          if (other != here) change(kind, [&](MemoryStep& s) { pick(s) = other; });
        }
      }
    }
  }

  const World& world_;
  int rank_;
  StepId id_;
  const Use& use_;
};

// Whether what a rank's move writes lies with that rank, and no other ever reads it there.
bool is_private(const World& world, int rank, const MemoryStep& move) {
  const auto overlaps = [](const Location& a, const Location& b) {
    return a.rank == b.rank && a.slice.buffer == b.slice.buffer &&
           a.slice.chunk < b.slice.chunk + b.slice.count &&
           b.slice.chunk < a.slice.chunk + a.slice.count;
  };
  for (const Location& target : move.targets) {
    if (target.rank != rank) return false;
    for (int other = 0; other < std::ssize(world); ++other) {
      if (other == rank) continue;
      for (const MemoryStep& step : world[at(other)].steps) {
        for (const Location& source : step.sources) {
          if (overlaps(source, target)) return false;
        }
      }
    }
  }
  return true;
}

// Names why the change can make no difference; nullptr if it might.
const char* harmless(const Mutant& mutant, const World& world) {
  const MemorySchedule& before = world[at(mutant.rank)];
  const MemoryStep& step = before.steps[at(mutant.step)];
  const Collective collective = before.problem.collective;
  const bool barrier = collective == Collective::barrier;
  switch (mutant.change) {
    case Change::swap_steps: {
      const MemoryStep& next = before.steps[at(mutant.step + 1)];
      if (step.kind == next.kind) return "waits, or moves of different chunks, in another order";
      if (step.kind == MemoryStepKind::publish) return "published later, and still in time";
      if (step.kind == MemoryStepKind::await) return "waits later, and still in time";
      if (next.kind == MemoryStepKind::await) return "waits earlier, for what does not need it";
      if (is_private(world, mutant.rank, step)) return "published before what nobody waits for";
      return nullptr;  // a publish before what it is for
    }
    case Change::later_stage:
      return "waits longer than it must, yet not for itself";
    case Change::other_peer:
      return "waits for one who has waited for the other";
    case Change::duplicate_move:
      return "does it twice before anybody looks";
    case Change::swap_sources:
      // Elsewhere a sum is made on one rank and copied, and the order of adding is that rank's own.
      return step.sources.size() == 2 || collective != Collective::all_reduce ||
                     before.algorithm != "direct"
                 ? "an order of summation that no other rank has to share"
                 : nullptr;
    case Change::other_source:
      return barrier ? "a rank is heard of by another way, too" : "the same value from elsewhere";
    case Change::repeat_source:
    case Change::drop_source:
      return barrier ? "a barrier may hear of a rank twice" : nullptr;
    default:
      return nullptr;
  }
}

struct Tally {
  int killed = 0;
  int lived = 0;
};

bool proved(const World& world) { return verify(world, false).ok && verify(world, true).ok; }

std::string run_on_numbers(const World& world) {
  for (int run = 0; run < kConcreteRuns; ++run) {
    const std::string wrong =
        run_concretely(world, run % 2 == 1, static_cast<std::uint64_t>(run) + 1);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

void mutate_all(const World& world, Tally& tally) {
  const Mutator::Use judge = [&](const Mutant& mutant) {
    if (!proved(mutant.world)) {
      ++tally.killed;
      return;
    }
    ++tally.lived;
    const auto text = [&] {
      return fmt::format("{} at rank {} step {} of\n{}as\n{}", name_of(mutant.change), mutant.rank,
                         mutant.step, print(world[at(mutant.rank)]),
                         print(mutant.world[at(mutant.rank)]));
    };
    ASSERT_EQ(run_on_numbers(mutant.world), "") << text();
    ASSERT_NE(harmless(mutant, world), nullptr) << "lives: " << text();
  };
  for (int rank = 0; rank < std::ssize(world); ++rank) {
    for (StepId id = 0; id < std::ssize(world[at(rank)].steps); ++id) {
      Mutator(world, rank, id, judge).all();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

// What each algorithm is tried on: hierarchical wants hosts, the others do not look at them.
std::vector<HostedWorld> layouts_for(std::string_view algorithm) {
  if (algorithm == "hierarchical") {
    return {layout_of("", {2, 1}, {2, 0, 1}), even_layout(2, 2)};
  }
  return {{"", nullptr, 2}, {"", nullptr, 3}, {"", nullptr, 4}, {"", nullptr, 5}};
}

class MemoryMutation : public testing::TestWithParam<std::string_view> {};

TEST_P(MemoryMutation, TheProofObjects) {
  const Algorithm& algorithm = *find_algorithm(GetParam());
  Tally all;
  for (const Collective collective : scheduled_collectives()) {
    for (const HostedWorld& layout : layouts_for(GetParam())) {
      const int n = layout.world;
      if (!algorithm.supports(problem_on(layout, collective, 0))) continue;
      for (const Reach reach : {Reach::scratch, Reach::everything}) {
        const int root = is_rooted(collective) ? n - 1 : 0;
        mutate_all(lower(emit_world(algorithm, collective, layout, root), reach), all);
        ASSERT_FALSE(HasFatalFailure())
            << weft::comm::name_of(collective) << " of " << n << " through " << name_of(reach);
      }
    }
  }
  RecordProperty("killed", all.killed);
  RecordProperty("harmless", all.lived);
  fmt::print("{}: {} mutants, {} refuted, {} harmless\n", GetParam(), all.killed + all.lived,
             all.killed, all.lived);
  EXPECT_GT(all.killed, 12 * all.lived);
}

std::vector<std::string_view> names() {
  std::vector<std::string_view> all;
  for (const Algorithm& algorithm : algorithms()) all.push_back(algorithm.name);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Algorithms, MemoryMutation, testing::ValuesIn(names()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weft::comm
