// Hierarchical schedules on all kinds of hosts: proved, run on numbers, and no more across hosts
// than there must be.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <set>

#include "comm/verify/verify.h"
#include "tests/schedule/concrete.h"
#include "tests/schedule/host_layouts.h"

namespace weft::comm {
namespace {

const Algorithm& hierarchical() { return *find_algorithm("hierarchical"); }

std::set<int> roots_of(Collective collective, int n) {
  if (!is_rooted(collective)) return {0};
  return {0, n / 2, n - 1};
}

std::vector<Collective> supported_collectives() {
  std::vector<Collective> all;
  for (const Collective collective : scheduled_collectives()) {
    if (collective != Collective::all_to_all) all.push_back(collective);
  }
  return all;
}

// Which variants are proved: all on small worlds, two in turn on larger ones.
std::vector<Variant> variants_of(int n, int turn) {
  const std::vector<Variant> all = {{1, false, 1}, {3, true, 1}, {1, true, 1},
                                    {3, false, 1}, {3, true, 2}, {1, true, 3}};
  if (n <= 8) return all;
  const auto at = static_cast<std::size_t>(turn);
  return {all[at % 6], all[(at + 1) % 6]};
}

void prove(Collective collective, const HostedWorld& layout, int root, const Variant& variant) {
  const auto world = emit_world(hierarchical(), collective, layout, root, variant);
  for (const bool in_place : {false, true}) {
    const Proof proof = verify(world, {0, in_place});
    ASSERT_TRUE(proof.ok) << proof.counterexample << "\n"
                          << layout.name << ", root " << root << ", " << text_of(variant) << "\n"
                          << (layout.world <= 4 ? text_of(world) : std::string());
  }
}

class HierarchicalProofs : public testing::TestWithParam<Collective> {};

TEST_P(HierarchicalProofs, EveryLayout) {
  int turn = 0;
  for (int n = 3; n <= 24; ++n) {
    for (const HostedWorld& layout : layouts_of(n)) {
      ++turn;
      for (const int root : roots_of(GetParam(), n)) {
        for (const Variant& variant : variants_of(n, turn)) {
          ASSERT_NO_FATAL_FAILURE(prove(GetParam(), layout, root, variant));
        }
      }
    }
  }
}

TEST_P(HierarchicalProofs, LargerWorlds) {
  int turn = 0;
  for (const int n : {25, 32, 35, 48, 63, 64}) {
    for (const HostedWorld& layout : layouts_of(n)) {
      ++turn;
      for (const int root : roots_of(GetParam(), n)) {
        ASSERT_NO_FATAL_FAILURE(prove(GetParam(), layout, root, variants_of(n, turn).front()));
      }
    }
  }
}

// Beyond the reach of rings: halving inside and across, trees inside where hosts are not equal, and
// the double tree across among very many hosts.
TEST_P(HierarchicalProofs, LargeHostsAndManyHosts) {
  const HostedWorld layouts[] = {even_layout(2, 50), even_layout(12, 12), random_layout(127, 5, 4),
                                 random_layout(130, 3, 5), interleaved_layout(100, 11)};
  int turn = 0;
  for (const HostedWorld& layout : layouts) {
    const Variant variant{1 + turn % 2, turn % 3 != 0, 1};
    ++turn;
    ASSERT_NO_FATAL_FAILURE(prove(GetParam(), layout, is_rooted(GetParam()) ? 77 : 0, variant));
  }
  if (GetParam() == Collective::all_gather || GetParam() == Collective::reduce_scatter) return;
  const int root = is_rooted(GetParam()) ? 1000 : 0;
  ASSERT_NO_FATAL_FAILURE(prove(GetParam(), even_layout(520, 2), root, {2, true, 1}));
  ASSERT_NO_FATAL_FAILURE(prove(GetParam(), random_layout(1100, 530, 6), root, {}));
}

INSTANTIATE_TEST_SUITE_P(Hierarchical, HierarchicalProofs,
                         testing::ValuesIn(supported_collectives()),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST(Hierarchical, ComesRightOnNumbers) {
  std::uint64_t seed = 1;
  for (const Collective collective : supported_collectives()) {
    for (int n = 3; n <= 8; ++n) {
      for (const HostedWorld& layout : layouts_of(n)) {
        for (const Variant& variant : {Variant{1, false, 1}, Variant{2, true, 2}}) {
          const int root = is_rooted(collective) ? (n - 1) / 2 : 0;
          const auto world = emit_world(hierarchical(), collective, layout, root, variant);
          const bool in_place = ++seed % 2 == 0;
          ASSERT_EQ(run_concretely(world, {static_cast<int>(seed % 3), in_place, seed}), "")
              << layout.name << ", " << text_of(variant) << "\n"
              << text_of(world);
        }
      }
    }
  }
}

TEST(Hierarchical, WantsHostsWorthTheName) {
  const HostedWorld two = even_layout(2, 3);
  EXPECT_TRUE(hierarchical().supports(problem_on(two, Collective::all_reduce, 0)));
  EXPECT_FALSE(hierarchical().supports(problem_on(two, Collective::all_to_all, 0)));
  EXPECT_FALSE(hierarchical().supports({Collective::all_reduce, 0, 6, 0}));
  Problem other_world = problem_on(two, Collective::all_reduce, 0);
  other_world.world_size = 7;
  EXPECT_FALSE(hierarchical().supports(other_world));
  EXPECT_FALSE(hierarchical().supports(problem_on(even_layout(1, 6), Collective::all_reduce, 0)));
  EXPECT_FALSE(hierarchical().supports(problem_on(even_layout(6, 1), Collective::all_reduce, 0)));
}

// What host_map_of() fills in can be found without it.
TEST(Hierarchical, TakesMapsPutTogetherByHand) {
  const HostedWorld whole = layout_of("", {3, 2}, {0, 3, 1, 4, 2});
  auto by_hand = std::make_shared<HostMap>();
  by_hand->hosts = whole.map->hosts;
  by_hand->host_of = whole.map->host_of;
  const HostedWorld bare{"by hand", by_hand, 5};
  for (const Collective collective : supported_collectives()) {
    for (int rank = 0; rank < 5; ++rank) {
      const Problem problem = problem_on(bare, collective, rank, 1);
      ASSERT_TRUE(hierarchical().supports(problem));
      EXPECT_EQ(print(hierarchical().emit(problem)),
                print(hierarchical().emit(problem_on(whole, collective, rank, 1))));
    }
  }
}

// Chunks that a rank sends to other hosts, in chunks of its schedule.
int sent_across(const HostedWorld& layout, const Schedule& schedule) {
  int chunks = 0;
  for (const Step& step : schedule.steps) {
    if (!sends(step.kind)) continue;
    const auto rank = static_cast<std::size_t>(schedule.problem.rank);
    const auto peer = static_cast<std::size_t>(target_of(step));
    if (layout.map->host_of[rank] == layout.map->host_of[peer]) continue;
    chunks += step.to.count > 0 ? step.to.count : step.from.count;
  }
  return chunks;
}

TEST(Hierarchical, EveryRankCarriesItsShareAcrossAndNoMore) {
  for (const auto& [hosts, each] : {std::pair{2, 2}, {2, 8}, {4, 4}, {8, 3}, {16, 4}, {20, 12}}) {
    const HostedWorld layout = even_layout(hosts, each);
    for (int rank = 0; rank < layout.world; ++rank) {
      const auto sent = [&](Collective collective) {
        const Schedule s = hierarchical().emit(problem_on(layout, collective, rank));
        return std::pair{sent_across(layout, s), s.chunks_per_block};
      };
      // Chunks are 1/(hosts * each) of the data; a ring over the hosts sends 2 (hosts - 1) of them.
      EXPECT_EQ(sent(Collective::all_reduce), (std::pair{2 * (hosts - 1), hosts * each}));
      EXPECT_EQ(sent(Collective::all_gather), (std::pair{hosts - 1, 1}));
      EXPECT_EQ(sent(Collective::reduce_scatter), (std::pair{hosts - 1, 1}));
    }
  }
}

TEST(Hierarchical, RootedDataEntersOrLeavesEveryHostOnce) {
  for (const HostedWorld& layout :
       {even_layout(3, 4), random_layout(17, 5, 2), even_layout(10, 2)}) {
    const int hosts = static_cast<int>(layout.map->hosts.size());
    for (const int root : {0, 7, layout.world - 1}) {
      int down = 0;
      int up = 0;
      for (int rank = 0; rank < layout.world; ++rank) {
        const auto sent = [&](Collective collective) {
          return sent_across(layout,
                             hierarchical().emit(problem_on(layout, collective, rank, root)));
        };
        down += sent(Collective::broadcast);
        up += sent(Collective::reduce);
      }
      EXPECT_EQ(down, 2 * (hosts - 1)) << layout.name;  // chunks of half the data
      EXPECT_EQ(up, 2 * (hosts - 1)) << layout.name;
    }
  }
}

// Inside a host of up to 8 ranks messages follow the ring of the map's list; across, they connect
// ranks of the same place in their lists.
TEST(Hierarchical, FollowsTheMap) {
  const HostedWorld layout = layout_of("mixed", {4, 4, 4}, {7, 2, 11, 0, 5, 4, 1, 3, 8, 10, 6, 9});
  const HostMap& map = *layout.map;
  for (const Collective collective :
       {Collective::all_reduce, Collective::all_gather, Collective::reduce_scatter}) {
    for (int rank = 0; rank < layout.world; ++rank) {
      const auto at = static_cast<std::size_t>(rank);
      const auto& neighbours = map.hosts[static_cast<std::size_t>(map.host_of[at])];
      const int next = neighbours[static_cast<std::size_t>(map.index_of[at] + 1) % 4];
      for (const Step& step : hierarchical().emit(problem_on(layout, collective, rank)).steps) {
        if (step.kind != StepKind::send) continue;
        const auto peer = static_cast<std::size_t>(step.peer);
        if (map.host_of[at] == map.host_of[peer]) {
          EXPECT_EQ(step.peer, next);
        } else {
          EXPECT_EQ(map.index_of[peer], map.index_of[at]);
        }
      }
    }
  }
}

TEST(Hierarchical, ReductionsCopyNothing) {
  for (int n = 3; n <= 12; ++n) {
    for (const HostedWorld& layout : layouts_of(n)) {
      for (const Collective collective :
           {Collective::all_reduce, Collective::reduce, Collective::reduce_scatter}) {
        for (const Schedule& schedule : emit_world(hierarchical(), collective, layout, n / 2)) {
          EXPECT_EQ(std::ranges::count(schedule.steps, StepKind::copy, &Step::kind), 0)
              << print(schedule);
        }
      }
    }
  }
}

// The simulator asks for the schedules of all ranks of such worlds: they must stay short.
TEST(Hierarchical, StaysShortInTheLargestWorlds) {
  const HostedWorld layout = even_layout(8192, 8);
  for (const Collective collective :
       {Collective::all_reduce, Collective::broadcast, Collective::reduce, Collective::barrier}) {
    for (const int rank : {0, 12345, 40001, 65535}) {
      const Schedule schedule = hierarchical().emit(problem_on(layout, collective, rank, 12345));
      EXPECT_FALSE(schedule.steps.empty());
      EXPECT_LE(schedule.steps.size(), 80u) << name_of(collective) << ", rank " << rank;
      EXPECT_LE(schedule.chunks_per_block, 16);
    }
  }
  for (const Collective collective : {Collective::all_gather, Collective::reduce_scatter,
                                      Collective::gather, Collective::scatter}) {
    const Schedule schedule = hierarchical().emit(problem_on(layout, collective, 12345, 65535));
    EXPECT_FALSE(schedule.steps.empty());
    EXPECT_LE(schedule.steps.size(), 5u * 65536u) << name_of(collective);
  }
}

}  // namespace
}  // namespace weft::comm
