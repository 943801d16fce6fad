#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "comm/communicator.h"

namespace weft::comm {
namespace {

TEST(InProcess, AllReduceSums) {
  for (const int n : {1, 2, 3, 4, 5, 8}) {
    auto world = Communicator::in_process(n);
    std::vector<std::thread> ranks;
    for (int r = 0; r < n; ++r) {
      ranks.emplace_back([&, r] {
        for (const std::int64_t count : {1, 7, 1000, 300000}) {
          std::vector<float> data(static_cast<std::size_t>(count), static_cast<float>(r + 1));
          world[static_cast<std::size_t>(r)].all_reduce(
              View(data.data(), Elems(count), DType::f32));
          for (const float x : data) ASSERT_EQ(x, static_cast<float>(n * (n + 1) / 2));
        }
      });
    }
    for (auto& rank : ranks) rank.join();
  }
}

}  // namespace
}  // namespace weft::comm
