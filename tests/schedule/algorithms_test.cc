// What the algorithms promise beyond being right: how many rounds, how much traffic, no copies.
#include "comm/algorithms/algorithms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {

struct Traffic {
  int messages = 0;
  int chunks = 0;
};

Traffic sent_by(const Schedule& schedule) {
  Traffic traffic;
  for (const Step& step : schedule.steps) {
    if (!sends(step.kind)) continue;
    ++traffic.messages;
    traffic.chunks += step.to.count > 0 ? step.to.count : step.from.count;
  }
  return traffic;
}

int count(const Schedule& schedule, StepKind kind) {
  return static_cast<int>(std::ranges::count(schedule.steps, kind, &Step::kind));
}

int log2_up(int n) { return std::bit_width(static_cast<unsigned>(n - 1)); }

Schedule emit_one(std::string_view name, Collective collective, int rank, int n, int root = 0) {
  return find_algorithm(name)->emit({collective, rank, n, root});
}

TEST(Algorithms, AreFoundByName) {
  for (const Algorithm& algorithm : algorithms()) {
    EXPECT_EQ(find_algorithm(algorithm.name), &algorithm);
  }
  EXPECT_EQ(find_algorithm("rings"), nullptr);
  EXPECT_EQ(find_algorithm(""), nullptr);
}

TEST(Algorithms, EveryCollectiveHasOneAtEveryWorldSize) {
  for (const Collective collective : scheduled_collectives()) {
    for (const int n : {1, 2, 3, 1000, 65535, 65536}) {
      EXPECT_TRUE(std::ranges::any_of(algorithms(), [&](const Algorithm& a) {
        return a.supports({collective, 0, n, 0});
      }));
    }
  }
}

// All of them can be written down for the largest worlds; nothing is quadratic.
TEST(Algorithms, EmitForTheLargestWorld) {
  constexpr int kLargest = 65536;
  for (const Algorithm& algorithm : algorithms()) {
    for (const Collective collective : scheduled_collectives()) {
      const Problem problem{collective, 12345, kLargest, is_rooted(collective) ? 65535 : 0};
      if (!algorithm.supports(problem)) continue;
      const Schedule schedule = algorithm.emit(problem);
      EXPECT_FALSE(schedule.steps.empty());
      EXPECT_LE(std::ssize(schedule.steps), 5 * kLargest);
    }
  }
}

TEST(Algorithms, AloneIsACopy) {
  for (const Algorithm& algorithm : algorithms()) {
    for (const Collective collective : scheduled_collectives()) {
      if (!algorithm.supports({collective, 0, 1, 0})) continue;
      const Schedule schedule = algorithm.emit({collective, 0, 1, 0});
      EXPECT_EQ(std::ssize(schedule.steps), collective == Collective::broadcast ? 0 : 1);
      EXPECT_EQ(count(schedule, StepKind::copy), std::ssize(schedule.steps));
    }
  }
}

TEST(Algorithms, ReductionsCopyNothing) {
  for (const Algorithm& algorithm : algorithms()) {
    for (const Collective collective :
         {Collective::all_reduce, Collective::reduce, Collective::reduce_scatter}) {
      for (int n = 2; n <= 17; ++n) {
        if (!algorithm.supports({collective, 0, n, 0})) continue;
        for (const Schedule& schedule : emit_world(algorithm, collective, n, 0)) {
          EXPECT_EQ(count(schedule, StepKind::copy), 0) << print(schedule);
        }
      }
    }
  }
}

TEST(Algorithms, RingAndHalvingSendTheLeast) {
  for (int n = 2; n <= 70; ++n) {
    const int rank = n / 2;
    EXPECT_EQ(sent_by(emit_one("ring", Collective::all_reduce, rank, n)).chunks, 2 * (n - 1));
    EXPECT_EQ(sent_by(emit_one("two_shot", Collective::all_reduce, rank, n)).chunks, 2 * (n - 1));
    EXPECT_EQ(sent_by(emit_one("halving_doubling", Collective::all_reduce, rank, n)).chunks,
              2 * (n - 1));
    EXPECT_EQ(sent_by(emit_one("halving_doubling", Collective::reduce_scatter, rank, n)).chunks,
              n - 1);
    EXPECT_EQ(sent_by(emit_one("halving_doubling", Collective::all_gather, rank, n)).chunks, n - 1);
  }
}

TEST(Algorithms, HalvingTakesLogarithmicallyManyMessages) {
  for (int n = 2; n <= 300; ++n) {
    const auto sent = [&](Collective c) {
      return sent_by(emit_one("halving_doubling", c, n / 3, n)).messages;
    };
    EXPECT_EQ(sent(Collective::barrier), log2_up(n));
    // A run of chunks that wraps takes one message more.
    EXPECT_LE(sent(Collective::all_gather), 2 * log2_up(n));
    EXPECT_LE(sent(Collective::all_reduce), 5 * log2_up(n));
  }
}

TEST(Algorithms, TwoTreesShareTheWork) {
  for (int n = 2; n <= 130; ++n) {
    const int root = n / 3;
    std::vector<int> parents[2] = {std::vector<int>(static_cast<std::size_t>(n), -1),
                                   std::vector<int>(static_cast<std::size_t>(n), -1)};
    for (int rank = 0; rank < n; ++rank) {
      int children[2] = {0, 0};
      for (const Step& step : emit_one("tree", Collective::broadcast, rank, n, root).steps) {
        if (step.kind == StepKind::send) ++children[step.from.chunk];
        if (step.kind == StepKind::recv) {
          parents[step.to.chunk][static_cast<std::size_t>(rank)] = step.peer;
        }
      }
      EXPECT_LE(children[0], 2);
      EXPECT_LE(children[1], 2);
      if (rank != root) {
        EXPECT_TRUE(children[0] == 0 || children[1] == 0) << "rank " << rank << " of " << n;
      }
    }
    for (const std::vector<int>& tree : parents) {
      for (int rank = 0; rank < n; ++rank) {
        int depth = 0;
        for (int at = rank; at != root; at = tree[static_cast<std::size_t>(at)]) {
          ASSERT_LE(++depth, log2_up(n) + 1) << "rank " << rank << " of " << n;
        }
      }
    }
  }
}

TEST(Algorithms, GatherByTreeTakesLogarithmicallyManyRounds) {
  for (int n = 2; n <= 130; ++n) {
    const Schedule root = emit_one("tree", Collective::gather, n / 3, n, n / 3);
    // At most one of the children's runs of blocks wraps round the end.
    EXPECT_LE(count(root, StepKind::recv), log2_up(n) + 1);
  }
}

}  // namespace
}  // namespace weft::comm
