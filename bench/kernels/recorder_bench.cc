// What the flight recorder and the timeline cost: docs/trace.md.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <thread>

#include "comm/communicator.h"
#include "comm/environment.h"
#include "comm/trace/trace.h"

namespace {

using namespace weft;  // NOLINT: a program, not a library
using comm::trace::State;

void BM_Ticks(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(comm::trace::ticks());
}
BENCHMARK(BM_Ticks);

// Begin and end of one operation; range(0): whether times are given (1), or read twice (0).
void BM_Record(benchmark::State& state) {
  comm::trace::Trace trace;
  comm::trace::CallFields call;
  call.bytes = 8;
  const bool given = state.range(0) != 0;
  comm::trace::Ticks now = 1;
  for (auto _ : state) {
    ++call.sequence;
    const auto slot =
        given ? trace.begin(call, State::running, ++now) : trace.begin(call, State::running);
    trace.end(slot, State::complete);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_Record)->Arg(0)->Arg(1);

// 8 bytes among threads; range(0): ranks, range(1): 0 records nothing, 1 records, 2 draws a
// timeline.
void BM_AllReduce8B(benchmark::State& state) {
  const auto ranks = static_cast<int>(state.range(0));
  setenv(comm::env::kFlightRecorder, state.range(1) == 0 ? "off" : "", 1);
  setenv(comm::env::kTimeline, state.range(1) == 2 ? "/tmp" : "", 1);
  auto world = Communicator::in_process(ranks);
  unsetenv(comm::env::kFlightRecorder);
  unsetenv(comm::env::kTimeline);
  std::vector<std::thread> others;
  const auto call = [](comm::Communicator& mine, float* data) {
    mine.all_reduce(std::span<float>(data, 2), ReduceOp::max);
  };
  // data[0] says that it is over.
  for (int r = 1; r < ranks; ++r) {
    others.emplace_back([&, r] {
      for (float data[2] = {0, 1}; data[0] == 0;) call(world[static_cast<std::size_t>(r)], data);
    });
  }
  for (auto _ : state) {
    float data[2] = {0, 1};
    call(world[0], data);
  }
  float over[2] = {1, 1};
  call(world[0], over);
  for (auto& other : others) other.join();
}
BENCHMARK(BM_AllReduce8B)
    ->ArgsProduct({{1, 2}, {0, 1, 2}})
    ->ArgNames({"ranks", "trace"})
    ->UseRealTime();

}  // namespace
