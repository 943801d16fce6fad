#include <gtest/gtest.h>

#include "comm/passes/lower.h"
#include "comm/verify/verify.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {
TEST(Lower, Show) {
  for (const Algorithm& algorithm : algorithms()) {
  for (const Collective collective : scheduled_collectives()) {
    const auto begin = std::chrono::steady_clock::now();
    for (int n = 1; n <= 64; ++n) {
      if (!algorithm.supports({collective, 0, n, 0})) continue;
      const auto world = emit_world(algorithm, collective, n, is_rooted(collective) ? n / 2 : 0);
      for (const Reach reach : {Reach::scratch, Reach::everything}) {
        const auto lowered = lower(world, reach);
        for (const bool in_place : {false, true}) {
          const Proof proof = verify(lowered, in_place);
          ASSERT_TRUE(proof.ok) << proof.counterexample;
        }
      }
    }
    fmt::print("{} {} {}s\n", algorithm.name, name_of(collective), std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  }
}
}  // namespace
}  // namespace weft::comm
