// Kernels that move memory, beside a plain copy: reduce, cast, AdamW, norms. Bytes are those that
// the arithmetic must read and write.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/base/thread_pool.h"
#include "kernels/cast.h"
#include "kernels/optimizer.h"
#include "kernels/reduce.h"

namespace {

using namespace weft;

void report(benchmark::State& state, std::int64_t bytes) {
  state.SetBytesProcessed(state.iterations() * bytes);
}

std::vector<std::byte> memory(std::int64_t bytes) {
  return std::vector<std::byte>(static_cast<std::size_t>(bytes), std::byte{0});
}

void copy(benchmark::State& state) {  // reads and writes range(0) bytes
  const std::int64_t bytes = state.range(0);
  const auto from = memory(bytes);
  auto to = memory(bytes);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), to.size());
    benchmark::ClobberMemory();
  }
  report(state, 2 * bytes);
}
BENCHMARK(copy)->Arg(64 << 10)->Arg(1 << 20)->Arg(64 << 20);

// What a compiler makes of the same sum: the yardstick for reduce.
void triad(benchmark::State& state) {
  const auto count = static_cast<std::size_t>(state.range(0) / 4);
  std::vector<float> a(count), b(count), c(count);
  for (auto _ : state) {
    for (std::size_t i = 0; i < count; ++i) c[i] = a[i] + b[i];
    benchmark::DoNotOptimize(c.data());
    benchmark::ClobberMemory();
  }
  report(state, 3 * state.range(0));
}
BENCHMARK(triad)->Arg(64 << 10)->Arg(1 << 20)->Arg(64 << 20);

template <DType kDType>
void reduce(benchmark::State& state) {  // range: bytes of one buffer, inputs; out of place
  const std::int64_t bytes = state.range(0);
  const auto inputs = static_cast<std::size_t>(state.range(1));
  std::vector<std::vector<std::byte>> buffers(inputs, memory(bytes));
  std::vector<const void*> pointers;
  for (const auto& buffer : buffers) pointers.push_back(buffer.data());
  auto out = memory(bytes);
  const Elems count(bytes / size_of(kDType).value);
  for (auto _ : state) {
    kernels::reduce(out.data(), pointers, count, kDType, ReduceOp::sum);
    benchmark::ClobberMemory();
  }
  report(state, bytes * (state.range(1) + 1));
}
BENCHMARK(reduce<DType::f32>)->ArgsProduct({{1 << 10, 64 << 10, 1 << 20, 64 << 20}, {2, 4}});
BENCHMARK(reduce<DType::bf16>)->ArgsProduct({{64 << 10, 64 << 20}, {2, 4}});
BENCHMARK(reduce<DType::f16>)->ArgsProduct({{64 << 10, 64 << 20}, {2}});
BENCHMARK(reduce<DType::f32>)->Args({64, 2});

template <DType kTo, DType kFrom>
void cast(benchmark::State& state) {
  const Elems count(state.range(0));
  const auto from = memory(bytes_of(count, kFrom).value);
  auto to = memory(bytes_of(count, kTo).value);
  for (auto _ : state) {
    kernels::cast(to.data(), kTo, from.data(), kFrom, count);
    benchmark::ClobberMemory();
  }
  report(state, (bytes_of(count, kFrom) + bytes_of(count, kTo)).value);
}
BENCHMARK(cast<DType::bf16, DType::f32>)->Arg(16 << 10)->Arg(16 << 20);
BENCHMARK(cast<DType::f32, DType::bf16>)->Arg(16 << 10)->Arg(16 << 20);
BENCHMARK(cast<DType::f16, DType::f32>)->Arg(16 << 10)->Arg(16 << 20);
BENCHMARK(cast<DType::f32, DType::f64>)->Arg(16 << 10)->Arg(16 << 20);

void adamw(benchmark::State& state) {  // f32 parameters and gradients, on the whole pool
  const auto count = static_cast<std::size_t>(state.range(0));
  std::vector<float> p(count), g(count), m(count), v(count);
  const kernels::AdamTensor tensor{p.data(), g.data(), m.data(),
                                   v.data(), nullptr,  Elems(state.range(0))};
  for (auto _ : state) kernels::adam({&tensor, 1}, {});
  report(state, 7 * 4 * state.range(0));
}
BENCHMARK(adamw)->Arg(1 << 16)->Arg(16 << 20)->UseRealTime();

void squared_norm(benchmark::State& state) {
  std::vector<float> g(static_cast<std::size_t>(state.range(0)));
  const kernels::FlatTensor tensor{g.data(), Elems(state.range(0))};
  for (auto _ : state) benchmark::DoNotOptimize(kernels::squared_norm({&tensor, 1}));
  report(state, 4 * state.range(0));
}
BENCHMARK(squared_norm)->Arg(1 << 16)->Arg(16 << 20)->UseRealTime();

void fork_and_join(benchmark::State& state) {  // an empty parallel_for
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    pool.parallel_for(state.range(0), 1,
                      [](std::int64_t begin, std::int64_t) { benchmark::DoNotOptimize(begin); });
  }
}
BENCHMARK(fork_and_join)->Arg(1)->Arg(2)->UseRealTime();

}  // namespace
