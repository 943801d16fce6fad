// The reduction kernel, for the files that compile its types.
#pragma once

#include <bit>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/list.cuh"
#include "kernels/cuda/reduce.h"
#include "kernels/functors/reduce.h"

namespace weft::kernels::cuda {

struct ReduceCall {
  void* out;
  std::span<const void* const> inputs;
  std::int64_t count;
  std::int64_t divisor;
  Stream stream;
};

// One for each of kernels/cuda/reduce*.cu, so that they compile side by side.
void reduce_floating(DType dtype, ReduceOp op, const ReduceCall& call);
void reduce_integers(DType dtype, ReduceOp op, const ReduceCall& call);

// Packs of the first kSet inputs are under way at once; further inputs follow kSet by kSet. They
// stay words until they are used: a register for every 16-bit element would be twice as many.
template <class T, ReduceOp kOp, int kSet, bool kMore>
class ReduceOpOver {
 public:
  struct Values {
    const void* inputs[kReduceInputsMax];
    int count;
    std::int64_t divisor;

    template <class Visit>
    void pointers(const Visit& visit) const {
      for (int i = 0; i < count; ++i) visit(inputs[i]);
    }
  };
  using C = ReduceCompute<T>;
  static constexpr int kArrays = 1;
  static constexpr int kTensors = 1;
  static constexpr int kPack = kAccessBytes / static_cast<int>(sizeof(T));
  static constexpr int kUnroll = kSet <= 2 ? 4 : 1;

  template <int N>
  struct Operands {
    Words<T, N> inputs[kSet];
  };

  WEFT_DEVICE explicit ReduceOpOver(const Values& values)
      : values_(values), mean_(values.divisor) {}
  WEFT_DEVICE bool idle() const { return false; }
  WEFT_DEVICE void open(void* const* arrays, int) { out_ = static_cast<T*>(arrays[0]); }
  template <int N>
  WEFT_DEVICE Operands<N> load(std::int64_t i) const {
    return load_set<N>(i, 0);
  }
  template <int N>
  WEFT_DEVICE void finish(std::int64_t i, const Operands<N>& first) const {
    Pack<C, N> sum;
#pragma unroll
    for (int e = 0; e < N; ++e) sum[e] = converted<C>(elements_of<T, N>(first.inputs[0])[e]);
    add_set(sum, first, 0, 1);
    if constexpr (kMore) {
#pragma unroll 1
      for (int done = kSet; done < values_.count; done += kSet) {
        add_set(sum, load_set<N>(i, done), done, 0);
      }
    }
    if constexpr (kOp == ReduceOp::avg) {
#pragma unroll
      for (int e = 0; e < N; ++e) sum[e] = mean_(sum[e]);
    }
    store_pack(out_ + i, narrowed<T>(sum));
  }
  WEFT_DEVICE void close() const {}

 private:
  template <int N>
  WEFT_DEVICE Operands<N> load_set(std::int64_t i, int done) const {
    Operands<N> set{};
#pragma unroll
    for (int k = 0; k < kSet; ++k) {
      if (done + k < values_.count) {
        set.inputs[k] = load_words<N>(static_cast<const T*>(values_.inputs[done + k]) + i);
      }
    }
    return set;
  }
  template <int N>
  WEFT_DEVICE void add_set(Pack<C, N>& sum, const Operands<N>& set, int done, int from) const {
#pragma unroll
    for (int k = 0; k < kSet; ++k) {
      if (k < from || done + k >= values_.count) continue;
      const Pack<T, N> next = elements_of<T, N>(set.inputs[k]);
#pragma unroll
      for (int e = 0; e < N; ++e) sum[e] = reduce_pair<kOp>(sum[e], converted<C>(next[e]));
    }
  }

  const Values& values_;
  Mean<C> mean_;
  T* out_ = nullptr;
};

template <class T, ReduceOp kOp, int kSet, bool kMore>
void launch_reduce_sets(const ReduceCall& call) {
  using Op = ReduceOpOver<T, kOp, kSet, kMore>;
  using List = ListLauncher<Op>;
  constexpr int kSize = sizeof(T);
  typename Op::Values values{};
  values.count = static_cast<int>(call.inputs.size());
  values.divisor = call.divisor;
  std::copy(call.inputs.begin(), call.inputs.end(), values.inputs);
  const int skew = List::skew_of(call.out, kSize);
  const bool packs = std::all_of(call.inputs.begin(), call.inputs.end(), [=](const void* input) {
    return List::reaches_boundary(input, kSize, skew);
  });
  List list(values, call.stream);
  list.add({call.out}, {kSize}, call.count, 0, packs);
  list.flush();
}

template <class T, ReduceOp kOp>
void launch_reduce(const ReduceCall& call) {
  if (call.inputs.size() <= 2) return launch_reduce_sets<T, kOp, 2, false>(call);
  launch_reduce_sets<T, kOp, 4, true>(call);
}

template <class T>
void launch_reduce(ReduceOp op, const ReduceCall& call) {
  switch (op) {
    case ReduceOp::sum:
      return launch_reduce<T, ReduceOp::sum>(call);
    case ReduceOp::prod:
      return launch_reduce<T, ReduceOp::prod>(call);
    case ReduceOp::min:
      return launch_reduce<T, ReduceOp::min>(call);
    case ReduceOp::max:
      return launch_reduce<T, ReduceOp::max>(call);
    case ReduceOp::avg:
      return launch_reduce<T, ReduceOp::avg>(call);
  }
}

}  // namespace weft::kernels::cuda
