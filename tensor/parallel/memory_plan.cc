#include "tensor/parallel/memory_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/base/error.h"
#include "tensor/parallel/ddp.h"
#include "tensor/parallel/zero_layout.h"

namespace weft::parallel {
namespace {

const std::vector<Strategy>& strategies() {
  using enum Sharding;
  static const std::vector<Strategy> all = {
      {"auto", none, false},
      {"ddp", none, false},
      {"dp", none, false},
      {"ddp_find_unused_parameters_true", none, false},
      {"fsdp", parameters, false},
      {"deepspeed", gradients, false},
      {"deepspeed_stage_1", optimizer, false},
      {"deepspeed_stage_2", gradients, false},
      {"deepspeed_stage_3", parameters, false},
      {"fsdp_offload", parameters, true},
      {"deepspeed_offload", gradients, true},
      {"deepspeed_stage_1_offload", optimizer, true},
      {"deepspeed_stage_2_offload", gradients, true},
      {"deepspeed_stage_3_offload", parameters, true},
  };
  return all;
}

constexpr std::int64_t kParametersMax = std::int64_t{1} << 53;  // times bytes: below 2^62

std::int64_t total_of(const MemoryPlanInput& input) {
  if (input.units.empty() || input.ranks < 1 || input.live_units < 1) {
    fail<InvalidArgument>(
        "plan: expected units, and at least 1 rank and 1 live unit, found {}, {} and {}",
        input.units.size(), input.ranks, input.live_units);
  }
  std::int64_t total = 0;
  for (const auto unit : input.units) {
    if (unit < Elems(0) || unit.value > kParametersMax - total) {
      fail<InvalidArgument>("plan: units of {} parameters and before them {} are out of range",
                            unit.value, total);
    }
    total += unit.value;
  }
  return total;
}

// A part of `count`, as the largest rank holds it.
std::int64_t share(std::int64_t count, int ranks) { return (count + ranks - 1) / ranks; }

// The first unit, and as many of the largest others as are whole at a time.
std::int64_t live_elements(const MemoryPlanInput& input, int live_units) {
  auto others = std::vector(input.units.begin() + 1, input.units.end());
  std::sort(others.begin(), others.end(), std::greater<>());
  if (others.size() > static_cast<std::size_t>(live_units)) {
    others.resize(static_cast<std::size_t>(live_units));
  }
  return std::accumulate(others.begin(), others.end(), input.units.front()).value;
}

using Kind = PlannedCollective::Kind;
using Counted = std::map<std::pair<Kind, std::int64_t>, std::int64_t>;

// DDP's, as make_buckets() closes them: about, since parameters are not cut.
void count_buckets(Counted& counted, std::int64_t bytes) {
  const DdpOptions sizes;
  const auto first = std::min(bytes, sizes.first_bucket_bytes.value);
  const auto rest = sizes.bucket_bytes.value;
  if (first > 0) ++counted[{Kind::all_reduce, first}];
  if (const auto whole = (bytes - first) / rest; whole > 0) {
    counted[{Kind::all_reduce, rest}] += whole;
  }
  if (const auto last = (bytes - first) % rest; last > 0) ++counted[{Kind::all_reduce, last}];
}

}  // namespace

std::optional<Strategy> parse_strategy(std::string_view name) {
  for (const auto& strategy : strategies()) {
    if (strategy.name == name) return strategy;
  }
  return std::nullopt;
}

const std::vector<std::string>& strategy_names() {
  static const auto names = [] {
    std::vector<std::string> all;
    for (const auto& strategy : strategies()) all.push_back(strategy.name);
    return all;
  }();
  return names;
}

ParameterCosts adam_costs(amp::Precision precision) {
  const auto type = amp::policy_of(precision).parameters;
  const auto bytes = size_of(type).value;
  if (!is_half(type)) return {bytes, bytes, 2 * bytes};
  return {bytes, bytes, 3 * size_of(DType::f32).value};
}

amp::Precision held_precision(const Strategy& strategy, const MemoryPlanInput& input) {
  if (strategy.sharding == Sharding::none || input.ranks == 1) return input.precision;
  if (input.precision == amp::Precision::mixed_16) return amp::Precision::true_16;
  if (input.precision == amp::Precision::mixed_bf16) return amp::Precision::true_bf16;
  return input.precision;
}

MemoryUse plan_memory(const Strategy& strategy, const MemoryPlanInput& input) {
  const auto total = total_of(input);
  const auto precision = held_precision(strategy, input);
  const auto costs = adam_costs(precision);
  const auto part = share(total, input.ranks);
  const auto held = [&](Sharding from) { return strategy.sharding >= from ? part : total; };
  MemoryUse use;
  use.parameters = Bytes(held(Sharding::parameters) * costs.parameter);
  use.gradients = Bytes(held(Sharding::gradients) * costs.gradient);
  if (precision != input.precision && input.precision == amp::Precision::mixed_16) {
    const auto average = size_of(DType::f32).value;
    use.gradients =
        Bytes(strategy.sharding == Sharding::optimizer ? total * costs.gradient + part * average
                                                       : part * average);
  }
  use.optimizer = Bytes(held(Sharding::optimizer) * costs.optimizer);
  if (input.ranks > 1 && strategy.sharding >= Sharding::gradients) {
    use.gathered += Bytes(live_elements(input, kGradientUnits) * costs.gradient);
    if (input.accumulates) use.gathered += Bytes(total * costs.gradient);
  }
  if (input.ranks > 1 && strategy.sharding >= Sharding::parameters) {
    use.gathered += Bytes(live_elements(input, input.live_units) * costs.parameter);
  }
  use.activations = input.activations;
  if (strategy.offload) {
    use.host = use.optimizer;
    use.optimizer = Bytes(0);
    if (strategy.sharding == Sharding::parameters) {
      use.host += use.parameters;
      use.parameters = Bytes(0);
    }
  }
  if (input.ranks == 1 && input.step_alone > Bytes(0)) {
    use.activations = std::max(Bytes(0), input.step_alone - use.gradients);
  }
  use.peak = use.state() + use.gathered + use.activations;
  return use;
}

std::vector<PlannedCollective> plan_collectives(const Strategy& strategy,
                                                const MemoryPlanInput& input) {
  const auto total = total_of(input);
  if (input.ranks == 1) return {};
  const auto costs = adam_costs(held_precision(strategy, input));
  Counted counted;
  if (strategy.sharding == Sharding::none) {
    count_buckets(counted, total * costs.gradient);
  } else {
    const std::int64_t gathers = strategy.sharding == Sharding::parameters ? 2 : 1;
    for (const auto unit : input.units) {
      if (unit == Elems(0)) continue;
      const auto padded = share(unit.value, input.ranks) * input.ranks;
      ++counted[{Kind::reduce_scatter, padded * costs.gradient}];
      counted[{Kind::all_gather, padded * costs.parameter}] += gathers;
    }
  }
  std::vector<PlannedCollective> all;
  for (const auto& [what, times] : counted) {
    all.push_back({what.first, Bytes(what.second), times});
  }
  return all;
}

Traffic plan_traffic(const Strategy& strategy, const MemoryPlanInput& input) {
  const auto total = total_of(input);
  if (input.ranks == 1) return {Elems(0), Bytes(0)};
  const auto costs = adam_costs(held_precision(strategy, input));
  const std::int64_t gathers = strategy.sharding == Sharding::parameters ? 2 : 1;
  const auto bytes = total * costs.gradient + gathers * total * costs.parameter;
  return {Elems((1 + gathers) * total), Bytes(bytes / input.ranks * (input.ranks - 1))};
}

}  // namespace weft::parallel
