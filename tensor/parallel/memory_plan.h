// What a way of sharing out a model costs a rank, worked out from its size: memory between and
// during steps, and what a step sends. docs/plan.md derives it; the shares are those of Rajbhandari
// et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", SC 2020.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/units.h"
#include "tensor/amp/precision.h"
#include "tensor/memory_use.h"

namespace weft::parallel {

// What is split over the ranks; each stage also what the stages before it split.
enum class Sharding : std::uint8_t { none, optimizer, gradients, parameters };

struct Strategy {
  std::string name;  // as the user said it
  Sharding sharding = Sharding::none;
  bool offload = false;  // optimizer state, and with split parameters those too, in host memory
};
// The names that `--strategy` takes: auto, ddp, dp, ddp_find_unused_parameters_true, fsdp,
// deepspeed (stage 2), deepspeed_stage_1, _2, _3, and the last five with _offload.
std::optional<Strategy> parse_strategy(std::string_view name);
const std::vector<std::string>& strategy_names();

// Bytes a parameter, with Adam.
//                          parameter  gradient  optimizer (moments; master of halves)
//   32-true, *-mixed (ddp)     4         4         8
//   64-true                    8         8        16
//   16-true, bf16-true         2         2        12
//   *-mixed under ZeRO         2         2        12     averages of f16 gradients 4
struct ParameterCosts {
  std::int64_t parameter = 4;
  std::int64_t gradient = 4;
  std::int64_t optimizer = 8;
  std::int64_t all() const { return parameter + gradient + optimizer; }
};
ParameterCosts adam_costs(amp::Precision precision);

struct MemoryPlanInput {
  // Parameters of each unit: first what belongs to none and stays gathered, then those of which
  // `live_units` are whole at a time. Of their gradients two units are: one that fills, one that is
  // on its way.
  std::vector<Elems> units;
  int live_units = 2;
  Bytes activations;  // of a step beside gradients (nn::gpt_step_memory, for one)
  // On one rank gradients come and go with backward: the most that these and activations take
  // together, of which what is beyond gradients counts as activations then. 0: not known.
  Bytes step_alone;
  amp::Precision precision = amp::Precision::true_32;
  int ranks = 1;
  // Gradients of several micro-batches add up on each rank before they are shared out: whole,
  // whatever the strategy.
  bool accumulates = false;
};
// What a step computes in: where ranks share out state, the mixed precisions keep parameters and
// gradients as the true halves do, and the shares that are updated in f32.
amp::Precision held_precision(const Strategy& strategy, const MemoryPlanInput& input);
// InvalidArgument where there are no units, ranks or live units, or sizes leave 64 bits.
MemoryUse plan_memory(const Strategy& strategy, const MemoryPlanInput& input);

// A collective of a step and how often it runs.
struct PlannedCollective {
  enum class Kind : std::uint8_t { all_reduce, reduce_scatter, all_gather };
  Kind kind;
  Bytes bytes;  // of the whole buffer: the wide side
  std::int64_t times;
};
// Gradients travel as they are (no compression), buckets and units as DDP and ZeRO cut them. Empty
// on one rank.
std::vector<PlannedCollective> plan_collectives(const Strategy& strategy,
                                                const MemoryPlanInput& input);

// What a step moves: an all-reduce counts twice, being a reduce-scatter and an all-gather. 2P
// without sharding and with stages 1 and 2; 3P with stage 3.
struct Traffic {
  Elems elements;      // as above, as the paper counts
  Bytes sent_by_rank;  // (N - 1) / N of that, in bytes
};
Traffic plan_traffic(const Strategy& strategy, const MemoryPlanInput& input);

}  // namespace weft::parallel
