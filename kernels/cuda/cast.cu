// Casts between floating types, and the entry point for all.
#include "kernels/cuda/cast.h"

#include "kernels/cuda/cast_list.cuh"
#include "kernels/cuda/list_checks.h"

namespace weft::kernels::cuda {

void cast_between_floating(DType to_type, DType from_type, const CastCall& call) {
  dispatch(to_type, [&]<class To>() {
    dispatch(from_type, [&]<class From>() {
      if constexpr (is_floating(dtype_of<To>) && is_floating(dtype_of<From>)) {
        launch_cast<To, From>(call);
      }
    });
  });
}

void cast(void* to, DType to_type, const void* from, DType from_type, Elems count, double scale,
          Stream stream) {
  if (count.value <= 0) return;
  check_present("cast", 0, "the output", to, to_type);
  check_present("cast", 0, "the input", from, from_type);
  if (to_type == from_type && scale == 1.0) {
    if (to == from) return;
    check(cudaMemcpyAsync(to, from, bytes_of(count, to_type).size(), cudaMemcpyDeviceToDevice,
                          static_cast<cudaStream_t>(stream)),
          "CUDA cast: a copy on the device");
    return;
  }
  const CastCall call{to, from, count.value, scale, stream};
  if (is_floating(to_type) && is_floating(from_type)) {
    cast_between_floating(to_type, from_type, call);
  } else if (is_floating(to_type)) {
    cast_from_integer(to_type, from_type, call);
  } else {
    cast_to_integer(to_type, from_type, call);
  }
}

}  // namespace weft::kernels::cuda
