// Hierarchical schedules lowered to memory, for hosts that are parts of one (packages, or threads
// that pretend).
#include <gtest/gtest.h>

#include "comm/passes/lower.h"
#include "comm/verify/verify.h"
#include "tests/schedule/host_layouts.h"

namespace weft::comm {
namespace {

TEST(HierarchicalOnMemory, EveryLayoutIsProved) {
  const Algorithm& hierarchical = *find_algorithm("hierarchical");
  for (const Collective collective : scheduled_collectives()) {
    for (int n = 3; n <= 12; ++n) {
      for (const HostedWorld& layout : layouts_of(n)) {
        if (!hierarchical.supports(problem_on(layout, collective, 0))) continue;
        const auto world =
            emit_world(hierarchical, collective, layout, is_rooted(collective) ? n / 2 : 0);
        for (const Reach reach : {Reach::scratch, Reach::everything}) {
          const std::vector<MemorySchedule> lowered = lower(world, reach);
          for (const bool in_place : {false, true}) {
            const Proof proof = verify(lowered, in_place);
            ASSERT_TRUE(proof.ok) << proof.counterexample << "\n" << layout.name;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace weft::comm
