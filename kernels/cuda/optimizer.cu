// Adam and SGD over lists: each element of parameter, state and gradient is read once and written
// once.
#include "kernels/cuda/optimizer.h"

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/list.cuh"
#include "kernels/cuda/list_checks.h"
#include "kernels/functors/optimizer.h"
#include "kernels/optimizer_checks.h"

namespace weft::kernels::cuda {
namespace {

enum CopyTag : int { kNoCopy, kHalfCopy, kBFloat16Copy };

int copy_tag(const void* copy, DType type) {
  if (copy == nullptr) return kNoCopy;
  return type == DType::f16 ? kHalfCopy : kBFloat16Copy;
}

template <class Copy, class P, int N>
WEFT_DEVICE void store_copy(void* copy, std::int64_t i, const Pack<P, N>& parameter) {
  Pack<float, N> low;
#pragma unroll
  for (int k = 0; k < N; ++k) low[k] = converted<Copy>(parameter[k]);
  store_pack(static_cast<Copy*>(copy) + i, narrowed<Copy>(low));
}

// The updated parameters in low precision, where a tensor wants them.
template <class P, int N>
WEFT_DEVICE void copy_out(void* copy, int tag, std::int64_t i, const Pack<P, N>& parameter) {
  if (tag == kHalfCopy) store_copy<Half>(copy, i, parameter);
  if (tag == kBFloat16Copy) store_copy<BFloat16>(copy, i, parameter);
}

template <class P, class G>
constexpr int pack_of() {
  return kAccessBytes / static_cast<int>(sizeof(P) > sizeof(G) ? sizeof(P) : sizeof(G));
}

WEFT_DEVICE bool is_skipped(const StepOnDevice& on_device) {
  return on_device.found_inf != nullptr && *on_device.found_inf != 0;
}

// One thread works out a step's factors for its block: the others would do the same in f64.
struct AdamValues {
  AdamParams params;
  AdamFactors factors;  // of params
  StepOnDevice on_device;

  template <class Visit>
  void pointers(const Visit& visit) const {
    on_device.pointers(visit);
  }
};

WEFT_DEVICE AdamFactors shared_factors(const AdamValues& values) {
  const StepOnDevice& on_device = values.on_device;
  __shared__ AdamFactors factors;
  if (threadIdx.x == 0) {
    factors = values.factors;
    if (on_device.learning_rate != nullptr || on_device.step != nullptr) {
      AdamParams params = values.params;
      if (on_device.learning_rate != nullptr) params.learning_rate = *on_device.learning_rate;
      if (on_device.step != nullptr) params.step = *on_device.step;
      factors = adam_factors(params);
    }
    if (on_device.gradient_scale != nullptr) factors.gradient_scale *= *on_device.gradient_scale;
  }
  __syncthreads();
  return factors;
}

template <class P, class G>
class AdamOp {
 public:
  using Values = AdamValues;
  static constexpr int kArrays = 5;
  static constexpr int kPack = pack_of<P, G>();
  static constexpr int kUnroll = 2;
  static constexpr int kTensors = table_entries(kArrays, sizeof(Values));

  template <int N>
  struct Operands {
    Pack<P, N> parameter, exp_avg, exp_avg_sq;
    Pack<G, N> gradient;
  };

  WEFT_DEVICE explicit AdamOp(const Values& values)
      : skipped_(is_skipped(values.on_device)), step_(shared_factors(values)) {}
  WEFT_DEVICE bool idle() const { return skipped_; }
  WEFT_DEVICE void open(void* const* arrays, int tag) {
    parameter_ = static_cast<P*>(arrays[0]);
    exp_avg_ = static_cast<P*>(arrays[1]);
    exp_avg_sq_ = static_cast<P*>(arrays[2]);
    gradient_ = static_cast<const G*>(arrays[3]);
    copy_ = arrays[4];
    tag_ = tag;
  }
  template <int N>
  WEFT_DEVICE Operands<N> load(std::int64_t i) const {
    return {load_pack<N>(parameter_ + i), load_pack<N>(exp_avg_ + i), load_pack<N>(exp_avg_sq_ + i),
            load_pack<N>(gradient_ + i)};
  }
  template <int N>
  WEFT_DEVICE void finish(std::int64_t i, Operands<N>& x) const {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      step_(x.parameter[k], converted<P>(x.gradient[k]), x.exp_avg[k], x.exp_avg_sq[k]);
    }
    store_pack(parameter_ + i, x.parameter);
    store_pack(exp_avg_ + i, x.exp_avg);
    store_pack(exp_avg_sq_ + i, x.exp_avg_sq);
    copy_out(copy_, tag_, i, x.parameter);
  }
  WEFT_DEVICE void close() const {}

 private:
  bool skipped_;
  AdamStep<P> step_;
  P* parameter_ = nullptr;
  P* exp_avg_ = nullptr;
  P* exp_avg_sq_ = nullptr;
  const G* gradient_ = nullptr;
  void* copy_ = nullptr;
  int tag_ = kNoCopy;
};

struct SgdValues {
  SgdParams params;
  StepOnDevice on_device;

  template <class Visit>
  void pointers(const Visit& visit) const {
    on_device.pointers(visit);
  }
};

WEFT_DEVICE SgdParams params_of(const SgdValues& values) {
  SgdParams params = values.params;
  const StepOnDevice& on_device = values.on_device;
  if (on_device.learning_rate != nullptr) params.learning_rate = *on_device.learning_rate;
  if (on_device.step != nullptr) params.first_step = *on_device.step == 1;
  if (on_device.gradient_scale != nullptr) params.gradient_scale *= *on_device.gradient_scale;
  return params;
}

template <class P, class G, bool kMomentum>
class SgdOp {
 public:
  using Values = SgdValues;
  static constexpr int kArrays = 4;
  static constexpr int kPack = pack_of<P, G>();
  static constexpr int kUnroll = kMomentum ? 2 : 4;
  static constexpr int kTensors = table_entries(kArrays, sizeof(Values));

  template <int N>
  struct Operands {
    Pack<P, N> parameter, momentum;
    Pack<G, N> gradient;
  };

  WEFT_DEVICE explicit SgdOp(const Values& values)
      : skipped_(is_skipped(values.on_device)), step_(params_of(values)) {}
  WEFT_DEVICE bool idle() const { return skipped_; }
  WEFT_DEVICE void open(void* const* arrays, int tag) {
    parameter_ = static_cast<P*>(arrays[0]);
    momentum_ = static_cast<P*>(arrays[1]);
    gradient_ = static_cast<const G*>(arrays[2]);
    copy_ = arrays[3];
    tag_ = tag;
  }
  template <int N>
  WEFT_DEVICE Operands<N> load(std::int64_t i) const {
    Operands<N> x{};
    x.parameter = load_pack<N>(parameter_ + i);
    if (kMomentum && !step_.first_step) x.momentum = load_pack<N>(momentum_ + i);
    x.gradient = load_pack<N>(gradient_ + i);
    return x;
  }
  template <int N>
  WEFT_DEVICE void finish(std::int64_t i, Operands<N>& x) const {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const P gradient = converted<P>(x.gradient[k]);
      if constexpr (kMomentum) {
        step_(x.parameter[k], gradient, x.momentum[k]);
      } else {
        step_(x.parameter[k], gradient);
      }
    }
    store_pack(parameter_ + i, x.parameter);
    if constexpr (kMomentum) store_pack(momentum_ + i, x.momentum);
    copy_out(copy_, tag_, i, x.parameter);
  }
  WEFT_DEVICE void close() const {}

 private:
  bool skipped_;
  SgdStep<P> step_;
  P* parameter_ = nullptr;
  P* momentum_ = nullptr;
  const G* gradient_ = nullptr;
  void* copy_ = nullptr;
  int tag_ = kNoCopy;
};

// Calls body.operator()<P, G>() for each pair of parameter and gradient types that the list has.
template <class Tensor, class Body>
void for_each_pair_of_types(std::span<const Tensor> tensors, const Body& body) {
  const auto present = [&](DType parameter, DType gradient) {
    return std::any_of(tensors.begin(), tensors.end(), [=](const Tensor& tensor) {
      return tensor.parameter_type == parameter && tensor.gradient_type == gradient;
    });
  };
  const auto with_parameter = [&]<class P>() {
    if (present(dtype_of<P>, DType::f32)) body.template operator()<P, float>();
    if (present(dtype_of<P>, DType::f64)) body.template operator()<P, double>();
    if (present(dtype_of<P>, DType::f16)) body.template operator()<P, Half>();
    if (present(dtype_of<P>, DType::bf16)) body.template operator()<P, BFloat16>();
  };
  with_parameter.template operator()<float>();
  with_parameter.template operator()<double>();
}

template <class P, class G, class Tensor>
bool is_of(const Tensor& tensor) {
  return tensor.parameter_type == dtype_of<P> && tensor.gradient_type == dtype_of<G>;
}

void* unconst(const void* data) { return const_cast<void*>(data); }

template <class P, class G, bool kMomentum>
void launch_sgd(std::span<const SgdTensor> tensors, const SgdValues& values, Stream stream) {
  constexpr int kP = sizeof(P), kG = sizeof(G);
  ListLauncher<SgdOp<P, G, kMomentum>> list(values, stream);
  for (const SgdTensor& tensor : tensors) {
    if (!is_of<P, G>(tensor)) continue;
    list.add({tensor.parameter, kMomentum ? tensor.momentum : nullptr, unconst(tensor.gradient),
              tensor.low_precision_copy},
             {kP, kP, kG, 2}, tensor.count.value,
             copy_tag(tensor.low_precision_copy, tensor.copy_type));
  }
  list.flush();
}

__global__ void advance_step_kernel(std::int64_t* step, const std::int32_t* found_inf) {
  if (found_inf == nullptr || *found_inf == 0) ++*step;
}

}  // namespace

void adam(std::span<const AdamTensor> tensors, const AdamParams& params, Stream stream) {
  adam(tensors, params, {}, stream);
}

void adam(std::span<const AdamTensor> tensors, const AdamParams& params,
          const StepOnDevice& on_device, Stream stream) {
  check_adam(tensors, params);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const AdamTensor& t = tensors[i];
    check_aligned("adam", i, "parameter", t.parameter, t.parameter_type);
    check_aligned("adam", i, "exp_avg", t.exp_avg, t.parameter_type);
    check_aligned("adam", i, "exp_avg_sq", t.exp_avg_sq, t.parameter_type);
    check_aligned("adam", i, "gradient", t.gradient, t.gradient_type);
    check_aligned("adam", i, "low_precision_copy", t.low_precision_copy, t.copy_type);
  }
  const AdamValues values{params, adam_factors(params), on_device};
  for_each_pair_of_types(tensors, [&]<class P, class G>() {
    constexpr int kP = sizeof(P), kG = sizeof(G);
    ListLauncher<AdamOp<P, G>> list(values, stream);
    for (const AdamTensor& t : tensors) {
      if (!is_of<P, G>(t)) continue;
      list.add({t.parameter, t.exp_avg, t.exp_avg_sq, unconst(t.gradient), t.low_precision_copy},
               {kP, kP, kP, kG, 2}, t.count.value, copy_tag(t.low_precision_copy, t.copy_type));
    }
    list.flush();
  });
}

void sgd(std::span<const SgdTensor> tensors, const SgdParams& params, Stream stream) {
  sgd(tensors, params, {}, stream);
}

void sgd(std::span<const SgdTensor> tensors, const SgdParams& params, const StepOnDevice& on_device,
         Stream stream) {
  check_sgd(tensors, params);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const SgdTensor& t = tensors[i];
    check_aligned("sgd", i, "parameter", t.parameter, t.parameter_type);
    check_aligned("sgd", i, "momentum", t.momentum, t.parameter_type);
    check_aligned("sgd", i, "gradient", t.gradient, t.gradient_type);
    check_aligned("sgd", i, "low_precision_copy", t.low_precision_copy, t.copy_type);
  }
  const SgdValues values{params, on_device};
  for_each_pair_of_types(tensors, [&]<class P, class G>() {
    if (params.momentum != 0.0) {
      launch_sgd<P, G, true>(tensors, values, stream);
    } else {
      launch_sgd<P, G, false>(tensors, values, stream);
    }
  });
}

void advance_step(std::int64_t* step, const std::int32_t* found_inf, Stream stream) {
  launch(advance_step_kernel, Shape{1, 1}, stream, step, found_inf);
}

}  // namespace weft::kernels::cuda
