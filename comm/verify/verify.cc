#include "comm/verify/verify.h"

#include <fmt/format.h>

#include "comm/verify/world.h"
#include "kernels/base/check.h"

namespace weft::comm {

std::string World::text(StepRef ref) const {
  return fmt::format("rank {} step {}", ref.rank, print(step(ref), ref.id));
}

Proof verify(std::span<const Schedule> schedules, const VerifyOptions& options) {
  WEFT_ASSERT(!schedules.empty(), "a world has at least one rank");
  WEFT_ASSERT(options.link_capacity >= 0, "a link holds no negative number of messages");
  World world{schedules, options, {}, {}, {}, {}};
  world.offsets.push_back(0);
  for (const Schedule& schedule : schedules) {
    world.offsets.push_back(world.offsets.back() + std::ssize(schedule.steps));
  }
  Proof proof;
  proof.steps = world.offsets.back();
  try {
    check_steps(world);
    match_messages(world);
    check_hazards(world);
    run_symbolically(world);
    proof.ok = true;
  } catch (const Refuted& refuted) {
    const Problem& problem = schedules.front().problem;
    proof.counterexample =
        fmt::format("{} by {}, {} ranks: {}", name_of(problem.collective),
                    schedules.front().algorithm, problem.world_size, refuted.counterexample);
  }
  proof.messages = std::ssize(world.messages);
  return proof;
}

}  // namespace weft::comm
