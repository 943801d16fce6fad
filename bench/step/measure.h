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
  std::int64_t graph_launches = 0;  // steps that a CUDA graph made, warm-up included
  std::int64_t parameters = 0;
  double flops_per_token = 0;
  double peak_flops = 0;  // a second and rank: what a matrix product of the same type reaches

  double median() const;
};

// Collective. Steps are timed one by one, the device drained before and after each. With
// options.graph the step is a CUDA graph, captured in the third (at least as many warm-up steps are
// made); InvalidArgument where it is not on cuda.
StepTimes measure_steps(const StepOptions& options, Fabric& fabric);

}  // namespace weft::bench
