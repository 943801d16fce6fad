// The cast kernel, for the files that compile its pairs of types.
#pragma once

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/list.cuh"

namespace weft::kernels::cuda {

// What every pair of types takes.
struct CastCall {
  void* to;
  const void* from;
  std::int64_t count;
  double scale;
  Stream stream;
};

// One for each of kernels/cuda/cast*.cu, so that they compile side by side.
void cast_between_floating(DType to_type, DType from_type, const CastCall& call);
void cast_from_integer(DType to_type, DType from_type, const CastCall& call);
void cast_to_integer(DType to_type, DType from_type, const CastCall& call);

// A pack is 16 bytes of the wider type and correspondingly fewer of the narrower one.
template <class To, class From>
class CastOp {
 public:
  struct Values {
    double scale;
  };
  static constexpr int kArrays = 2;
  static constexpr int kTensors = 1;
  static constexpr int kPack =
      kAccessBytes / static_cast<int>(sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From));
  // 64 bytes under way in a thread, unless that takes too many registers for what they become.
  static constexpr int kUnroll = sizeof(From) >= sizeof(To) ? 4 : 8;

  template <int N>
  using Operands = Pack<From, N>;

  WEFT_DEVICE explicit CastOp(const Values& values) : scale_(values.scale) {}
  WEFT_DEVICE bool idle() const { return false; }
  WEFT_DEVICE void open(void* const* arrays, int) {
    to_ = static_cast<To*>(arrays[0]);
    from_ = static_cast<const From*>(arrays[1]);
  }
  template <int N>
  WEFT_DEVICE Operands<N> load(std::int64_t i) const {
    return load_pack<N>(from_ + i);
  }
  template <int N>
  WEFT_DEVICE void finish(std::int64_t i, const Operands<N>& from) const {
    Pack<BeforeStored<To>, N> to;
#pragma unroll
    for (int k = 0; k < N; ++k) to[k] = one(from[k]);
    store_pack(to_ + i, narrowed<To>(to));
  }
  WEFT_DEVICE void close() const {}

 private:
  // A floating value times 1 is itself; an integer must not go through f64 where nothing scales it.
  WEFT_DEVICE BeforeStored<To> one(From value) const {
    if constexpr (is_floating(dtype_of<From>) && is_floating(dtype_of<To>)) {
      return converted_scaled<To>(value, scale_);
    } else {
      return scale_ == 1.0 ? converted<To>(value) : converted_scaled<To>(value, scale_);
    }
  }

  double scale_;
  To* to_ = nullptr;
  const From* from_ = nullptr;
};

template <class To, class From>
void launch_cast(const CastCall& call) {
  ListLauncher<CastOp<To, From>> list({call.scale}, call.stream);
  list.add({call.to, const_cast<void*>(call.from)},
           {static_cast<int>(sizeof(To)), static_cast<int>(sizeof(From))}, call.count);
  list.flush();
}

}  // namespace weft::kernels::cuda
