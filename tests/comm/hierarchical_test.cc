// The hierarchical algorithm through a communicator whose ranks pretend to be on several hosts. The
// conformance suite has its collectives; here is what it does not ask for by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/comm/world.h"

namespace weft::comm {
namespace {

using testing::Backend;
using ::testing::HasSubstr;

constexpr CallOptions kHierarchical{"hierarchical"};

Backend backend_of(HostMap (*hosts)(int size)) {
  Backend backend;
  backend.hosts = hosts;
  return backend;
}

const Backend kBackends[] = {backend_of(testing::dealt_to_two_hosts),
                             backend_of(testing::hosts_of_growing_size)};

float value_of(int rank, std::int64_t i) { return static_cast<float>((rank + 1) * (i % 13 + 1)); }

TEST(HierarchicalCommunicator, UnevenBlocks) {
  for (const Backend& backend : kBackends) {
    testing::expect_world(backend, 7, [](Communicator& world) {
      std::vector<Elems> counts;
      std::vector<std::int64_t> starts{0};
      for (int r = 0; r < world.size(); ++r) {
        counts.emplace_back((r * 5 + 3) % 7 * 1001);  // rank 5 has none
        starts.push_back(starts.back() + counts.back().value);
      }
      const auto me = static_cast<std::size_t>(world.rank());
      std::vector<float> own(static_cast<std::size_t>(counts[me].value));
      for (std::size_t i = 0; i < own.size(); ++i) {
        own[i] = value_of(world.rank(), static_cast<std::int64_t>(i));
      }
      std::vector<float> all(static_cast<std::size_t>(starts.back()));
      const View whole(all.data(), Elems(starts.back()), DType::f32);
      world.all_gather_v({own.data(), counts[me], DType::f32}, whole, counts, kHierarchical);
      for (int r = 0; r < world.size(); ++r) {
        const std::int64_t begin = starts[static_cast<std::size_t>(r)];
        for (std::int64_t i = begin; i < starts[static_cast<std::size_t>(r) + 1]; ++i) {
          ASSERT_EQ(all[static_cast<std::size_t>(i)], value_of(r, i - begin));
        }
      }
      world.reduce_scatter_v(whole, {own.data(), counts[me], DType::f32}, counts, ReduceOp::sum,
                             kHierarchical);
      for (std::size_t i = 0; i < own.size(); ++i) {
        ASSERT_EQ(own[i], 7 * value_of(world.rank(), static_cast<std::int64_t>(i)));
      }
    });
  }
}

TEST(HierarchicalCommunicator, LargeMessagesInManyTiles) {
  for (const Backend& backend : kBackends) {
    testing::expect_world(backend, 6, [](Communicator& world) {
      constexpr std::int64_t kCount = 2'000'003;
      std::vector<float> data(kCount);
      for (std::int64_t i = 0; i < kCount; ++i) {
        data[static_cast<std::size_t>(i)] = value_of(world.rank(), i);
      }
      const View view(data.data(), Elems(kCount), DType::f32);
      world.all_reduce(view, ReduceOp::avg, kHierarchical);
      for (std::int64_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(data[static_cast<std::size_t>(i)], 3.5f * static_cast<float>(i % 13 + 1)) << i;
      }
      if (world.rank() == 3) std::iota(data.begin(), data.end(), 1.0f);
      world.broadcast(view, 3, kHierarchical);
      for (std::int64_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(data[static_cast<std::size_t>(i)], static_cast<float>(i + 1)) << i;
      }
    });
  }
}

TEST(HierarchicalCommunicator, SplitsKnowTheirHosts) {
  testing::expect_world(kBackends[0], 8, [](Communicator& world) {
    // Ranks 7 to 4 and 3 to 0: two of each host. Then the even ones, all of one host.
    auto half = world.split(world.rank() / 4, -world.rank());
    std::vector<double> sum{double(world.rank())};
    half->all_reduce(std::span<double>(sum), ReduceOp::sum, kHierarchical);
    EXPECT_EQ(sum[0], world.rank() < 4 ? 6 : 22);
    auto host = world.split(world.rank() % 2);
    try {
      host->barrier(kHierarchical);
      ADD_FAILURE() << "there is but one host";
    } catch (const InvalidArgument& error) {
      EXPECT_THAT(error.what(),
                  HasSubstr("'hierarchical' does not do this on 4 ranks of one host"));
    }
    host->barrier();
  });
}

TEST(HierarchicalCommunicator, IsNotForWorldsWhoseHostsAreUnknown) {
  testing::expect_world(Backend{}, 3, [](Communicator& world) {
    EXPECT_THROW(world.barrier(kHierarchical), InvalidArgument);
  });
}

TEST(HierarchicalCommunicator, TheMapMustFitTheWorld) {
  const auto hosts = std::make_shared<const HostMap>(testing::dealt_to_two_hosts(4));
  EXPECT_THROW(Communicator::in_process(5, hosts), InvalidArgument);
}

}  // namespace
}  // namespace weft::comm
