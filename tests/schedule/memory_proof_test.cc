// Every algorithm, collective and world size is proved right as memory schedules.
#include <gtest/gtest.h>

#include <set>

#include "comm/verify/verify.h"
#include "tests/schedule/memory_concrete.h"

namespace weft::comm {
namespace {

std::set<int> roots_of(Collective collective, int n) {
  if (!is_rooted(collective)) return {0};
  return {0, n / 2, n - 1};
}

class MemoryProofs : public testing::TestWithParam<std::string_view> {};

// Untiled for every size, and in turn with 2 and 3 tiles.
TEST_P(MemoryProofs, EveryCollectiveAndWorldSize) {
  const Algorithm& algorithm = *find_algorithm(GetParam());
  for (const Collective collective : scheduled_collectives()) {
    for (int n = 1; n <= 64; ++n) {
      if (!algorithm.supports({collective, 0, n, 0})) continue;
      for (const int root : roots_of(collective, n)) {
        for (const Reach reach : {Reach::scratch, Reach::everything}) {
          for (const int tiles : {1, 2 + n % 2}) {
            if (tiles > 1 && n > 24) continue;
            const auto world = lowered_world(GetParam(), collective, n, reach, root, tiles);
            for (const bool in_place : {false, true}) {
              const Proof proof = verify(world, in_place);
              ASSERT_TRUE(proof.ok)
                  << proof.counterexample << "\nroot " << root << ", " << tiles << " tiles\n"
                  << (n <= 4 ? text_of(world) : std::string());
            }
          }
        }
      }
    }
  }
}

TEST_P(MemoryProofs, LargeOddWorlds) {
  const Algorithm& algorithm = *find_algorithm(GetParam());
  const bool cheap = GetParam() == "tree" || GetParam() == "recursive_doubling";
  for (const Collective collective : scheduled_collectives()) {
    for (const int n : {127, 255, 257, 1000}) {
      if (!algorithm.supports({collective, 0, n, 0})) continue;
      if (n > 127 && !cheap && !is_rooted(collective)) continue;
      const Reach reach = n % 2 == 0 ? Reach::scratch : Reach::everything;
      const auto world =
          lowered_world(GetParam(), collective, n, reach, is_rooted(collective) ? n / 3 : 0);
      const Proof proof = verify(world, n % 3 == 0);
      ASSERT_TRUE(proof.ok) << proof.counterexample;
    }
  }
}

std::vector<std::string_view> names() {
  std::vector<std::string_view> all;
  for (const Algorithm& algorithm : algorithms()) all.push_back(algorithm.name);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Algorithms, MemoryProofs, testing::ValuesIn(names()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weft::comm
