// weft plan: what training a model on so many ranks would take, before it is tried.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "comm/simulate/network.h"
#include "comm/simulate/simulator.h"
#include "kernels/base/error.h"
#include "launcher/commands/commands.h"
#include "launcher/commands/plan_options.h"
#include "launcher/commands/simulated_task.h"
#include "launcher/job/launch_error.h"
#include "tensor/memory_use.h"

namespace weft::launcher {
namespace {

namespace simulate = comm::simulate;
using parallel::PlannedCollective;
using parallel::Strategy;
using tensor::describe;

constexpr std::int64_t kMessages = 2'000'000;  // a collective: some seconds of simulation at most

comm::Collective collective_of(PlannedCollective::Kind kind) {
  switch (kind) {
    case PlannedCollective::Kind::all_reduce:
      return comm::Collective::all_reduce;
    case PlannedCollective::Kind::reduce_scatter:
      return comm::Collective::reduce_scatter;
    case PlannedCollective::Kind::all_gather:
      break;
  }
  return comm::Collective::all_gather;
}

struct TimedCollective {
  PlannedCollective planned;
  std::string algorithm;
  double seconds = 0;  // each
};

struct Outcome {
  PlannedModel model;
  Strategy strategy;
  parallel::MemoryPlanInput input;
  MemoryUse memory;
  parallel::Traffic traffic;
  std::vector<TimedCollective> collectives;
  double seconds() const {
    double sum = 0;
    for (const auto& one : collectives) sum += one.seconds * static_cast<double>(one.planned.times);
    return sum;
  }
};

std::vector<TimedCollective> time_collectives(const PlanOptions& o, const Outcome& outcome) {
  const auto network = network_of(o.network_file, o.ranks, o.ranks_per_host);
  std::vector<TimedCollective> timed;
  for (const auto& planned : parallel::plan_collectives(outcome.strategy, outcome.input)) {
    TaskWish wish;
    wish.collective = collective_of(planned.kind);
    wish.bytes = planned.bytes;
    wish.quick_messages = kMessages;
    const auto task = choose_task(wish, network).task;
    timed.push_back({planned, std::string(task.algorithm), simulate::run(task, network).seconds});
  }
  return timed;
}

Outcome work_out(const PlanOptions& o) {
  Outcome outcome;
  outcome.model = model_of(o);
  outcome.strategy = parallel::parse_strategy(o.strategy).value();  // the parser admits only these
  outcome.input.units = outcome.model.units;
  outcome.input.live_units = o.live_units;
  outcome.input.precision = amp::parse_precision(o.precision).value();
  outcome.input.ranks = o.ranks;
  outcome.input.accumulates = o.gradient_accumulation_steps > 1;
  if (outcome.model.has_shape) {
    const nn::StepShape step{o.batch_size, outcome.model.shape.block_size,
                             o.gradient_accumulation_steps > 1};
    const auto& shape = outcome.model.shape;
    const auto precision = outcome.input.precision;
    outcome.input.activations =
        nn::gpt_step_memory(shape, step, parallel::held_precision(outcome.strategy, outcome.input));
    outcome.input.step_alone =
        nn::gpt_step_memory(shape, step, precision, nn::GradientMemory::asked_for);
  }
  outcome.memory = parallel::plan_memory(outcome.strategy, outcome.input);
  outcome.traffic = parallel::plan_traffic(outcome.strategy, outcome.input);
  outcome.collectives = time_collectives(o, outcome);
  return outcome;
}

// Strategies whose peak a rank with so much memory could hold, in the order of their list.
std::vector<std::string> fitting(const PlanOptions& o, const Outcome& outcome) {
  std::vector<std::string> names;
  for (const auto& name : parallel::strategy_names()) {
    const auto use = parallel::plan_memory(*parallel::parse_strategy(name), outcome.input);
    if (use.peak.size() <= o.memory) names.push_back(name);
  }
  return names;
}

void print_memory(const Outcome& outcome) {
  const auto& use = outcome.memory;
  const auto row = [](const char* what, Bytes bytes) {
    fmt::print("  {:<13} {:>10}  {:>16}\n", what, describe(bytes), bytes.value);
  };
  fmt::print("memory a rank                    bytes\n");
  row("parameters", use.parameters);
  row("gradients", use.gradients);
  row("optimizer", use.optimizer);
  row("gathered", use.gathered);
  if (outcome.model.has_shape) {
    row("activations", use.activations);
  } else {
    fmt::print("  {:<13} {:>10}  not in the peak: give the model's shape for them\n", "activations",
               "unknown");
  }
  row("peak", use.peak);
  if (use.host > Bytes(0)) row("host memory", use.host);
}

void print_traffic(const PlanOptions& o, const Outcome& outcome) {
  if (o.ranks == 1) {
    fmt::print("traffic a step  none: one rank\n");
    return;
  }
  const auto elements = outcome.traffic.elements.value;
  fmt::print("traffic a step  {} elements ({} P), {} sent by each rank\n", elements,
             elements / outcome.model.parameters().value, describe(outcome.traffic.sent_by_rank));
  for (const auto& one : outcome.collectives) {
    fmt::print("  {:>5} x {:<14} of {:>9} by {:<17} {}\n", one.planned.times,
               comm::name_of(collective_of(one.planned.kind)), describe(one.planned.bytes),
               one.algorithm, time_text(one.seconds));
  }
  fmt::print(
      "  one after the other {}: what does not hide behind forward and backward is added "
      "to a step\n",
      time_text(outcome.seconds()));
}

void print_fit(const PlanOptions& o, const Outcome& outcome) {
  if (o.memory == 0) return;
  const auto has = Bytes(static_cast<std::int64_t>(o.memory));
  const bool fits = outcome.memory.peak <= has;
  fmt::print("in {:<12} {}\n", describe(has),
             fits ? fmt::format("fits, {} to spare", describe(has - outcome.memory.peak))
                  : fmt::format("does not fit: {} too much", describe(outcome.memory.peak - has)));
  const auto names = fitting(o, outcome);
  fmt::print("strategies that fit  {}\n",
             names.empty() ? "none" : fmt::format("{}", fmt::join(names, " ")));
}

void print_outcome(const PlanOptions& o, const Outcome& outcome) {
  fmt::print("{}\n", outcome.model.name);
  fmt::print("{} parameters, {} rank{}, {}, {}", outcome.model.parameters().value, o.ranks,
             o.ranks == 1 ? "" : "s", o.strategy, amp::name_of(outcome.input.precision));
  if (outcome.model.has_shape) {
    fmt::print(", {} sequence{} of {} a rank", o.batch_size, o.batch_size == 1 ? "" : "s",
               outcome.model.shape.block_size);
  }
  fmt::print("\n");
  print_memory(outcome);
  print_traffic(o, outcome);
  print_fit(o, outcome);
}

nlohmann::json json_of(const PlanOptions& o, const Outcome& outcome) {
  const auto& use = outcome.memory;
  nlohmann::json collectives = nlohmann::json::array();
  for (const auto& one : outcome.collectives) {
    collectives.push_back({{"collective", comm::name_of(collective_of(one.planned.kind))},
                           {"bytes", one.planned.bytes.value},
                           {"times", one.planned.times},
                           {"algorithm", one.algorithm},
                           {"time_us", one.seconds * 1e6}});
  }
  nlohmann::json document = {
      {"parameters", outcome.model.parameters().value},
      {"ranks", o.ranks},
      {"strategy", o.strategy},
      {"precision", amp::name_of(outcome.input.precision)},
      {"memory_bytes",
       {{"parameters", use.parameters.value},
        {"gradients", use.gradients.value},
        {"optimizer", use.optimizer.value},
        {"gathered", use.gathered.value},
        {"activations",
         outcome.model.has_shape ? nlohmann::json(use.activations.value) : nlohmann::json(nullptr)},
        {"peak", use.peak.value},
        {"host", use.host.value}}},
      {"traffic",
       {{"elements", outcome.traffic.elements.value},
        {"sent_by_rank_bytes", outcome.traffic.sent_by_rank.value},
        {"collectives", collectives},
        {"time_us", outcome.seconds() * 1e6}}}};
  if (o.memory > 0) {
    document["fits"] = use.peak.size() <= o.memory;
    document["strategies_that_fit"] = fitting(o, outcome);
  }
  return document;
}

int run_plan(const PlanOptions& o) {
  check_writable(o.json_file, "--json");
  const auto outcome = work_out(o);
  print_outcome(o, outcome);
  if (!o.json_file.empty()) write_json(o.json_file, json_of(o, outcome));
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace

Command add_plan_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "plan", "Say what memory a rank needs to train a model, and what its ranks send");
  const auto options = std::make_shared<PlanOptions>();
  declare_plan_options(*app, *options);
  return {app,
          [options] {
            try {
              return run_plan(*options);
            } catch (const InvalidArgument& error) {
              refuse(kExitUsage, "plan: {}", error.what());
            } catch (const Unsupported& error) {
              refuse(kExitUsage, "plan: {}", error.what());
            }
          },
          {}};
}

}  // namespace weft::launcher
