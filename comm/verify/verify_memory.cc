#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "comm/verify/memory_world.h"
#include "comm/verify/verify.h"
#include "kernels/base/check.h"

namespace weft::comm {

std::string MemoryWorld::text(StepRef ref) const {
  return fmt::format("rank {} step {}", ref.rank, print(step(ref), ref.id));
}

std::string MemoryWorld::around(StepRef ref) const {
  constexpr StepId kBefore = 4;
  constexpr StepId kAfter = 3;
  const auto end = static_cast<StepId>(schedule(ref.rank).steps.size());
  const StepId first = std::max(0, ref.id - kBefore);
  const StepId last = std::min(end, ref.id + kAfter + 1);
  std::string text = fmt::format("\n  rank {}:", ref.rank);
  for (StepId id = first; id < last; ++id) {
    fmt::format_to(std::back_inserter(text), "\n  {} {}", id == ref.id ? ">" : " ",
                   print(step({ref.rank, id}), id));
  }
  return text;
}

Proof verify(std::span<const MemorySchedule> schedules, bool in_place) {
  WEFT_ASSERT(!schedules.empty(), "a world has at least one rank");
  MemoryWorld world{schedules, in_place, {}};
  Proof proof;
  for (const MemorySchedule& schedule : schedules) {
    proof.steps += std::ssize(schedule.steps);
    proof.messages += std::ranges::count_if(
        schedule.steps, [](const MemoryStep& step) { return step.kind == MemoryStepKind::await; });
  }
  try {
    check_memory_schedules(world);
    check_memory_steps(world);
    run_in_memory(world);
    proof.ok = true;
  } catch (const Refuted& refuted) {
    const Problem& problem = world.problem();
    proof.counterexample =
        fmt::format("{} by {} through {}{}, {} ranks: {}", name_of(problem.collective),
                    schedules.front().algorithm, name_of(schedules.front().reach),
                    in_place ? " in place" : "", problem.world_size, refuted.counterexample);
  }
  return proof;
}

}  // namespace weft::comm
