// Breaks schedules in every small way, step by step, and expects the proof to object.
//
// A mutant that the verifier lets live must be one of the changes known to change nothing
// (harmless() names them), and must come out right when it is run on numbers in random orders.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "comm/schedule/cells.h"
#include "comm/verify/verify.h"
#include "tests/schedule/concrete.h"
#include "tests/schedule/host_layouts.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {

constexpr int kConcreteRuns = 12;

enum class Change {
  drop,
  duplicate,
  swap_steps,
  swap_data,
  kind,
  peer,
  send_peer,
  lane,
  send_lane,
  from,
  to,
  operands,
  dependency,
  completes,
};

const char* name_of(Change change) {
  constexpr const char* kNames[] = {"drop", "duplicate", "swap_steps", "swap_data", "kind",
                                    "peer", "send_peer", "lane",       "send_lane", "from",
                                    "to",   "operands",  "dependency", "completes"};
  return kNames[static_cast<std::size_t>(change)];
}

struct Mutant {
  Change change;
  int rank;
  StepId step;
  std::vector<Schedule> world;
};

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Makes the mutants of one step of one rank.
class Mutator {
 public:
  using Use = std::function<void(const Mutant&)>;
  Mutator(const std::vector<Schedule>& world, int rank, StepId step, const Use& use)
      : world_(world), rank_(rank), id_(step), use_(use) {}

  void all() {
    drop();
    duplicate();
    swaps();
    for (int kind = 0; kind <= static_cast<int>(StepKind::recv_reduce_send); ++kind) {
      if (kind != static_cast<int>(original().kind)) {
        change(Change::kind, [&](Step& s) { s.kind = static_cast<StepKind>(kind); });
      }
    }
    links();
    change(Change::completes, [](Step& s) { s.completes = !s.completes; });
    for (std::size_t k = 0; k < original().after.size(); ++k) {
      change(Change::dependency, [&](Step& s) {
        s.after.erase(s.after.begin() + std::ssize(s.after) - 1 - static_cast<std::ptrdiff_t>(k));
      });
    }
    slices(original().from, Change::from, [](Step& s) -> Slice& { return s.from; });
    slices(original().to, Change::to, [](Step& s) -> Slice& { return s.to; });
    operands();
  }

 private:
  const Schedule& mine() const { return world_[at(rank_)]; }
  const Step& original() const { return mine().steps[at(id_)]; }

  void emit(Change change, const std::function<void(Schedule&)>& mutate) {
    Mutant mutant{change, rank_, id_, world_};
    mutate(mutant.world[at(rank_)]);
    use_(mutant);
  }
  void change(Change change, const std::function<void(Step&)>& mutate) {
    emit(change, [&](Schedule& s) { mutate(s.steps[at(id_)]); });
  }

  // Without the step; whoever waited for it waits for what it waited for.
  void drop() {
    emit(Change::drop, [&](Schedule& s) {
      const std::vector<StepId> inherited = s.steps[at(id_)].after;
      s.steps.erase(s.steps.begin() + id_);
      for (Step& step : s.steps) {
        std::set<StepId> after;
        for (const StepId before : step.after) {
          if (before == id_) after.insert(inherited.begin(), inherited.end());
          if (before != id_) after.insert(before > id_ ? before - 1 : before);
        }
        step.after.assign(after.begin(), after.end());
      }
    });
  }

  // Once more, right after the first; whoever waited for the first waits for both.
  void duplicate() {
    emit(Change::duplicate, [&](Schedule& s) {
      Step copy = s.steps[at(id_)];
      copy.after.push_back(id_);
      for (Step& step : s.steps) {
        std::vector<StepId> after;
        for (const StepId before : step.after) {
          after.push_back(before > id_ ? before + 1 : before);
          if (before == id_) after.push_back(id_ + 1);
        }
        step.after = after;
      }
      s.steps.insert(s.steps.begin() + id_ + 1, copy);
    });
  }

  void swaps() {
    if (id_ + 1 == std::ssize(mine().steps)) return;
    emit(Change::swap_steps, [&](Schedule& s) {
      for (Step& step : s.steps) {
        for (StepId& before : step.after) {
          if (before == id_ || before == id_ + 1) before = 2 * id_ + 1 - before;
        }
      }
      std::swap(s.steps[at(id_)], s.steps[at(id_ + 1)]);
    });
    // The next step of the same kind: exchange what they move, not where to.
    for (std::size_t other = at(id_) + 1; other < mine().steps.size(); ++other) {
      const Step& later = mine().steps[other];
      if (later.kind != original().kind) continue;
      if (later.from == original().from && later.to == original().to) break;
      emit(Change::swap_data, [&](Schedule& s) {
        std::swap(s.steps[at(id_)].from, s.steps[other].from);
        std::swap(s.steps[at(id_)].to, s.steps[other].to);
      });
      break;
    }
  }

  void links() {
    for (int peer = 0; peer < std::ssize(world_); ++peer) {
      if (original().peer >= 0 && peer != original().peer) {
        change(Change::peer, [&](Step& s) { s.peer = peer; });
      }
      if (original().send_peer >= 0 && peer != original().send_peer) {
        change(Change::send_peer, [&](Step& s) { s.send_peer = peer; });
      }
    }
    for (int lane = 0; lane <= mine().lanes; ++lane) {
      if (lane != original().lane) change(Change::lane, [&](Step& s) { s.lane = lane; });
      if (lane != original().send_lane) {
        change(Change::send_lane, [&](Step& s) { s.send_lane = lane; });
      }
    }
  }

  void slices(Slice slice, Change kind, const std::function<Slice&(Step&)>& pick) {
    for (const Buffer buffer : {Buffer::input, Buffer::output, Buffer::scratch}) {
      const int chunks = chunk_count(mine(), buffer);
      for (int chunk = 0; chunk < chunks; ++chunk) {
        for (int count = std::max(0, slice.count - 1); count <= slice.count + 1; ++count) {
          const Slice other{buffer, chunk, count};
          if (other == slice) continue;
          change(kind, [&](Step& s) { pick(s) = other; });
        }
      }
    }
  }

  void operands() {
    const int count = static_cast<int>(original().operands.size());
    for (int k = 0; k < count; ++k) {
      change(Change::operands, [&](Step& s) { s.operands.erase(s.operands.begin() + k); });
      change(Change::operands, [&](Step& s) { s.operands.push_back(s.operands[at(k)]); });
      if (k > 0) {
        change(Change::operands, [&](Step& s) { std::swap(s.operands[at(k)], s.operands[0]); });
      }
      slices(original().operands[at(k)], Change::operands,
             [&](Step& s) -> Slice& { return s.operands[at(k)]; });
    }
  }

  const std::vector<Schedule>& world_;
  int rank_;
  StepId id_;
  const Use& use_;
};

bool reaches(const Schedule& schedule, StepId before, StepId id) {
  for (const StepId earlier : schedule.steps[at(id)].after) {
    if (earlier == before || (earlier > before && reaches(schedule, before, earlier))) return true;
  }
  return false;
}

// Whether whoever touches what the step stores next writes over it.
bool overwritten_unread(const Schedule& schedule, StepId id) {
  const CellMap map(schedule, true);
  const Slice stored = schedule.steps[at(id)].to;
  for (int i = 0; i < stored.count; ++i) {
    bool decided = false;
    for (StepId later = id + 1; !decided && later < std::ssize(schedule.steps); ++later) {
      bool read = false;
      for_each_access(map, schedule.steps[at(later)], [&](std::int32_t cell, bool writes) {
        if (cell != map.first(stored) + i) return;
        read = read || !writes;
        decided = true;
      });
      if (read) return false;
    }
    if (!decided && stored.buffer == Buffer::output) return false;
  }
  return true;
}

// Names why the change can make no difference; nullptr if it might.
const char* harmless(const Mutant& mutant, const std::vector<Schedule>& world) {
  const Schedule& before = world[at(mutant.rank)];
  const Schedule& after = mutant.world[at(mutant.rank)];
  const Step& step = before.steps[at(mutant.step)];
  const Collective collective = before.problem.collective;
  // Elsewhere a sum is made on one rank and copied, and the order of adding is that rank's own.
  const bool shared_order = collective == Collective::all_reduce && before.algorithm == "direct" &&
                            before.problem.world_size > 2;
  switch (mutant.change) {
    case Change::dependency:
      for (const StepId on : step.after) {
        if (!reaches(after, on, mutant.step)) return nullptr;
      }
      return "other dependencies imply it";
    case Change::swap_steps: {
      const Step& next = before.steps[at(mutant.step + 1)];
      const bool depends = std::ranges::count(next.after, mutant.step) > 0;
      const bool same_way_out = sends(step.kind) && sends(next.kind) &&
                                target_of(step) == target_of(next) &&
                                target_lane_of(step) == target_lane_of(next);
      const bool same_way_in = receives(step.kind) && receives(next.kind) &&
                               step.peer == next.peer && step.lane == next.lane;
      if (!depends && !same_way_out && !same_way_in) return "independent steps on different links";
      return nullptr;
    }
    case Change::duplicate:
      if (!sends(step.kind) && !receives(step.kind) &&
          std::ranges::count(step.operands, step.to) == 0) {
        return "a local step done twice";
      }
      return nullptr;
    case Change::operands:
      if (std::is_permutation(step.operands.begin(), step.operands.end(),
                              after.steps[at(mutant.step)].operands.begin(),
                              after.steps[at(mutant.step)].operands.end()) &&
          !shared_order) {
        return "an order of summation that no other rank has to share";
      }
      return collective == Collective::barrier ? "a barrier may hear of a rank twice" : nullptr;
    case Change::swap_data:
      // Scratch that holds other ranks' shares for one reduction: which share where is the order.
      if (step.kind == StepKind::recv && step.to.buffer == Buffer::scratch && !shared_order) {
        return "an order of summation that no other rank has to share";
      }
      if (step.kind == StepKind::copy) return "the same copies, the later one first";
      return nullptr;
    case Change::from:
      if (!is_reducing(collective) && collective != Collective::barrier &&
          CellMap(before, true).first(step.from) ==
              CellMap(before, true).first(after.steps[at(mutant.step)].from)) {
        return "a rank's own block, of which input and output both hold a copy";
      }
      return collective == Collective::barrier ? "a rank is heard of by another way, too" : nullptr;
    case Change::to:
      if (step.to.count == 0 && overwritten_unread(after, mutant.step)) {
        return "a store that is overwritten before anybody reads it";
      }
      return nullptr;
    default:
      return nullptr;
  }
}

struct Tally {
  int killed = 0;
  int lived = 0;
  int unexplained = 0;
};

bool proved(const std::vector<Schedule>& world) {
  return verify(world, {0, false}).ok && verify(world, {0, true}).ok;
}

std::string run_on_numbers(const std::vector<Schedule>& world) {
  for (int run = 0; run < kConcreteRuns; ++run) {
    const std::string wrong =
        run_concretely(world, {run % 3, run % 2 == 1, static_cast<std::uint64_t>(run) + 1});
    if (!wrong.empty()) return wrong;
  }
  return {};
}

Tally mutate_all(const std::vector<Schedule>& world) {
  Tally tally;
  const Mutator::Use judge = [&](const Mutant& mutant) {
    if (!proved(mutant.world)) {
      ++tally.killed;
      return;
    }
    ++tally.lived;
    EXPECT_EQ(run_on_numbers(mutant.world), "")
        << name_of(mutant.change) << " at rank " << mutant.rank << " step " << mutant.step << "\n"
        << print(world[at(mutant.rank)]) << print(mutant.world[at(mutant.rank)]);
    if (harmless(mutant, world) != nullptr) return;
    ++tally.unexplained;
    ADD_FAILURE() << "lives: " << name_of(mutant.change) << " at rank " << mutant.rank << " step "
                  << mutant.step << "\nof\n"
                  << print(world[at(mutant.rank)]) << "as\n"
                  << print(mutant.world[at(mutant.rank)]);
  };
  for (int rank = 0; rank < std::ssize(world); ++rank) {
    for (StepId id = 0; id < std::ssize(world[at(rank)].steps); ++id) {
      Mutator(world, rank, id, judge).all();
    }
  }
  return tally;
}

class Mutation : public testing::TestWithParam<std::string_view> {};

// What each algorithm is tried on: hierarchical wants hosts, the others do not look at them.
std::vector<HostedWorld> layouts_for(std::string_view algorithm) {
  if (algorithm != "hierarchical")
    return {{"", nullptr, 2}, {"", nullptr, 3}, {"", nullptr, 4}, {"", nullptr, 5}};
  return {layout_of("", {2, 1}, {2, 0, 1}), even_layout(2, 2),
          layout_of("", {3, 2}, {0, 3, 1, 4, 2})};
}

TEST_P(Mutation, TheProofObjects) {
  const Algorithm& algorithm = *find_algorithm(GetParam());
  Tally all;
  for (const Collective collective : scheduled_collectives()) {
    for (const HostedWorld& layout : layouts_for(GetParam())) {
      const int n = layout.world;
      if (!algorithm.supports(problem_on(layout, collective, 0))) continue;
      for (const Variant& variant :
           {Variant{1, false, 1}, Variant{1, true, 1}, Variant{2, true, 2}}) {
        if (n > 3 && variant.tiles > 1) continue;
        const auto world =
            emit_world(algorithm, collective, layout, is_rooted(collective) ? n - 1 : 0, variant);
        const Tally tally = mutate_all(world);
        all.killed += tally.killed;
        all.lived += tally.lived;
        all.unexplained += tally.unexplained;
        ASSERT_EQ(tally.unexplained, 0)
            << weft::comm::name_of(collective) << " of " << n << ", " << text_of(variant);
      }
    }
  }
  RecordProperty("killed", all.killed);
  RecordProperty("harmless", all.lived);
  fmt::print("{}: {} mutants, {} refuted, {} harmless\n", GetParam(), all.killed + all.lived,
             all.killed, all.lived);
  EXPECT_GT(all.killed, 10 * all.lived);
}

std::vector<std::string_view> names() {
  std::vector<std::string_view> all;
  for (const Algorithm& algorithm : algorithms()) all.push_back(algorithm.name);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Algorithms, Mutation, testing::ValuesIn(names()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weft::comm
