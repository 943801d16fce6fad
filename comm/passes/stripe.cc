#include <map>
#include <utility>

#include "comm/passes/passes.h"
#include "kernels/base/check.h"

namespace weft::comm {

Schedule stripe(const Schedule& schedule, int lanes) {
  WEFT_ASSERT(lanes >= 1, "at least one lane");
  if (lanes == 1) return schedule;
  WEFT_ASSERT(schedule.lanes == 1, "a schedule is striped once");
  Schedule result = schedule;
  result.lanes = lanes;
  // The k-th message of a pair takes lane k mod lanes. Both ends count alike, whatever their steps
  // look like.
  std::map<std::int32_t, std::int32_t> sent;
  std::map<std::int32_t, std::int32_t> received;
  for (Step& step : result.steps) {
    if (receives(step.kind)) step.lane = received[step.peer]++ % lanes;
    if (step.kind == StepKind::send) step.lane = sent[step.peer]++ % lanes;
    if (is_fused(step.kind)) step.send_lane = sent[step.send_peer]++ % lanes;
  }
  return result;
}

}  // namespace weft::comm
