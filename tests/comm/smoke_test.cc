#include <gtest/gtest.h>

#include <vector>

#include "tests/comm/world.h"

namespace weft::comm {
namespace {

using testing::Backend;

TEST(Smoke, AllReduceSums) {
  for (const Backend& backend : {Backend{"inproc"}, testing::shm_backend(), Backend{"tcp", true},
                                 Backend{"tcp2", true, 2}}) {
    for (const int n : {1, 2, 3, 4, 5, 8}) {
      testing::expect_world(backend, n, [&](Communicator& world) {
        for (const std::int64_t count : {1, 7, 1000, 300000}) {
          std::vector<float> data(static_cast<std::size_t>(count),
                                  static_cast<float>(world.rank() + 1));
          world.all_reduce(View(data.data(), Elems(count), DType::f32));
          for (const float x : data) ASSERT_EQ(x, static_cast<float>(n * (n + 1) / 2));
        }
      });
    }
  }
}

}  // namespace
}  // namespace weft::comm
