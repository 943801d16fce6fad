// Scaling of lists, with and without a check.
#include "kernels/cuda/multi_tensor.h"

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/list.cuh"
#include "kernels/cuda/list_checks.h"
#include "kernels/functors/norm.h"
#include "kernels/functors/reduce.h"
#include "kernels/optimizer_checks.h"

namespace weft::kernels::cuda {
namespace {

// factor, unless it lies on the device or is a loss scale's reciprocal.
struct ScaleValues {
  double factor = 1.0;
  const double* factor_on_device = nullptr;
  const LossScale* loss_scale = nullptr;
  std::int32_t* found_inf = nullptr;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(factor_on_device);
    visit(loss_scale);
    visit(found_inf);
  }
};

template <class T, bool kCheck>
class ScaleOp {
 public:
  using Values = ScaleValues;
  using C = ReduceCompute<T>;
  static constexpr int kArrays = 1;
  static constexpr int kPack = kAccessBytes / static_cast<int>(sizeof(T));
  static constexpr int kUnroll = 4;
  static constexpr int kTensors = table_entries(kArrays, sizeof(Values));

  template <int N>
  using Operands = Pack<T, N>;

  WEFT_DEVICE explicit ScaleOp(const Values& values) : found_inf_(values.found_inf) {
    double factor = values.factor;
    if (values.factor_on_device != nullptr) factor = *values.factor_on_device;
    if (values.loss_scale != nullptr) {
      factor = 1.0 / static_cast<double>(values.loss_scale->scale);
    }
    idle_ = !kCheck && factor == 1.0;
    factor_ = static_cast<C>(factor);
  }
  WEFT_DEVICE bool idle() const { return idle_; }
  WEFT_DEVICE void open(void* const* arrays, int) { data_ = static_cast<T*>(arrays[0]); }
  template <int N>
  WEFT_DEVICE Operands<N> load(std::int64_t i) const {
    return load_pack<N>(data_ + i);
  }
  template <int N>
  WEFT_DEVICE void finish(std::int64_t i, const Operands<N>& x) {
    constexpr C kLimit = static_cast<C>(overflow_limit(dtype_of<T>));
    Pack<C, N> scaled;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      scaled[k] = converted<C>(x[k]) * factor_;
      if (kCheck) bad_ = bad_ || !(std::fabs(scaled[k]) < kLimit);
    }
    store_pack(data_ + i, narrowed<T>(scaled));
  }
  WEFT_DEVICE void close() const {
    if (!kCheck) return;
    const bool any = warp_ballot(bad_) != 0;
    if (any && threadIdx.x % kWarp == 0) *found_inf_ = 1;
  }

 private:
  std::int32_t* found_inf_;
  T* data_ = nullptr;
  C factor_;
  bool idle_;
  bool bad_ = false;
};

template <class T, bool kCheck>
void launch_scale(std::span<const FlatTensor> tensors, const ScaleValues& values, Stream stream) {
  ListLauncher<ScaleOp<T, kCheck>> list(values, stream);
  for (const FlatTensor& tensor : tensors) {
    if (tensor.dtype != dtype_of<T>) continue;
    list.add({tensor.data}, {static_cast<int>(sizeof(T))}, tensor.count.value);
  }
  list.flush();
}

template <bool kCheck>
void scale_list(const char* operation, std::span<const FlatTensor> tensors,
                const ScaleValues& values, Stream stream) {
  check_flat(operation, tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    check_aligned(operation, i, "data", tensors[i].data, tensors[i].dtype);
  }
  launch_scale<float, kCheck>(tensors, values, stream);
  launch_scale<BFloat16, kCheck>(tensors, values, stream);
  launch_scale<Half, kCheck>(tensors, values, stream);
  launch_scale<double, kCheck>(tensors, values, stream);
}

}  // namespace

void scale(std::span<const FlatTensor> tensors, double factor, Stream stream) {
  scale_list<false>("scale", tensors, {.factor = factor}, stream);
}

void scale(std::span<const FlatTensor> tensors, const double* factor, Stream stream) {
  check_present("scale", 0, "the factor", factor, DType::f64);
  scale_list<false>("scale", tensors, {.factor_on_device = factor}, stream);
}

void unscale_and_check(std::span<const FlatTensor> tensors, double scale, std::int32_t* found_inf,
                       Stream stream) {
  check_unscale(scale);
  check_present("unscale_and_check", 0, "found_inf", found_inf, DType::i32);
  scale_list<true>("unscale_and_check", tensors, {.factor = 1.0 / scale, .found_inf = found_inf},
                   stream);
}

void unscale_and_check(std::span<const FlatTensor> tensors, LossScale* state, Stream stream) {
  check_present("unscale_and_check", 0, "the loss scale", state, DType::f32);
  scale_list<true>("unscale_and_check", tensors,
                   {.loss_scale = state, .found_inf = &state->found_inf}, stream);
}

}  // namespace weft::kernels::cuda
