// The CUDA kernels over lists beside a copy on the same device: casts, scaling, norms, optimizer
// steps, reductions. Time is the device's, between two events; bytes are those that the arithmetic
// must read and write; of_copy is their rate in parts of cudaMemcpy's from device to device.
// bench/peers/torch_kernels.py times PyTorch on the same.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/cast.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/multi_tensor.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/runtime.h"

namespace {

using namespace weft;
namespace cuda = kernels::cuda;
using cuda::Stream;

// Zeroes on the device.
class Memory {
 public:
  Memory(std::int64_t count, DType dtype) : data_(cuda::allocate(bytes_of(Elems(count), dtype))) {
    cuda::fill_zero(data_, bytes_of(Elems(count), dtype), nullptr);
  }
  ~Memory() { cuda::release(data_); }
  Memory(Memory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  template <class T = void>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_;
};

using Work = std::function<void(Stream stream)>;

double seconds_of(const Work& work, Stream stream) {
  cuda::Event start(true), stop(true);
  start.record(stream);
  work(stream);
  stop.record(stream);
  stop.synchronize();
  return stop.ms_since(start) / 1e3;
}

// Bytes a second, read and written, of a copy of 512 MiB: the best of ten.
double copy_rate() {
  static const double rate = [] {
    constexpr std::int64_t kBytes = 512 << 20;
    const Memory from(kBytes, DType::u8), to(kBytes, DType::u8);
    const cuda::OwnedStream stream;
    cuda::wait_device();
    double best = 1e9;
    for (int i = 0; i < 10; ++i) {
      best = std::min(
          best,
          seconds_of([&](Stream s) { cuda::copy_async(to.as(), from.as(), Bytes(kBytes), s); },
                     stream.get()));
    }
    return 2.0 * kBytes / best;
  }();
  return rate;
}

void measure(benchmark::State& state, std::int64_t bytes, const Work& work) {
  const cuda::OwnedStream stream;
  cuda::wait_device();  // what fills memory runs on the default stream
  seconds_of(work, stream.get());
  double seconds = 0;
  for (auto _ : state) {
    const double once = seconds_of(work, stream.get());
    state.SetIterationTime(once);
    seconds += once;
  }
  state.SetBytesProcessed(state.iterations() * bytes);
  const auto moved = static_cast<double>(state.iterations() * bytes);
  state.counters["of_copy"] = moved / seconds / copy_rate();
}

void copy(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  const Memory from(count, DType::f32), to(count, DType::f32);
  measure(state, 8 * count,
          [&](Stream stream) { cuda::copy_async(to.as(), from.as(), Bytes(4 * count), stream); });
}

void cast(benchmark::State& state, DType to_type, DType from_type) {
  const std::int64_t count = state.range(0);
  const Memory from(count, from_type), to(count, to_type);
  measure(state, bytes_of(Elems(count), to_type).value + bytes_of(Elems(count), from_type).value,
          [&](Stream stream) {
            cuda::cast(to.as(), to_type, from.as(), from_type, Elems(count), 1.0, stream);
          });
}

void scale(benchmark::State& state, DType dtype) {
  const std::int64_t count = state.range(0);
  const Memory data(count, dtype);
  const kernels::FlatTensor tensor{data.as(), Elems(count), dtype};
  measure(state, 2 * bytes_of(Elems(count), dtype).value, [&](Stream stream) {
    cuda::scale({&tensor, 1}, 0.5, stream);
  });
}

void unscale_and_check(benchmark::State& state, DType dtype) {
  const std::int64_t count = state.range(0);
  const Memory data(count, dtype), found(1, DType::i32);
  const kernels::FlatTensor tensor{data.as(), Elems(count), dtype};
  measure(state, 2 * bytes_of(Elems(count), dtype).value, [&](Stream stream) {
    cuda::unscale_and_check({&tensor, 1}, 65536.0, found.as<std::int32_t>(), stream);
  });
}

void norm(benchmark::State& state, DType dtype) {
  const std::int64_t count = state.range(0);
  const Memory data(count, dtype), result(1, DType::f64);
  const kernels::FlatTensor tensor{data.as(), Elems(count), dtype};
  const Memory workspace(cuda::norm_workspace({&tensor, 1}).value, DType::u8);
  measure(state, bytes_of(Elems(count), dtype).value, [&](Stream stream) {
    cuda::squared_norm({&tensor, 1}, workspace.as(), result.as<double>(), stream);
  });
}

// The norm, and gradients beyond it: read, then read and written.
void clip(benchmark::State& state, DType dtype) {
  const std::int64_t count = state.range(0);
  const Memory data(count, dtype);
  cuda::fill(dtype, Elems(count), data.as(), 1.0, nullptr);
  const kernels::FlatTensor tensor{data.as(), Elems(count), dtype};
  const Memory workspace(cuda::norm_workspace({&tensor, 1}).value, DType::u8);
  double max_norm = std::sqrt(static_cast<double>(count));
  measure(state, 3 * bytes_of(Elems(count), dtype).value, [&](Stream stream) {
    max_norm /= 2;  // so that each time there is something to scale
    cuda::clip_norm({&tensor, 1}, max_norm, workspace.as(), nullptr, stream);
  });
}

// `tensors` of equal size with `count` elements in all.
struct Parameters {
  Memory p, m, v, g, low;
  std::vector<kernels::AdamTensor> list;

  Parameters(std::int64_t count, std::int64_t tensors, DType gradient_type, bool copies)
      : p(count, DType::f32),
        m(count, DType::f32),
        v(count, DType::f32),
        g(count, gradient_type),
        low(copies ? count : 1, DType::bf16) {
    const std::int64_t each = count / tensors;
    const auto at = [&](const Memory& memory, std::int64_t t, DType dtype) {
      return memory.as<std::byte>() + bytes_of(Elems(t * each), dtype).value;
    };
    for (std::int64_t t = 0; t < tensors; ++t) {
      list.push_back({at(p, t, DType::f32), at(g, t, gradient_type), at(m, t, DType::f32),
                      at(v, t, DType::f32), copies ? at(low, t, DType::bf16) : nullptr, Elems(each),
                      DType::f32, gradient_type, DType::bf16});
    }
  }
};

void adamw(benchmark::State& state, std::int64_t tensors, DType gradient_type, bool copies) {
  const std::int64_t count = state.range(0);
  const Parameters parameters(count, tensors, gradient_type, copies);
  const std::int64_t each = 24 + size_of(gradient_type).value + (copies ? 2 : 0);
  measure(state, each * count,
          [&](Stream stream) { cuda::adam(parameters.list, kernels::AdamParams{}, stream); });
}

void sgd(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  const Memory p(count, DType::f32), g(count, DType::f32), m(count, DType::f32);
  const kernels::SgdTensor tensor{p.as(), g.as(), m.as(), Elems(count)};
  kernels::SgdParams params;
  params.momentum = 0.9;
  params.first_step = false;
  measure(state, 20 * count, [&](Stream stream) { cuda::sgd({&tensor, 1}, params, stream); });
}

void reduce(benchmark::State& state, DType dtype, std::int64_t inputs) {
  const std::int64_t count = state.range(0);
  std::vector<Memory> memory;
  std::vector<const void*> pointers;
  for (std::int64_t k = 0; k <= inputs; ++k) memory.emplace_back(count, dtype);
  for (std::int64_t k = 1; k <= inputs; ++k) {
    pointers.push_back(memory[static_cast<std::size_t>(k)].as());
  }
  measure(state, (inputs + 1) * bytes_of(Elems(count), dtype).value, [&](Stream stream) {
    cuda::reduce(memory[0].as(), pointers, Elems(count), dtype, ReduceOp::sum, 1, stream);
  });
}

bool register_all() {
  if (cuda::device_count() == 0) {
    benchmark::RegisterBenchmark("cuda", [](benchmark::State& state) {
      state.SkipWithError(("skipped: " + cuda::reason_for_none()).c_str());
    });
    return false;
  }
  const auto add = [](const std::string& name, auto body) {
    benchmark::RegisterBenchmark(("cuda/" + name).c_str(), body)
        ->Arg(1 << 20)
        ->Arg(64 << 20)
        ->UseManualTime();
  };
  add("copy", copy);
  const std::pair<DType, DType> casts[] = {{DType::bf16, DType::f32}, {DType::f16, DType::f32},
                                           {DType::f32, DType::bf16}, {DType::f32, DType::f16},
                                           {DType::bf16, DType::f16}, {DType::f32, DType::f64}};
  for (const auto& [to, from] : casts) {
    const auto name = std::string(name_of(from)) + "_to_" + std::string(name_of(to));
    add("cast/" + name, [to = to, from = from](benchmark::State& state) { cast(state, to, from); });
  }
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const std::string name(name_of(dtype));
    add("scale/" + name, [=](benchmark::State& state) { scale(state, dtype); });
    add("unscale_and_check/" + name,
        [=](benchmark::State& state) { unscale_and_check(state, dtype); });
    add("norm/" + name, [=](benchmark::State& state) { norm(state, dtype); });
    add("clip/" + name, [=](benchmark::State& state) { clip(state, dtype); });
    for (const std::int64_t inputs : {2, 4, 8}) {
      add("reduce/" + name + "/inputs:" + std::to_string(inputs),
          [=](benchmark::State& state) { reduce(state, dtype, inputs); });
    }
  }
  add("adamw/f32", [](benchmark::State& state) { adamw(state, 1, DType::f32, false); });
  add("adamw/f32/tensors:128",
      [](benchmark::State& state) { adamw(state, 128, DType::f32, false); });
  add("adamw/bf16_gradients_and_copies",
      [](benchmark::State& state) { adamw(state, 1, DType::bf16, true); });
  add("sgd_momentum/f32", sgd);
  return true;
}

const bool kRegistered = register_all();

}  // namespace
