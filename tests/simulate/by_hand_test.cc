// Times that can be worked out with a pencil.
#include <gtest/gtest.h>

#include "comm/simulate/program.h"
#include "kernels/base/error.h"
#include "tests/simulate/networks.h"

namespace weft::comm::simulate {
namespace {

constexpr std::int64_t kMega = 1'000'000;

double link_us(double bytes) { return bytes / kLinkBytesPerUs; }

TEST(ByHand, OneMessageIsLatencyPlusSizeOverRate) {
  Network network = plain(2);
  network.link.latency_us = 25;
  const auto broadcast = task(Collective::broadcast, "direct", kMega);
  // The message itself greets rank 1, and rank 1's check frame goes the other way.
  EXPECT_NEAR(us(run(broadcast, network)), link_us(kMega) + 25, 0.01);
}

TEST(ByHand, CostsOfBothEndsAdd) {
  Network network = plain(2);
  network.cpu.send_us = 3;
  network.cpu.receive_us = 5;
  network.cpu.receive_gbyte_s = 2;  // 2000 bytes a microsecond
  const auto broadcast = task(Collective::broadcast, "direct", kMega);
  EXPECT_NEAR(us(run(broadcast, network)), 3 + link_us(kMega) + 5 + kMega / 2000.0, 0.01);
}

TEST(ByHand, AllReduceOfTwoCountsTheReduction) {
  Network network = plain(2);
  network.cpu.reduce_gbyte_s = 4;
  // Half goes over, is reduced at 4000 bytes a microsecond, and comes back.
  EXPECT_NEAR(us(run(task(Collective::all_reduce, "ring", kMega), network)),
              2 * link_us(kMega / 2) + kMega / 2 / 4000.0, 0.1);
}

TEST(ByHand, FramesAndHeadersTakeTheirShare) {
  Network network = plain(2);
  network.link.frame_bytes = 1000;
  network.link.payload_share = 0.5;
  const auto broadcast = task(Collective::broadcast, "direct", kMega);
  EXPECT_NEAR(us(run(broadcast, network)), 2 * link_us(kMega + 1000), 0.01);
}

class RingTest : public testing::TestWithParam<int> {};

TEST_P(RingTest, ReachesTheLeastTimeThereCanBe) {
  const int n = GetParam();
  const std::int64_t bytes = std::int64_t{64} * n * 4096;
  const double least = 2.0 * (n - 1) / n * static_cast<double>(bytes) / kLinkBytesPerUs;
  const Result result = run(task(Collective::all_reduce, "ring", bytes, 4), plain(n));
  EXPECT_NEAR(us(result), least, least * 1e-4);
  EXPECT_NEAR(result.bus_gbyte_s, kLinkBytesPerUs * 1e-3, 1e-4);
  const Result half = run(task(Collective::reduce_scatter, "ring", bytes, 4), plain(n));
  EXPECT_NEAR(us(half), least / 2, least * 1e-4);
  const Result other = run(task(Collective::all_gather, "ring", bytes, 4), plain(n));
  EXPECT_NEAR(us(other), least / 2, least * 1e-4);
  EXPECT_NEAR(other.bus_gbyte_s, kLinkBytesPerUs * 1e-3, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Worlds, RingTest, testing::Values(2, 3, 4, 8, 16, 31));

TEST(ByHand, RingLatencyIsPaidOncePerRound) {
  Network network = plain(8);
  network.link.latency_us = 7;
  EXPECT_NEAR(us(run(task(Collective::all_reduce, "ring", 0), network)), 14 * 7, 0.01);
}

TEST(ByHand, TreePaysItsDepthUpAndDown) {
  Network network = plain(8);
  network.link.latency_us = 10;
  // Root above a tree of 7: depth 3, up and down again.
  EXPECT_NEAR(us(run(task(Collective::all_reduce, "tree", 64), network)), 6 * 10, 1);
  EXPECT_NEAR(us(run(task(Collective::broadcast, "tree", 64), network)), 3 * 10, 1);
}

TEST(ByHand, HalvingAndDoublingPayTheirRounds) {
  Network network = plain(16);
  network.link.latency_us = 10;
  EXPECT_NEAR(us(run(task(Collective::all_reduce, "halving_doubling", 1024), network)), 8 * 10, 4);
  // Runs of chunks that wrap go in two messages, some of which meet on a link: no less than the
  // least there can be, and with tiles not much more.
  const std::int64_t bytes = std::int64_t{64} * 16 * 1024;
  const double least = 2.0 * 15 / 16 * static_cast<double>(bytes) / kLinkBytesPerUs;
  const double tiled =
      us(run(task(Collective::all_reduce, "halving_doubling", bytes, 16), plain(16)));
  EXPECT_GE(tiled, least);
  EXPECT_LE(tiled, 1.3 * least);
}

TEST(ByHand, OversubscriptionSlowsWhatLeavesTheRack) {
  Network network = plain(8);
  network.rack.hosts = 4;
  const auto all = task(Collective::all_to_all, "direct", 8 * 64 * 1000);
  const double flat = us(run(all, plain(8)));
  EXPECT_NEAR(us(run(all, network)), flat, flat * 0.01);
  network.rack.oversubscription = 8;
  // 4 hosts x 4 blocks cross an uplink of half a link's rate.
  EXPECT_NEAR(us(run(all, network)), 16 * link_us(64 * 1000) / 0.5, flat * 0.5);
  const Result slow = run(all, network);
  ASSERT_FALSE(slow.busiest.empty());
  EXPECT_EQ(slow.busiest[0].name, "rack 0 up");
  EXPECT_GT(slow.busiest[0].share, 0.9);
}

TEST(ByHand, ACoreThatIsTooSmallIsWhatLimits) {
  Network network = plain(4);
  const auto ring = task(Collective::all_reduce, "ring", 4 * kMega, 8);
  const double flat = us(run(ring, network));
  network.core.gbit_s = 16;  // of 4 links of 8
  EXPECT_NEAR(us(run(ring, network)), 2 * flat, flat * 0.01);
  EXPECT_EQ(run(ring, network).busiest[0].name, "core");
}

TEST(ByHand, BackgroundTakesItsShareOfALink) {
  Network network = plain(4);
  const auto ring = task(Collective::all_reduce, "ring", 4 * kMega, 8);
  const double free = us(run(ring, network));
  network.background.push_back({.host = 2, .up_share = 0.5, .down_share = 0});
  // The ring is as slow as its slowest link.
  EXPECT_NEAR(us(run(ring, network)), 2 * free, free * 0.15);
  EXPECT_EQ(run(ring, network).busiest[0].name, "host 2 up");
  const double half = us(run(ring, network));
  // The same in parts: shares add up.
  network.background = {{.host = 2, .up_share = 0.25, .down_share = 0},
                        {.host = 2, .up_share = 0.125, .down_share = 0},
                        {.up_share = 0.125, .down_share = 0}};
  EXPECT_NEAR(us(run(ring, network)), half, half * 0.01);
}

TEST(ByHand, StragglersDelayEverybody) {
  Network network = plain(4);
  const auto ring = task(Collective::all_reduce, "ring", 4 * kMega, 8);
  const double free = us(run(ring, network));
  network.stragglers.push_back({.rank = 1, .delay_us = 5000});
  EXPECT_NEAR(us(run(ring, network)), free + 5000, 1);
  network.stragglers = {{.host = 3, .link_slowdown = 3}};
  EXPECT_NEAR(us(run(ring, network)), 3 * free, free * 0.3);
  network.stragglers = {{.rank = 0, .cpu_slowdown = 1000}};
  network.cpu.receive_us = 1;
  EXPECT_GT(us(run(ring, network)), free + 14'000);
}

TEST(ByHand, ABurstPassesAtOnce) {
  Network network = plain(2);
  network.link.burst_bytes = 500'000;
  const auto broadcast = task(Collective::broadcast, "direct", kMega);
  EXPECT_NEAR(us(run(broadcast, network)), link_us(kMega) - 500, 0.01);
  const auto small = task(Collective::broadcast, "direct", 400'000);
  EXPECT_NEAR(us(run(small, network)), 0, 1);
}

TEST(ByHand, RanksOfOneHostUseItsMemory) {
  Network network = plain(2, 2);
  network.memory = {.latency_us = 2, .message_us = 1, .copy_gbyte_s = 10, .host_gbyte_s = 0};
  const Result result = run(task(Collective::broadcast, "direct", kMega), network);
  EXPECT_NEAR(us(result), 1 + 2 + 1 + kMega / 10'000.0, 0.01);
  EXPECT_TRUE(result.busiest.empty()) << result.busiest[0].name;
  network.memory.host_gbyte_s = 1;
  EXPECT_EQ(run(task(Collective::broadcast, "direct", kMega), network).busiest[0].name,
            "host 0 memory");
}

TEST(ByHand, RanksOfOneHostShareItsLink) {
  // Four ranks send their block out of one host to four of another and the other way round.
  const auto all = task(Collective::all_to_all, "direct", 8 * 64 * 1000);
  EXPECT_NEAR(us(run(all, plain(8, 4))), 16 * link_us(64 * 1000), link_us(64 * 1000));
}

TEST(ByHand, SharedCoresTakeTurns) {
  Network network = plain(4, 4);
  network.cpu.copy_gbyte_s = 1;
  // Everybody copies a quarter of the buffer, nobody waits for the network.
  const auto gather = task(Collective::all_gather, "ring", 4 * kMega);
  const double own = us(run(gather, network));
  network.cpu.cores_per_host = 2;
  EXPECT_GT(us(run(gather, network)), own - 1e-6);
  network.cpu.cores_per_host = 0;
  network.cpu.cores_of_all_hosts = 1;
  network.memory.message_us = 100;  // 12 sends and 12 receives, one after the other
  EXPECT_NEAR(us(run(gather, network)), 24 * 100, 110);
}

TEST(ByHand, WakingCostsThoseWhoWaitLong) {
  Network network = plain(2);
  const auto broadcast = task(Collective::broadcast, "direct", kMega);
  const double spins = us(run(broadcast, network));
  network.cpu.wake_us = 50;
  EXPECT_NEAR(us(run(broadcast, network)), spins + 50, 0.01);
  network.cpu.spin_us = 1e6;
  EXPECT_NEAR(us(run(broadcast, network)), spins, 0.01);
}

TEST(ByHand, TilesMakeAPipelineOfAChain) {
  const auto whole = us(run(task(Collective::broadcast, "ring", kMega, 1), plain(5)));
  const auto cut = us(run(task(Collective::broadcast, "ring", kMega, 100), plain(5)));
  EXPECT_NEAR(whole, 4 * link_us(kMega), 1);
  EXPECT_NEAR(cut, link_us(kMega) * 103 / 100, 20);
}

TEST(ByHand, TasksThatCannotBeDoneSaySo) {
  const Network network = plain(4);
  EXPECT_THROW(run(task(Collective::all_to_all, "ring", kMega), network), InvalidArgument);
  EXPECT_THROW(run(task(Collective::all_reduce, "bush", kMega), network), InvalidArgument);
  Task rooted = task(Collective::broadcast, "tree", kMega);
  rooted.root = 4;
  EXPECT_THROW(run(rooted, network), InvalidArgument);
  EXPECT_THROW(run(task(Collective::all_to_all, "direct", kMega, 100), plain(4096)), Unsupported);
}

}  // namespace
}  // namespace weft::comm::simulate
