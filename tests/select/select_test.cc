#include "comm/select/select.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "comm/algorithms/algorithms.h"
#include "comm/schedule/host_map.h"

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
        for (const Medium medium : {Medium::tcp, Medium::memory}) {
          const Problem problem{static_cast<Collective>(c), 0, n, 0};
          const Choice choice = choose(problem, Bytes(bytes), 1, medium);
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

// --- Several hosts.

Problem on_hosts(Collective collective, int hosts, int each, bool dealt = false) {
  std::vector<std::vector<std::int32_t>> lists(static_cast<std::size_t>(hosts));
  for (int r = 0; r < hosts * each; ++r) {
    lists[static_cast<std::size_t>(dealt ? r % hosts : r / each)].push_back(r);
  }
  return {collective, 0, hosts * each, 0,
          std::make_shared<const HostMap>(host_map_of(std::move(lists)))};
}

TEST(Select, LargeReductionsAreHierarchicalAcrossHosts) {
  for (const Collective collective :
       {Collective::all_reduce, Collective::all_gather, Collective::reduce_scatter}) {
    for (const bool dealt : {false, true}) {
      const Problem problem = on_hosts(collective, 4, 8, dealt);
      for (const std::int64_t bytes : {1 << 20, 64 << 20}) {
        EXPECT_EQ(choose(problem, Bytes(bytes), 1, Medium::network).algorithm, "hierarchical")
            << name_of(collective) << " of " << bytes << (dealt ? ", dealt" : "");
      }
    }
  }
  // One host is no hierarchy, nor are hosts of one rank each.
  for (const auto& [hosts, each] : {std::pair{1, 8}, {8, 1}}) {
    const Problem problem = on_hosts(Collective::all_reduce, hosts, each);
    EXPECT_NE(choose(problem, Bytes(64 << 20), 1, Medium::network).algorithm, "hierarchical");
  }
}

TEST(Select, RanksOfAHostShareItsLink) {
  const auto seconds = [&](const char* algorithm, bool dealt) {
    const Problem problem = on_hosts(Collective::all_reduce, 4, 8, dealt);
    return expected_seconds(algorithm, problem, Bytes(64 << 20), kNetworkCosts);
  };
  // A ring of ranks in order crosses once a host, one of dealt ranks with every step.
  EXPECT_GT(seconds("ring", true), 4 * seconds("ring", false));
  EXPECT_GT(seconds("halving_doubling", false), 4 * seconds("ring", false));
  EXPECT_LT(seconds("hierarchical", true), 0.5 * seconds("ring", true));
  EXPECT_EQ(seconds("hierarchical", true), seconds("hierarchical", false));
}

TEST(Select, SmallReductionsDoubleWhereFewRoundsCross) {
  // 4 hosts of 8 ranks in a row: of 5 rounds 3 stay inside.
  for (const std::int64_t bytes : {8, 1024}) {
    EXPECT_EQ(
        choose(on_hosts(Collective::all_reduce, 4, 8), Bytes(bytes), 1, Medium::network).algorithm,
        "recursive_doubling");
  }
}

TEST(Select, EveryHierarchicalCollectiveHasAModelAndTiles) {
  for (int c = 0; c < kScheduledCollectives; ++c) {
    for (const auto& [hosts, each] : {std::pair{2, 2}, {3, 12}, {600, 2}}) {
      const Problem problem = on_hosts(static_cast<Collective>(c), hosts, each);
      if (!find_algorithm("hierarchical")->supports(problem)) continue;
      double before = 0;
      for (const std::int64_t bytes : kSizes) {
        const double now = expected_seconds("hierarchical", problem, Bytes(bytes), kNetworkCosts);
        EXPECT_GE(now, before) << name_of(problem.collective);
        before = now;
        const Choice choice = choose_tiles("hierarchical", problem, Bytes(bytes));
        EXPECT_GE(choice.tiles, 1);
        EXPECT_LE(choice.tiles, 256);
      }
    }
  }
}

}  // namespace
}  // namespace weft::comm
