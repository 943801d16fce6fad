// The compact form against the schedules it stands for: tiling by arithmetic, lanes, and one
// program for all ranks of a ring must give the times that the schedules as they are give.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "comm/algorithms/algorithms.h"
#include "comm/passes/passes.h"
#include "comm/simulate/event_queue.h"
#include "comm/simulate/program.h"
#include "kernels/base/error.h"
#include "tests/simulate/networks.h"

namespace weft::comm::simulate {
namespace {

Network uneven(std::int32_t ranks) {
  Network network = default_network(ranks, 3);
  network.link.up_gbit_s = 10;
  network.link.latency_us = 4;
  network.stragglers.push_back({.rank = ranks / 2, .cpu_slowdown = 1.7, .delay_us = 3});
  network.background.push_back({.host = 0, .up_share = 0.25, .down_share = 0.1});
  return network;
}

// Several local steps that may run at once run in an order of their own: tiles of one in order, but
// steps last in first out, as in the executor.
bool has_local_steps(const std::vector<Schedule>& world) {
  for (const Schedule& schedule : world) {
    for (const Step& step : schedule.steps) {
      if (step.kind == StepKind::copy || step.kind == StepKind::reduce) return true;
    }
  }
  return false;
}

TEST(ProgramsTest, TilingByArithmeticIsTiling) {
  int compared = 0;
  for (const Algorithm& algorithm : algorithms()) {
    for (int kind = 0; kind < kScheduledCollectives; ++kind) {
      for (const int n : {2, 3, 5, 6, 8, 13}) {
        for (const int tiles : {1, 3, 4}) {
          for (const bool fused : {false, true}) {
            const Network network = uneven(n);
            Problem problem;
            problem.collective = static_cast<Collective>(kind);
            problem.world_size = n;
            problem.root = is_rooted(problem.collective) ? n - 1 : 0;
            problem.hosts = host_map(network);
            if (!algorithm.supports(problem)) continue;
            std::vector<Schedule> world;
            for (problem.rank = 0; problem.rank < n; ++problem.rank) {
              const Schedule schedule = tile(algorithm.emit(problem), tiles);
              world.push_back(fused ? fuse(schedule) : schedule);
            }
            // Not a multiple of anything, so that chunks differ in length.
            const Bytes bytes(problem.collective == Collective::barrier ? 0 : 1'234'568);
            Task by_arithmetic = task(problem.collective, algorithm.name, bytes.value, tiles);
            by_arithmetic.root = problem.root;
            by_arithmetic.fused = fused;
            const Result a = run(by_arithmetic, network);
            const Result b = run(world, bytes, network);
            ++compared;
            ASSERT_EQ(a.messages, b.messages)
                << algorithm.name << " " << name_of(problem.collective) << " n=" << n;
            ASSERT_NEAR(us(a), us(b), us(b) * (has_local_steps(world) ? 0.2 : 1e-9))
                << algorithm.name << " " << name_of(problem.collective) << " n=" << n
                << " tiles=" << tiles << " fused=" << fused;
          }
        }
      }
    }
  }
  EXPECT_GT(compared, 500);
}

TEST(ProgramsTest, RingsAreOneProgramTurnedRound) {
  for (const Collective collective :
       {Collective::all_reduce, Collective::reduce_scatter, Collective::all_gather}) {
    for (int n = 2; n <= 33; ++n) {
      Problem problem;
      problem.collective = collective;
      problem.world_size = n;
      std::vector<Schedule> world;
      for (problem.rank = 0; problem.rank < n; ++problem.rank) {
        world.push_back(fuse(find_algorithm("ring")->emit(problem)));
      }
      const Network network = uneven(n);
      const std::int64_t bytes = 64 * n + 1000 * n + 4;  // chunks differ in length
      const Result shared = run(task(collective, "ring", bytes), network);
      const Result each = run(world, Bytes(bytes), network);
      ASSERT_DOUBLE_EQ(us(shared), us(each)) << name_of(collective) << " n=" << n;
      ASSERT_EQ(shared.messages, each.messages);
    }
  }
}

TEST(ProgramsTest, LanesCarryTheMessagesInTurn) {
  for (const char* name : {"ring", "tree", "halving_doubling", "direct"}) {
    for (const int lanes : {2, 3, 5}) {
      Task striped = task(Collective::all_reduce, name, 3'000'000, 4);
      striped.lanes = lanes;
      const Result result = run(striped, uneven(6));
      striped.lanes = 1;
      const Result alone = run(striped, uneven(6));
      EXPECT_EQ(result.messages, alone.messages) << name;
      EXPECT_LE(us(result), us(alone) * 1.1) << name << " " << lanes;
      EXPECT_GE(us(result), us(alone) * 0.5) << name << " " << lanes;
    }
  }
}

TEST(ProgramsTest, TheSameTaskTakesTheSameTime) {
  const auto hard = task(Collective::all_reduce, "halving_doubling", 5'000'000, 3);
  const Result a = run(hard, uneven(37));
  const Result b = run(hard, uneven(37));
  EXPECT_EQ(a.seconds, b.seconds);
  EXPECT_EQ(a.events, b.events);
  ASSERT_EQ(a.busiest.size(), b.busiest.size());
  for (std::size_t i = 0; i < a.busiest.size(); ++i) {
    EXPECT_EQ(a.busiest[i].name, b.busiest[i].name);
    EXPECT_EQ(a.busiest[i].share, b.busiest[i].share);
  }
}

TEST(ProgramsTest, MessagesThatNobodyTakesAreFound) {
  Problem problem;
  problem.world_size = 2;
  std::vector<Schedule> world;
  for (problem.rank = 0; problem.rank < 2; ++problem.rank) {
    world.push_back(find_algorithm("ring")->emit(problem));
  }
  std::vector<Schedule> deaf = world;
  std::erase_if(deaf[1].steps, [](const Step& step) { return receives(step.kind); });
  for (Schedule& schedule : deaf) {
    for (Step& step : schedule.steps) step.after.clear();
  }
  EXPECT_THROW(run(deaf, Bytes(1000), plain(2)), Mismatch);
  std::vector<Schedule> mute = world;
  std::erase_if(mute[0].steps, [](const Step& step) { return sends(step.kind); });
  for (Schedule& schedule : mute) {
    for (Step& step : schedule.steps) step.after.clear();
  }
  EXPECT_THROW(run(mute, Bytes(1000), plain(2)), Mismatch);
}

TEST(EventQueueTest, TakesWhatIsFirst) {
  EventQueue queue;
  std::uint64_t state = 12345;
  double now = 0;
  int taken = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) queue.push(0.5 * (i % 37), i);
  while (!queue.empty()) {
    const Event event = queue.pop();
    ASSERT_GE(event.time(), now);
    now = event.time();
    if (++taken > 20'000) continue;
    state = state * 6364136223846793005u + 1442695040888963407u;
    queue.push(now + static_cast<double>(state >> 40) * 1e-3, static_cast<std::uint32_t>(taken));
    if (taken % 3 == 0) queue.push(now, 7);
  }
  EXPECT_GT(taken, 20'000);
}

// The scale that the issue asks for is run by hand (docs/simulate.md); here an eighth of the ranks.
TEST(ScaleTest, ThousandsOfRanks) {
  const Result tree =
      run(task(Collective::all_reduce, "tree", 1 << 26, 4), default_network(8192, 8));
  EXPECT_EQ(tree.messages, 4 * 4 * 8191);
  const Result halving =
      run(task(Collective::all_reduce, "halving_doubling", 1 << 26), default_network(8192, 8));
  EXPECT_GT(halving.seconds, 0);
  const Result ring = run(task(Collective::all_reduce, "ring", 1 << 26), default_network(1024, 8));
  EXPECT_EQ(ring.messages, std::int64_t{2} * 1023 * 1024);
}

}  // namespace
}  // namespace weft::comm::simulate
