#include "bench/collectives/measure.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "bench/collectives/subject.h"
#include "kernels/cuda/runtime.h"

namespace weft::bench {

namespace cuda = kernels::cuda;

namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

double slowest(double mine, Communicator& communicator) {
  std::array<double, 1> value{mine};
  communicator.all_reduce(std::span(value), ReduceOp::max);
  return value[0];
}

double median(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Every iteration starts together and counts as long as its slowest rank took.
double time_blocking(Subject& subject, bool in_place, const Options& options,
                     Communicator& communicator) {
  for (int i = 0; i < options.warmup; ++i) subject.run(in_place);
  std::vector<double> times;
  for (int i = 0; i < options.iterations; ++i) {
    communicator.barrier();
    const auto start = Clock::now();
    subject.run(in_place);
    times.push_back(microseconds_since(start));
  }
  // Exchanged after the last one, so that the exchange does not warm or disturb what is timed.
  communicator.all_reduce(std::span(times), ReduceOp::max);
  return median(std::move(times));
}

double time_asynchronous(Subject& subject, bool in_place, const Options& options,
                         Communicator& communicator) {
  for (int i = 0; i < options.warmup; ++i) subject.run(in_place);
  std::vector<Work> works;
  works.reserve(static_cast<std::size_t>(options.iterations));
  communicator.barrier();
  const auto start = Clock::now();
  for (int i = 0; i < options.iterations; ++i) works.push_back(subject.start(in_place));
  for (const auto& work : works) work.wait();
  return slowest(microseconds_since(start), communicator) / options.iterations;
}

// The calls of all iterations in a graph, which is launched again and again.
double time_graph(Subject& subject, bool in_place, const Options& options,
                  Communicator& communicator) {
  for (int i = 0; i < std::max(options.warmup, 1); ++i) subject.run(in_place);
  const cuda::Stream stream = subject.device()->stream;
  cuda::begin_capture(stream);
  for (int i = 0; i < options.iterations; ++i) subject.start(in_place);
  const cuda::Graph graph(cuda::end_capture(stream));
  graph.launch(stream);  // the first launch uploads it
  cuda::wait_stream(stream);
  subject.device()->cuda.check();
  communicator.barrier();
  const auto start = Clock::now();
  for (int i = 0; i < options.graph_launches; ++i) graph.launch(stream);
  cuda::wait_stream(stream);
  const double mine = microseconds_since(start);
  subject.device()->cuda.check();
  // Nobody destroys a graph that others wait for.
  return slowest(mine, communicator) / options.iterations / options.graph_launches;
}

std::int64_t count_wrong(Subject& subject, bool in_place, Communicator& communicator) {
  subject.fill(in_place);
  subject.run(in_place);
  std::array<std::int64_t, 1> wrong{subject.wrong(in_place)};
  communicator.all_reduce(std::span(wrong), ReduceOp::sum);
  return wrong[0];
}

Timing time_one(Subject& subject, bool in_place, const Options& options,
                Communicator& communicator) {
  subject.fill(in_place);
  Timing timing;
  const auto time = options.graph_launches > 0 ? time_graph
                    : options.blocking         ? time_blocking
                                               : time_asynchronous;
  timing.microseconds = time(subject, in_place, options, communicator);
  timing.algorithm_gbps = static_cast<double>(subject.size().value) / (timing.microseconds * 1e3);
  timing.bus_gbps = timing.algorithm_gbps * subject.kind().bus_factor(communicator.size());
  if (options.check) timing.wrong = count_wrong(subject, in_place, communicator);
  return timing;
}

std::vector<Bytes> sizes(const Options& options) {
  if (options.collective == "barrier") return {Bytes(0)};
  std::vector<Bytes> all;
  for (Bytes size = options.min_bytes; size <= options.max_bytes;) {
    all.push_back(size);
    if (options.step_bytes.value > 0) {
      size += options.step_bytes;
    } else {
      size = Bytes(std::max<std::int64_t>(size.value * options.factor, 1));
    }
  }
  return all;
}

}  // namespace

std::vector<Row> measure(const Options& options, Communicator& communicator,
                         const std::function<void(const Row&)>& on_row, const DeviceCalls* device) {
  std::vector<Row> rows;
  for (const auto size : sizes(options)) {
    // Around it, so that no rank allocates or frees while another's kernel waits for it.
    Subject subject(options, size, communicator, device);
    // Rounded down to whole elements, sizes may be one.
    const bool again = !rows.empty() && subject.size() == rows.back().size;
    if (again && device == nullptr) continue;
    if (device != nullptr) communicator.barrier();
    if (again) continue;
    Row row{subject.size(), subject.count(), std::nullopt, std::nullopt};
    const auto& kind = subject.kind();
    if (kind.out_of_place) row.out_of_place = time_one(subject, false, options, communicator);
    if (kind.in_place) row.in_place = time_one(subject, true, options, communicator);
    if (communicator.rank() == 0) on_row(row);
    rows.push_back(row);
    if (device != nullptr) communicator.barrier();
  }
  return rows;
}

}  // namespace weft::bench
