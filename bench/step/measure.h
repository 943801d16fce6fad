// Times training steps: forward, backward with its all-reduce, clipping, AdamW.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/step/options.h"
#include "launcher/fabric.h"

namespace weft::bench {

struct StepTimes {
  std::vector<double> seconds;  // of each step; a step lasts as long as its slowest rank's
  double first_loss = 0, last_loss = 0;
  std::int64_t parameters = 0;
  double flops_per_token = 0;
  double peak_flops = 0;  // a second and rank: what a matrix product of the same type reaches

  double median() const;
};

// Collective. Steps are timed one by one, the device drained before and after each.
StepTimes measure_steps(const StepOptions& options, Fabric& fabric);

}  // namespace weft::bench
