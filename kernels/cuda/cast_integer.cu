// Casts from integers to floating types, and from everything to integers.
#include "kernels/cuda/cast_list.cuh"

namespace weft::kernels::cuda {

void cast_from_integer(DType to_type, DType from_type, const CastCall& call) {
  dispatch(to_type, [&]<class To>() {
    dispatch(from_type, [&]<class From>() {
      if constexpr (is_floating(dtype_of<To>) && !is_floating(dtype_of<From>)) {
        launch_cast<To, From>(call);
      }
    });
  });
}

void cast_to_integer(DType to_type, DType from_type, const CastCall& call) {
  dispatch(to_type, [&]<class To>() {
    dispatch(from_type, [&]<class From>() {
      if constexpr (!is_floating(dtype_of<To>)) launch_cast<To, From>(call);
    });
  });
}

}  // namespace weft::kernels::cuda
