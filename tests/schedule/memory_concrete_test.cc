#include "tests/schedule/memory_concrete.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>
#include <random>

#include "comm/schedule/cells.h"

namespace weft::comm {
namespace {

// `sum` shows a contribution lost or counted twice, `bits` the order of summation, `heard` who is
// in it. avg's division is a multiplication by three here.
struct Value {
  std::uint64_t sum = 0;
  double bits = 0;
  std::uint64_t heard = 0;
};

constexpr std::uint64_t kDivision = 3;

Value operator+(const Value& a, const Value& b) {
  return {a.sum + b.sum, a.bits + b.bits, a.heard | b.heard};
}

class MemoryRun {
 public:
  MemoryRun(std::span<const MemorySchedule> schedules, bool in_place, std::uint64_t seed)
      : schedules_(schedules), seed_(seed), random_(seed) {
    for (const MemorySchedule& schedule : schedules) {
      const auto r = static_cast<std::size_t>(schedule.problem.rank);
      const auto scratch = static_cast<std::int32_t>((*schedule.scratch)[r].size());
      ranks_.push_back({CellMap(schedule.problem, schedule.chunks_per_block, scratch, in_place)});
      Rank& rank = ranks_.back();
      rank.cells.resize(static_cast<std::size_t>(rank.map.size()));
      for (Value& value : rank.cells) value = garbage();
      rank.preference = random_();
      callers_.push_back(rank.map.cell(Buffer::scratch, 0));
    }
  }

  std::string run() {
    std::vector<std::size_t> possible;
    while (true) {
      possible.clear();
      for (std::size_t r = 0; r < ranks_.size(); ++r) {
        if (can_go_on(r)) possible.push_back(r);
      }
      if (possible.empty()) break;
      // Now and then anybody, mostly whom this run prefers: some ranks are far slower than others.
      std::size_t chosen = possible[random_() % possible.size()];
      if (random_() % 4 != 0) {
        for (const std::size_t r : possible) {
          if (ranks_[r].preference > ranks_[chosen].preference) chosen = r;
        }
      }
      go_on(chosen);
      if (random_() % 64 == 0) ranks_[chosen].preference = random_();
      if (!wrong_.empty()) return wrong_;
    }
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      if (!ranks_[r].finished) return fmt::format("rank {} is stuck at {}", r, ranks_[r].next);
    }
    return {};
  }

 private:
  struct Rank {
    CellMap map;
    std::vector<Value> cells = {};
    std::uint64_t preference = 0;
    std::int32_t counter = -1;  // not entered
    std::size_t next = 0;
    std::size_t chunk = 0;  // of a move
    std::size_t read = 0;   // sources of that chunk
    Value held = {};
    bool finished = false;
  };

  Value contribution(int rank, int chunk) const {
    std::mt19937_64 random(seed_ * 1000003 + static_cast<std::uint64_t>(rank) * 1009 +
                           static_cast<std::uint64_t>(chunk));
    const std::uint64_t sum = random();
    const double scale = std::ldexp(1.0, static_cast<int>(random() % 40));
    return {sum, scale * (1.0 + static_cast<double>(random() % 1000003) / 1e6),
            std::uint64_t{1} << rank};
  }
  Value garbage() { return {random_(), static_cast<double>(random_() % 1000), 0}; }

  Value& cell(const Location& at, std::size_t i) {
    Rank& rank = ranks_[static_cast<std::size_t>(at.rank)];
    return rank.cells[static_cast<std::size_t>(rank.map.first(at.slice)) + i];
  }

  bool can_go_on(std::size_t r) const {
    const Rank& rank = ranks_[r];
    if (rank.finished) return false;
    if (rank.counter < 0 || rank.next == schedules_[r].steps.size()) return true;
    const MemoryStep& step = schedules_[r].steps[rank.next];
    return step.kind != MemoryStepKind::await ||
           ranks_[static_cast<std::size_t>(step.peer)].counter >= step.stage;
  }

  void go_on(std::size_t r) {
    Rank& rank = ranks_[r];
    if (rank.counter < 0) return enter(r);
    if (rank.next == schedules_[r].steps.size()) return finish(r);
    const MemoryStep& step = schedules_[r].steps[rank.next];
    if (step.kind == MemoryStepKind::move) return move(rank, step);
    if (step.kind == MemoryStepKind::publish) ++rank.counter;
    ++rank.next;
  }

  void enter(std::size_t r) {
    Rank& rank = ranks_[r];
    rank.counter = 0;
    const MemorySchedule& schedule = schedules_[r];
    const Problem& problem = schedule.problem;
    for (std::int32_t i = 0; i < callers_[r]; ++i) {
      rank.cells[static_cast<std::size_t>(i)] = garbage();
    }
    const bool broadcast = problem.collective == Collective::broadcast;
    const Buffer source = broadcast ? Buffer::output : Buffer::input;
    const bool has =
        !(broadcast || problem.collective == Collective::scatter) || problem.rank == problem.root;
    const int chunks = block_count(problem, source) * schedule.chunks_per_block;
    for (int c = 0; has && c < chunks; ++c) {
      cell({problem.rank, {source, c, 1}}, 0) = contribution(problem.rank, c);
    }
  }

  // One source of one chunk at a time, then that chunk's targets.
  void move(Rank& rank, const MemoryStep& step) {
    const bool itself = step.sources.size() == 1;
    if (rank.read < step.sources.size()) {
      const Value value = cell(step.sources[rank.read], rank.chunk);
      rank.held = rank.read == 0 ? value : rank.held + value;
      ++rank.read;
      // A kernel may have written to what it has not read all of, but not over its own operands.
      for (const Location& target : step.targets) {
        Value* const to = &cell(target, rank.chunk);
        bool operand = false;
        for (const Location& source : step.sources) {
          operand = operand || to == &cell(source, rank.chunk);
        }
        if (!operand) *to = garbage();
      }
      return;
    }
    Value result = rank.held;
    if (step.completes) result.sum *= kDivision;
    for (const Location& target : step.targets) {
      Value& to = cell(target, rank.chunk);
      if (itself && &to == &cell(step.sources.front(), rank.chunk)) continue;
      to = result;
    }
    rank.read = 0;
    if (++rank.chunk == static_cast<std::size_t>(step.targets.front().slice.count)) {
      rank.chunk = 0;
      ++rank.next;
    }
  }

  // The caller looks at its output at once, and does with its buffers what it likes.
  void finish(std::size_t r) {
    Rank& rank = ranks_[r];
    rank.finished = true;
    check(r);
    for (std::int32_t i = 0; i < callers_[r]; ++i) {
      rank.cells[static_cast<std::size_t>(i)] = garbage();
    }
  }

  // What `rank` must have in output chunk c, and whether it is a sum (whose bits ranks agree on).
  Value expected(const Problem& problem, int cut, int c, bool& is_sum) const {
    const int own = problem.rank * cut + c % cut;
    is_sum = is_reducing(problem.collective) || problem.collective == Collective::barrier;
    if (is_sum) {
      Value sum;
      const int chunk = problem.collective == Collective::reduce_scatter ? own : c;
      for (int r = 0; r < problem.world_size; ++r) sum = sum + contribution(r, chunk);
      if (is_reducing(problem.collective) && problem.world_size > 1) sum.sum *= kDivision;
      return sum;
    }
    switch (problem.collective) {
      case Collective::broadcast:
        return contribution(problem.root, c);
      case Collective::scatter:
        return contribution(problem.root, own);
      case Collective::all_to_all:
        return contribution(c / cut, own);
      default:
        return contribution(c / cut, c % cut);
    }
  }

  void check(std::size_t r) {
    const Problem& problem = schedules_[r].problem;
    const bool root_only =
        problem.collective == Collective::reduce || problem.collective == Collective::gather;
    if (root_only && problem.rank != problem.root) return;
    const int cut = schedules_[r].chunks_per_block;
    for (int c = 0; c < block_count(problem, Buffer::output) * cut; ++c) {
      const Value found = cell({problem.rank, {Buffer::output, c, 1}}, 0);
      bool is_sum = false;
      const Value wanted = expected(problem, cut, c, is_sum);
      const bool barrier = problem.collective == Collective::barrier;
      const bool all_reduce = problem.collective == Collective::all_reduce;
      const double bits =
          is_sum && !all_reduce ? found.bits : agreed_.emplace(c, found.bits).first->second;
      if (found.heard != wanted.heard) {
        wrong_ = fmt::format("rank {} out[{}]: others' data", r, c);
      } else if (!barrier && found.sum != wanted.sum) {
        wrong_ = fmt::format("rank {} out[{}]: wrong sum", r, c);
      } else if (!is_sum && found.bits != wanted.bits) {
        wrong_ = fmt::format("rank {} out[{}]: wrong copy", r, c);
      } else if (all_reduce &&
                 std::bit_cast<std::uint64_t>(bits) != std::bit_cast<std::uint64_t>(found.bits)) {
        wrong_ = fmt::format("rank {} out[{}]: other bits than elsewhere", r, c);
      }
    }
  }

  std::span<const MemorySchedule> schedules_;
  std::uint64_t seed_;
  std::mt19937_64 random_;
  std::vector<Rank> ranks_;
  std::vector<std::int32_t> callers_;  // by rank: how many cells are the caller's
  std::map<int, double> agreed_;
  std::string wrong_;
};

TEST(MemoryConcrete, AgreesThatLoweredSchedulesAreRight) {
  std::uint64_t seed = 1;
  for (const Algorithm& algorithm : algorithms()) {
    for (const Collective collective : scheduled_collectives()) {
      for (int n = 1; n <= 7; ++n) {
        if (!algorithm.supports({collective, 0, n, 0})) continue;
        for (const Reach reach : {Reach::scratch, Reach::everything}) {
          for (const int tiles : {1, 2}) {
            const auto world =
                lowered_world(algorithm.name, collective, n, reach, (n - 1) / 2, tiles);
            for (int run = 0; run < 8; ++run) {
              ASSERT_EQ(run_concretely(world, run % 2 == 1, ++seed), "") << text_of(world);
            }
          }
        }
      }
    }
  }
}

TEST(MemoryConcrete, SeesWhatIsBroken) {
  auto world = lowered_world("two_shot", Collective::all_reduce, 3, Reach::everything);
  std::erase_if(world[1].steps, [](const MemoryStep& step) {
    return step.kind == MemoryStepKind::await && step.stage == 1;
  });
  int wrong = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    wrong += run_concretely(world, true, seed).empty() ? 0 : 1;
  }
  EXPECT_GT(wrong, 0);
}

}  // namespace

std::string run_concretely(std::span<const MemorySchedule> schedules, bool in_place,
                           std::uint64_t seed) {
  return MemoryRun(schedules, in_place, seed).run();
}

}  // namespace weft::comm
