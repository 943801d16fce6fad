// Operations in flight together, point to point, and sub-groups.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <deque>
#include <future>
#include <numeric>

#include "tests/comm/world.h"

namespace weft::comm {
namespace {

using testing::Backend;

class Overlap : public ::testing::TestWithParam<Backend> {};

TEST_P(Overlap, ManyAsyncOperationsWaitedForInAnyOrder) {
  for (const int size : {2, 3, 4}) {
    testing::expect_world(GetParam(), size, [](Communicator& world) {
      constexpr std::size_t kMany = 24;
      std::vector<std::vector<double>> data(kMany);
      std::vector<Work> works(kMany);
      const double ranks = world.size() * (world.size() + 1) / 2;
      for (std::size_t k = 0; k < kMany; ++k) {
        data[k].assign(k * k * 97, static_cast<double>(world.rank() + 1) * static_cast<double>(k));
        if (k % 5 == 4) {
          world.all_reduce(std::span<double>(data[k]));  // a blocking one in between
        } else {
          works[k] = world.all_reduce_async(std::span<double>(data[k]));
        }
      }
      for (std::size_t step = 0; step < kMany; ++step) {
        const std::size_t k = (step * 7 + static_cast<std::size_t>(world.rank())) % kMany;
        works[k].wait();
        EXPECT_TRUE(works[k].test());
        for (const double x : data[k]) ASSERT_EQ(x, ranks * static_cast<double>(k));
      }
      EXPECT_GT(works[3].duration().count(), 0);
    });
  }
}

TEST_P(Overlap, CallbacksRunOnceAndMayStartMore) {
  testing::expect_world(GetParam(), 3, [](Communicator& world) {
    std::vector<float> first(1000, 1.0f);
    std::vector<float> second(1000, 2.0f);
    std::promise<Work> started;
    std::atomic<int> calls{0};
    const Work work = world.all_reduce_async(std::span<float>(first));
    work.then([&](std::exception_ptr error) {
      EXPECT_EQ(error, nullptr);
      ++calls;
      started.set_value(world.all_reduce_async(std::span<float>(second)));
    });
    started.get_future().get().wait();
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(first[999], 3.0f);
    EXPECT_EQ(second[999], 6.0f);
    work.then([&](std::exception_ptr) { ++calls; });  // complete already: at once
    EXPECT_EQ(calls, 2);
    Work().wait();
    EXPECT_TRUE(Work().test());
  });
}

TEST_P(Overlap, DroppedHandlesDoNotCancel) {
  testing::expect_world(GetParam(), 2, [](Communicator& world) {
    std::vector<float> data(100'000, 1.0f);
    world.all_reduce_async(std::span<float>(data));
    world.barrier_async();
    std::vector<float> last(1, 1.0f);
    world.all_reduce(std::span<float>(last));
    world.barrier();
    EXPECT_EQ(data[99'999], 2.0f);
  });
}

TEST_P(Overlap, SeveralThreadsOfOneRank) {
  testing::expect_world(GetParam(), 2, [](Communicator& world) {
    // All calls are equal, so that their order among the threads does not matter.
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (int k = 0; k < 30; ++k) {
          std::vector<float> data(5000, 1.0f);
          world.all_reduce(std::span<float>(data));
          ASSERT_EQ(data[4999], 2.0f);
        }
      });
    }
    for (auto& thread : threads) thread.join();
  });
}

TEST_P(Overlap, LargeMessagesBothWaysAtOnce) {
  testing::expect_world(GetParam(), 2, [](Communicator& world) {
    const int other = 1 - world.rank();
    for (const std::size_t count : {0ul, 1ul, 5ul, 3'000'001ul}) {
      std::vector<float> mine(count, static_cast<float>(world.rank() + 1));
      std::vector<float> theirs(count);
      const Work sent = world.send_async(std::span<const float>(mine), other);
      world.recv(std::span<float>(theirs), other);
      sent.wait();
      for (const float x : theirs) ASSERT_EQ(x, static_cast<float>(other + 1));
    }
  });
}

TEST_P(Overlap, MessagesMatchInTheOrderTheyArePosted) {
  testing::expect_world(GetParam(), 3, [](Communicator& world) {
    constexpr int kMessages = 40;
    std::deque<int> values(kMessages);
    std::vector<Work> works;
    if (world.rank() == 0) {
      std::iota(values.begin(), values.end(), 0);
      for (int k = 0; k < kMessages; ++k) {
        works.push_back(world.send_async(
            ConstView(&values[static_cast<std::size_t>(k)], Elems(1), DType::i32), 1 + k % 2));
      }
    } else {
      for (int k = world.rank() - 1; k < kMessages; k += 2) {
        works.push_back(
            world.recv_async(View(&values[static_cast<std::size_t>(k)], Elems(1), DType::i32), 0));
      }
    }
    // Independent of collectives, which overtake them.
    world.barrier();
    for (auto it = works.rbegin(); it != works.rend(); ++it) it->wait();
    for (int k = 0; k < kMessages; ++k) {
      if (world.rank() == 0 || k % 2 == world.rank() - 1) {
        EXPECT_EQ(values[static_cast<std::size_t>(k)], k);
      }
    }
  });
}

TEST_P(Overlap, SplitsAreWorldsOfTheirOwn) {
  testing::expect_world(GetParam(), 5, [](Communicator& world) {
    // 0 2 4 | 1 3, each in reverse order; rank 4 of the second split joins nothing.
    auto parity = world.split(world.rank() % 2, -world.rank());
    ASSERT_TRUE(parity.has_value());
    const int size = world.rank() % 2 == 0 ? 3 : 2;
    EXPECT_EQ(parity->size(), size);
    EXPECT_EQ(parity->rank(), size - 1 - world.rank() / 2);
    int sum = world.rank();
    const Work mixed = world.barrier_async();
    parity->all_reduce(View(&sum, Elems(1), DType::i32));
    EXPECT_EQ(sum, world.rank() % 2 == 0 ? 6 : 4);
    mixed.wait();
    auto most = world.split(world.rank() == 4 ? -1 : 0);
    EXPECT_EQ(most.has_value(), world.rank() != 4);
    if (most) {
      int count = 1;
      most->all_reduce(View(&count, Elems(1), DType::i32));
      EXPECT_EQ(count, 4);
      auto pair = most->split(most->rank() / 2);  // a split of a split
      EXPECT_EQ(pair->size(), 2);
      pair->barrier();
    }
    EXPECT_FALSE(world.host_of(world.size() - 1).empty());
    world.barrier();
  });
}

TEST_P(Overlap, TrafficIsCounted) {
  testing::expect_world(GetParam(), 2, [](Communicator& world) {
    const auto before = world.traffic();
    std::vector<float> data(1000);
    if (world.rank() == 0) world.send(std::span<const float>(data), 1);
    if (world.rank() == 1) world.recv(std::span<float>(data), 0);
    const auto after = world.traffic();
    EXPECT_EQ(after.bytes_sent - before.bytes_sent, world.rank() == 0 ? 4000u : 0u);
    EXPECT_EQ(after.bytes_received - before.bytes_received, world.rank() == 1 ? 4000u : 0u);
    EXPECT_EQ(after.operations - before.operations, 1u);
  });
}

// Of a collective: messages count at both ends, what is moved in shared memory counts once.
TEST_P(Overlap, TrafficOfCollectivesIsCounted) {
  const bool messages = GetParam().name.find("tcp") != std::string::npos;
  std::array<std::uint64_t, 2> moved{};
  testing::expect_world(GetParam(), 2, [&](Communicator& world) {
    constexpr std::size_t kCount = 1 << 18;
    auto memory = world.allocate_symmetric(Bytes(kCount * 4));
    const std::span<float> data(reinterpret_cast<float*>(memory.data()), kCount);
    const auto before = world.traffic();
    for (int k = 0; k < 3; ++k) world.all_reduce(data);
    const auto after = world.traffic();
    EXPECT_EQ(after.operations - before.operations, 3u);
    EXPECT_GT(after.bytes_sent, before.bytes_sent);
    EXPECT_GT(after.bytes_received, before.bytes_received);
    moved[static_cast<std::size_t>(world.rank())] =
        after.bytes_sent - before.bytes_sent + after.bytes_received - before.bytes_received;
    world.barrier();
  });
  EXPECT_EQ(moved[0] + moved[1], 3u * (1u << 20) * (messages ? 4u : 2u));
}

INSTANTIATE_TEST_SUITE_P(Transports, Overlap,
                         ::testing::Values(Backend{"inproc"}, testing::shm_backend(),
                                           Backend{"tcp", true, 1},
                                           Backend{"tcp_two_lanes", true, 2}),
                         [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace weft::comm
