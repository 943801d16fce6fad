// Matrix products of a training step: the shapes of nanoGPT's CPU setting and of a 384-wide model,
// and of OpenBLAS alone. Rates are in FLOP/s.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "kernels/gemm.h"

namespace {

using weft::DType;
using namespace weft::kernels;

struct Case {
  const char* name;
  std::int64_t m, n, k;
  Transpose ta, tb;
  Epilogue epilogue;
};

constexpr auto kNo = Transpose::no;
constexpr auto kYes = Transpose::yes;
const Case kCases[] = {
    {"2048x1536x384 nn", 2048, 1536, 384, kNo, kNo, Epilogue::none},
    {"2048x1536x384 nt", 2048, 1536, 384, kNo, kYes, Epilogue::none},
    {"2048x1536x384 nt bias", 2048, 1536, 384, kNo, kYes, Epilogue::bias},
    {"2048x1536x384 nt bias_gelu", 2048, 1536, 384, kNo, kYes, Epilogue::bias_gelu},
    {"2048x384x1536 nn", 2048, 384, 1536, kNo, kNo, Epilogue::none},
    {"2048x384x1536 nt", 2048, 384, 1536, kNo, kYes, Epilogue::none},
    {"384x1536x2048 tn", 384, 1536, 2048, kYes, kNo, Epilogue::none},
    {"2048x1152x384 nt", 2048, 1152, 384, kNo, kYes, Epilogue::none},
    {"768x128x384 nn", 768, 128, 384, kNo, kNo, Epilogue::none},
    {"768x384x128 nt", 768, 384, 128, kNo, kYes, Epilogue::none},
    {"128x512x768 tn", 128, 512, 768, kYes, kNo, Epilogue::none},
    {"768x65x128 nt", 768, 65, 128, kNo, kYes, Epilogue::none},
    {"64x64x32 nt", 64, 64, 32, kNo, kYes, Epilogue::none},
};

template <DType kDType>
void gemm_case(benchmark::State& state) {
  const Case& c = kCases[state.range(0)];
  const auto bytes = static_cast<std::size_t>(weft::size_of(kDType).value);
  std::vector<std::byte> a(static_cast<std::size_t>(c.m * c.k) * bytes);
  std::vector<std::byte> b(static_cast<std::size_t>(c.k * c.n) * bytes);
  std::vector<std::byte> out(static_cast<std::size_t>(c.m * c.n) * bytes), pre(out.size());
  std::vector<std::byte> bias(static_cast<std::size_t>(c.n) * bytes);
  Gemm g;
  g.dtype = kDType;
  g.transpose_a = c.ta;
  g.transpose_b = c.tb;
  g.m = c.m;
  g.n = c.n;
  g.k = c.k;
  g.a = a.data();
  g.lda = c.ta == kYes ? c.m : c.k;
  g.b = b.data();
  g.ldb = c.tb == kYes ? c.k : c.n;
  g.c = out.data();
  g.ldc = c.n;
  for (auto _ : state) {
    gemm(g, c.epilogue, bias.data(), pre.data());
    benchmark::ClobberMemory();
  }
  state.SetLabel(c.name);
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * static_cast<double>(c.m * c.n * c.k),
                                                benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(gemm_case<DType::f32>)->DenseRange(0, 12)->UseRealTime();
BENCHMARK(gemm_case<DType::bf16>)->DenseRange(0, 1)->UseRealTime();

void attention_batch(benchmark::State& state) {  // 48 heads of 64 x 32
  const std::int64_t batch = 48, t = 64, d = 32;
  std::vector<float> q(static_cast<std::size_t>(batch * t * d)), k(q.size());
  std::vector<float> out(static_cast<std::size_t>(batch * t * t));
  Gemm g;
  g.transpose_b = kYes;
  g.m = t;
  g.n = t;
  g.k = d;
  g.a = q.data();
  g.lda = d;
  g.b = k.data();
  g.ldb = d;
  g.c = out.data();
  g.ldc = t;
  for (auto _ : state) gemm_batched(g, batch, t * d, t * d, t * t);
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * static_cast<double>(batch * t * t * d),
                                                benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(attention_batch)->UseRealTime();

}  // namespace
