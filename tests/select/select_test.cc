#include "comm/select/select.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "comm/algorithms/algorithms.h"

namespace weft::comm {
namespace {

constexpr std::int64_t kSizes[] = {0,       1,       8,        1 << 10, 64 << 10,
                                   1 << 20, 8 << 20, 64 << 20, 1 << 30, std::int64_t{1} << 36};

Choice all_reduce_choice(int n, std::int64_t bytes, int lanes = 1) {
  return choose({Collective::all_reduce, 0, n, 0}, Bytes(bytes), lanes);
}

TEST(Select, AlwaysFindsSomethingThatIsSupported) {
  for (int c = 0; c < kScheduledCollectives; ++c) {
    for (const int n : {1, 2, 3, 7, 8, 64, 1000, 65536}) {
      for (const std::int64_t bytes : kSizes) {
        for (const LinkCosts& costs : {kSocketCosts, kMemoryCosts}) {
          const Problem problem{static_cast<Collective>(c), 0, n, 0};
          const Choice choice = choose(problem, Bytes(bytes), 1, costs);
          const Algorithm* algorithm = find_algorithm(choice.algorithm);
          ASSERT_NE(algorithm, nullptr);
          EXPECT_TRUE(algorithm->supports(problem));
          EXPECT_GE(choice.tiles, 1);
        }
      }
    }
  }
}

TEST(Select, AllRanksAgree) {
  for (int c = 0; c < kScheduledCollectives; ++c) {
    for (const std::int64_t bytes : kSizes) {
      const Choice first = choose({static_cast<Collective>(c), 0, 6, 2}, Bytes(bytes), 2);
      for (int rank = 1; rank < 6; ++rank) {
        const Choice other = choose({static_cast<Collective>(c), rank, 6, 2}, Bytes(bytes), 2);
        EXPECT_EQ(first.algorithm, other.algorithm);
        EXPECT_EQ(first.tiles, other.tiles);
        EXPECT_EQ(first.fused, other.fused);
      }
    }
  }
}

// Sides of an all_to_all_v differ from rank to rank, so nothing may depend on them.
TEST(Select, AllToAllDoesNotLookAtTheSize) {
  for (const std::int64_t bytes : kSizes) {
    const Choice choice = choose({Collective::all_to_all, 0, 4, 0}, Bytes(bytes), 4);
    EXPECT_EQ(choice.algorithm, "direct");
    EXPECT_EQ(choice.tiles, 1);
  }
}

TEST(Select, FewRoundsWhenSmallLittleTrafficWhenLarge) {
  EXPECT_EQ(all_reduce_choice(2, 8).algorithm, "direct");
  EXPECT_EQ(all_reduce_choice(3, 1024).algorithm, "direct");
  EXPECT_EQ(all_reduce_choice(64, 8).algorithm, "recursive_doubling");
  for (const int n : {2, 4, 16, 64}) {
    const std::string_view large = all_reduce_choice(n, 64 << 20).algorithm;
    EXPECT_TRUE(large == "ring" || large == "halving_doubling") << large;
  }
  const Problem broadcast{Collective::broadcast, 0, 16, 0};
  EXPECT_EQ(choose(broadcast, Bytes(64 << 20)).algorithm, "tree");
}

TEST(Select, TilesAreOfAModerateSize) {
  EXPECT_EQ(all_reduce_choice(2, 64 << 10).tiles, 1);
  for (const int n : {2, 4, 8}) {
    for (const std::int64_t bytes : {8 << 20, 64 << 20}) {
      const Choice ring = choose_tiles("ring", {Collective::all_reduce, 0, n, 0}, Bytes(bytes));
      const double tile = static_cast<double>(bytes) / n / ring.tiles;
      EXPECT_GE(tile, 256 << 10);
      EXPECT_LE(tile, 1 << 20);
    }
  }
  // Enough of them for every lane to get one, but not below what a message is worth.
  EXPECT_EQ(choose_tiles("ring", {Collective::all_reduce, 0, 2, 0}, Bytes(1 << 20), 4).tiles, 4);
  EXPECT_EQ(choose_tiles("ring", {Collective::all_reduce, 0, 2, 0}, Bytes(128 << 10), 4).tiles, 1);
}

TEST(Select, ExpectationsGrowWithTheSize) {
  for (const Algorithm& algorithm : algorithms()) {
    for (int c = 0; c < kScheduledCollectives; ++c) {
      for (const int n : {1, 2, 5, 32}) {
        const Problem problem{static_cast<Collective>(c), 0, n, 0};
        if (!algorithm.supports(problem)) continue;
        double before = 0;
        for (const std::int64_t bytes : kSizes) {
          const double now = expected_seconds(algorithm.name, problem, Bytes(bytes), kSocketCosts);
          EXPECT_GE(now, before) << algorithm.name << " " << name_of(problem.collective);
          before = now;
        }
      }
    }
  }
}

}  // namespace
}  // namespace weft::comm
