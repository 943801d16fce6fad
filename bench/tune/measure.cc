#include "bench/tune/measure.h"

#include <algorithm>
#include <limits>

#include "bench/collectives/measure.h"
#include "comm/algorithms/algorithms.h"

namespace weft::bench {
namespace {

using comm::Collective;
using comm::Medium;
using comm::Sample;

// Another algorithm must be this much faster than the model's for the table to name it: less is
// noise.
constexpr double kWorthIt = 0.93;
constexpr std::int64_t kLargest = 16 << 20;
constexpr std::int64_t kLargestQuick = 1 << 20;

std::vector<Collective> collectives(bool quick) {
  if (quick) return {Collective::all_reduce, Collective::broadcast};
  return {Collective::all_reduce, Collective::reduce,         Collective::broadcast,
          Collective::all_gather, Collective::reduce_scatter, Collective::gather,
          Collective::scatter};
}

std::vector<std::string_view> candidates(const comm::Problem& problem, Bytes bytes, Medium medium) {
  if (medium == Medium::memory) {
    const auto all = comm::candidates_on_memory(problem);
    return {all.begin(), all.end()};
  }
  std::vector<std::string_view> names;
  for (const auto& algorithm : comm::algorithms()) {
    if (algorithm.name != "hierarchical" && algorithm.supports(problem) &&
        comm::fits_scratch(algorithm.name, problem, bytes)) {
      names.push_back(algorithm.name);
    }
  }
  return names;
}

// The slowest rank's median; the same on all ranks.
double time(Options options, Communicator& communicator, double budget) {
  const auto run = [&](int warmup, int iterations) {
    options.warmup = warmup;
    options.iterations = iterations;
    const Row row = measure(options, communicator, [](const Row&) {}).front();
    return (row.in_place ? *row.in_place : *row.out_of_place).microseconds * 1e-6;
  };
  const double once = run(2, 3);
  return run(1, static_cast<int>(std::clamp(budget / std::max(once, 1e-7), 5.0, 401.0)));
}

}  // namespace

TuneResult tune(const TuneOptions& tune_options, Communicator& communicator, Medium medium,
                bool crowded, const comm::Tuning& start) {
  TuneResult result{start, {}, {}, {}};
  const double budget = tune_options.quick ? 0.02 : 0.08;
  const auto n = communicator.size();
  for (const Collective collective : collectives(tune_options.quick)) {
    const std::int64_t largest = tune_options.quick ? kLargestQuick : kLargest;
    for (std::int64_t bytes = 8 * n; bytes <= largest; bytes *= tune_options.quick ? 16 : 4) {
      const comm::Problem problem{collective, 0, n, 0};
      for (const std::string_view name : candidates(problem, Bytes(bytes), medium)) {
        Options options;
        options.collective = name_of(collective);
        options.min_bytes = options.max_bytes = Bytes(bytes);
        options.algorithm = name;
        options.check = false;
        const bool one_shot = name == "direct" && collective == Collective::all_reduce;
        for (const bool registered : {false, true}) {
          if (registered && (medium != Medium::memory || one_shot)) continue;
          options.registered = registered;
          result.samples.push_back(
              {name, problem, Bytes(bytes), time(options, communicator, budget), registered});
        }
      }
    }
  }
  comm::Tuning& tuning = result.tuning;
  if (medium == Medium::memory) {
    result.before = error_of(result.samples, crowded, tuning.shared);
    tuning.shared = fit_shared(result.samples, crowded, tuning.shared);
    result.after = error_of(result.samples, crowded, tuning.shared);
  } else {
    comm::LinkCosts& costs = medium == Medium::tcp ? tuning.tcp : tuning.network;
    result.before = error_of(result.samples, costs);
    costs = fit_links(result.samples, costs);
    result.after = error_of(result.samples, costs);
  }
  std::erase_if(tuning.measured, [&](const comm::Measured& table) {
    return table.medium == medium && table.ranks == n;
  });
  // The model's choice stands unless another was clearly faster; neighbours with one winner join.
  for (std::size_t i = 0; i < result.samples.size();) {
    const Sample& first = result.samples[i];
    const Collective collective = first.problem.collective;
    const std::string_view model =
        medium == Medium::memory
            ? comm::choose_on_memory(first.problem, first.bytes, crowded, tuning)
            : comm::choose(first.problem, first.bytes, 1, medium, tuning).algorithm;
    std::string_view best = model;
    double best_seconds = std::numeric_limits<double>::infinity();
    const std::size_t from = i;
    for (; i < result.samples.size() && result.samples[i].bytes == first.bytes &&
           result.samples[i].problem.collective == collective;
         ++i) {
      const Sample& sample = result.samples[i];
      if (!sample.registered && sample.algorithm == model) best_seconds = sample.seconds * kWorthIt;
    }
    for (std::size_t k = from; k < i; ++k) {
      const Sample& sample = result.samples[k];
      if (sample.registered || sample.algorithm == model || sample.seconds >= best_seconds)
        continue;
      best = sample.algorithm;
      best_seconds = sample.seconds;
    }
    // Half way, on a logarithmic scale, to the next size.
    const std::int64_t up_to = first.bytes.value * (tune_options.quick ? 4 : 2);
    auto& tables = result.tuning.measured;
    if (tables.empty() || tables.back().medium != medium || tables.back().ranks != n ||
        tables.back().collective != collective) {
      tables.push_back({medium, collective, n, {}});
    }
    auto& entries = tables.back().entries;
    if (!entries.empty() && entries.back().algorithm == best) {
      entries.back().up_to_bytes = up_to;
    } else {
      entries.push_back({up_to, best});
    }
  }
  return result;
}

}  // namespace weft::bench
