// Every algorithm, collective and world size is proved right.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "comm/verify/verify.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {

constexpr int kEveryWorld = 64;

bool supported(const Algorithm& algorithm, Collective collective, int n) {
  return algorithm.supports({collective, 0, n, 0});
}

std::set<int> roots_of(Collective collective, int n) {
  if (!is_rooted(collective)) return {0};
  return {0, n / 2, n - 1};
}

// Which variants of a world are proved: all for small ones, a rotating one for the larger.
std::vector<Variant> variants_of(int n) {
  const std::vector<Variant> all = {{1, false, 1}, {3, true, 2}, {1, true, 1},  {3, false, 2},
                                    {3, true, 1},  {1, true, 2}, {1, false, 2}, {3, false, 1}};
  if (n <= 17) return all;
  const auto turn = static_cast<std::size_t>(n);
  return {all[0], all[1], all[2 + turn % 6]};
}

class Proofs : public testing::TestWithParam<std::string_view> {};

TEST_P(Proofs, EveryCollectiveAndWorldSize) {
  const Algorithm& algorithm = *find_algorithm(GetParam());
  for (const Collective collective : scheduled_collectives()) {
    for (int n = 1; n <= kEveryWorld; ++n) {
      if (!supported(algorithm, collective, n)) continue;
      for (const int root : roots_of(collective, n)) {
        for (const Variant& variant : variants_of(n)) {
          const std::vector<Schedule> schedules =
              emit_world(algorithm, collective, n, root, variant);
          for (const bool in_place : {false, true}) {
            const Proof proof = verify(schedules, {0, in_place});
            ASSERT_TRUE(proof.ok) << proof.counterexample << "\nroot " << root << ", "
                                  << text_of(variant) << "\n"
                                  << (n <= 4 ? text_of(schedules) : std::string());
          }
        }
      }
    }
  }
}

TEST_P(Proofs, LargeOddWorlds) {
  const Algorithm& algorithm = *find_algorithm(GetParam());
  const bool cheap = GetParam() == "tree" || GetParam() == "halving_doubling" ||
                     GetParam() == "recursive_doubling";
  for (const Collective collective : scheduled_collectives()) {
    for (const int n : {127, 255, 257, 1000}) {
      if (!supported(algorithm, collective, n)) continue;
      const bool chain = GetParam() == "ring" && is_rooted(collective);
      if (!cheap && !chain && n > 127) continue;
      const Variant variant{1, n % 2 == 0, 1};
      const std::vector<Schedule> schedules =
          emit_world(algorithm, collective, n, is_rooted(collective) ? n / 3 : 0, variant);
      const Proof proof = verify(schedules, {0, n % 3 == 0});
      ASSERT_TRUE(proof.ok) << proof.counterexample;
    }
  }
}

std::vector<std::string_view> names() {
  std::vector<std::string_view> all;
  for (const Algorithm& algorithm : algorithms()) all.push_back(algorithm.name);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Algorithms, Proofs, testing::ValuesIn(names()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace weft::comm
