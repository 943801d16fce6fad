#include "bench/tune/measure.h"

#include <algorithm>
#include <limits>
#include <span>

#include "bench/collectives/measure.h"
#include "comm/algorithms/algorithms.h"

namespace weft::bench {
namespace {

using comm::Collective;
using comm::Medium;
using comm::Sample;

// Another algorithm must be this much faster than the model's for the table to name it: less is
// noise.
constexpr double kWorthIt = 0.85;

std::vector<Collective> collectives(bool quick) {
  if (quick) return {Collective::all_reduce, Collective::broadcast};
  return {Collective::all_reduce, Collective::reduce,         Collective::broadcast,
          Collective::all_gather, Collective::reduce_scatter, Collective::gather,
          Collective::scatter};
}

bool shares_memory(Medium medium) { return medium == Medium::memory || medium == Medium::cuda; }

std::int64_t largest_of(Medium medium, bool quick) {
  if (quick) return 1 << 20;
  return medium == Medium::cuda ? 128 << 20 : 16 << 20;
}

std::vector<std::string_view> candidates(const comm::Problem& problem, Bytes bytes, Medium medium) {
  if (shares_memory(medium)) {
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

// The slowest rank's median, on a device its mean; the same on all ranks.
double time(Options options, Communicator& communicator, double budget, const DeviceCalls* device) {
  const auto run = [&](int warmup, int iterations) {
    options.warmup = warmup;
    options.iterations = iterations;
    const Row row = measure(
                        options, communicator, [](const Row&) {}, device)
                        .front();
    return (row.in_place ? *row.in_place : *row.out_of_place).microseconds * 1e-6;
  };
  const double once = run(2, 3);
  return run(1, static_cast<int>(std::clamp(budget / std::max(once, 1e-7), 5.0, 401.0)));
}

// Over ordinary and registered buffers, as choose_on_memory() compares.
double mean_of(std::span<const Sample> group, std::string_view algorithm) {
  double sum = 0;
  int count = 0;
  for (const Sample& sample : group) {
    if (sample.algorithm != algorithm) continue;
    sum += sample.seconds;
    ++count;
  }
  return sum / count;
}

Options options_for(Collective collective, std::int64_t bytes, std::string_view algorithm,
                    const DeviceCalls* device) {
  Options options;
  options.collective = name_of(collective);
  options.min_bytes = options.max_bytes = Bytes(bytes);
  options.algorithm = algorithm;
  options.check = false;
  options.on_cuda = device != nullptr;
  options.blocking = device == nullptr;
  return options;
}

// The largest contribution that is faster with its flag beside it than as a program that everybody
// runs, and so is each smaller one.
double measure_small_bytes(Communicator& communicator, double budget, const DeviceCalls& device) {
  std::int64_t best = 0;
  for (std::int64_t bytes = 512; bytes <= device.cuda.small_limit().value; bytes *= 2) {
    const auto options = options_for(Collective::all_reduce, bytes, "direct", &device);
    const Bytes limit = device.cuda.small_limit();
    const double small = time(options, communicator, budget, &device);
    device.cuda.set_small_limit(Bytes(0));
    const double program = time(options, communicator, budget, &device);
    device.cuda.set_small_limit(limit);
    if (small >= program) break;
    best = bytes;
  }
  device.cuda.set_small_limit(Bytes(best));
  return static_cast<double>(best);
}

std::vector<Sample> measure_all(const TuneOptions& tune_options, Communicator& communicator,
                                Medium medium, double budget, const DeviceCalls* device) {
  std::vector<Sample> samples;
  const auto n = communicator.size();
  const std::int64_t largest = largest_of(medium, tune_options.quick);
  for (const Collective collective : collectives(tune_options.quick)) {
    for (std::int64_t bytes = 8 * n; bytes <= largest; bytes *= tune_options.quick ? 16 : 4) {
      const comm::Problem problem{collective, 0, n, 0};
      for (const std::string_view name : candidates(problem, Bytes(bytes), medium)) {
        Options options = options_for(collective, bytes, name, device);
        const bool one_shot = name == "direct" && collective == Collective::all_reduce;
        for (const bool registered : {false, true}) {
          if (registered && (!shares_memory(medium) || one_shot)) continue;
          options.registered = registered;
          samples.push_back({name, problem, Bytes(bytes),
                             time(options, communicator, budget, device), registered});
        }
      }
    }
  }
  return samples;
}

void fit(TuneResult& result, Medium medium, bool crowded) {
  comm::Tuning& tuning = result.tuning;
  if (shares_memory(medium)) {
    comm::SharedCosts& costs = medium == Medium::cuda ? tuning.cuda : tuning.shared;
    const bool waits_long = crowded && medium == Medium::memory;
    result.before = error_of(result.samples, waits_long, costs);
    costs = fit_shared(result.samples, waits_long, costs);
    result.after = error_of(result.samples, waits_long, costs);
  } else {
    comm::LinkCosts& costs = medium == Medium::tcp ? tuning.tcp : tuning.network;
    result.before = error_of(result.samples, costs);
    costs = fit_links(result.samples, costs);
    result.after = error_of(result.samples, costs);
  }
}

// Of samples of one collective and size: the model's choice, unless another was clearly faster.
std::string_view best_of(std::span<const Sample> group, std::string_view model) {
  std::string_view best = model;
  double best_seconds = std::numeric_limits<double>::infinity();
  for (const Sample& sample : group) {
    if (sample.algorithm == model) best_seconds = mean_of(group, model) * kWorthIt;
  }
  for (const Sample& sample : group) {
    const double seconds = mean_of(group, sample.algorithm);
    if (sample.algorithm == model || seconds >= best_seconds) continue;
    best = sample.algorithm;
    best_seconds = seconds;
  }
  return best;
}

// The tables; neighbours with one winner join.
void tabulate(TuneResult& result, Medium medium, bool crowded, bool quick, int n) {
  comm::Tuning& tuning = result.tuning;
  auto& tables = tuning.measured;
  std::erase_if(tables, [&](const comm::Measured& table) {
    return table.medium == medium && table.ranks == n;
  });
  for (std::size_t i = 0; i < result.samples.size();) {
    const Sample& first = result.samples[i];
    const Collective collective = first.problem.collective;
    const std::size_t from = i;
    while (i < result.samples.size() && result.samples[i].bytes == first.bytes &&
           result.samples[i].problem.collective == collective) {
      ++i;
    }
    const std::string_view best =
        best_of(std::span(result.samples).subspan(from, i - from),
                comm::choose_over(medium, first.problem, first.bytes, crowded, tuning).algorithm);
    // Half way, on a logarithmic scale, to the next size.
    const std::int64_t up_to = first.bytes.value * (quick ? 4 : 2);
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
}

}  // namespace

TuneResult tune(const TuneOptions& options, Communicator& communicator, Medium medium, bool crowded,
                const comm::Tuning& start, const DeviceCalls* device) {
  TuneResult result{start, {}, {}, {}};
  const double budget = options.quick ? 0.02 : 0.08;
  if (device != nullptr) {
    result.tuning.cuda_small_bytes = measure_small_bytes(communicator, budget, *device);
  }
  result.samples = measure_all(options, communicator, medium, budget, device);
  fit(result, medium, crowded);
  tabulate(result, medium, crowded, options.quick, communicator.size());
  return result;
}

}  // namespace weft::bench
