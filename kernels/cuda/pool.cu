// Pooling of planes, a thread an element of the result.
#include "kernels/cuda/pool.h"

#include <limits>

#include "kernels/cuda/access.cuh"
#include "kernels/cuda/checks.h"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kBlocksMax = 1 << 20;

// Pool2d with its derived sizes.
struct Planes {
  std::int64_t planes, in_height, in_width, out_height, out_width;
  std::int64_t kernel, stride, padding;

  explicit Planes(const Pool2d& p)
      : planes(p.planes),
        in_height(p.in_height),
        in_width(p.in_width),
        out_height(p.out_height()),
        out_width(p.out_width()),
        kernel(p.kernel),
        stride(p.stride),
        padding(p.padding) {}

  WEFT_HD std::int64_t in_size() const { return in_height * in_width; }
  WEFT_HD std::int64_t out_size() const { return out_height * out_width; }
};

// first .. last - 1, of pixels in a window or of windows over a pixel.
struct Span {
  std::int64_t first, last;
};

// Pixels that lie inside the plane, of the window at `out`.
__device__ __forceinline__ Span window(const Planes& p, std::int64_t out, std::int64_t in_size) {
  const std::int64_t first = out * p.stride - p.padding;
  return {max(first, std::int64_t{0}), min(first + p.kernel, in_size)};
}

// Windows that a pixel lies in.
__device__ __forceinline__ Span windows_over(const Planes& p, std::int64_t in,
                                             std::int64_t out_size) {
  const std::int64_t at = in + p.padding;
  const std::int64_t before = at - p.kernel + 1;  // the first pixel of the earliest window
  const std::int64_t first = before <= 0 ? 0 : (before + p.stride - 1) / p.stride;
  return {first, min(at / p.stride + 1, out_size)};
}

// Calls body(plane, y, x, i) for each of planes x height x width elements.
template <class Body>
__device__ __forceinline__ void for_elements(std::int64_t planes, std::int64_t height,
                                             std::int64_t width, const Body& body) {
  const std::int64_t size = height * width, count = planes * size;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += step) {
    body(i / size, i % size / width, i % width, i);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    max_kernel(Planes p, const T* in, T* out, std::int32_t* winners) {
  using R = ComputeOf<T>;
  for_elements(p.planes, p.out_height, p.out_width,
               [&](std::int64_t plane, std::int64_t oy, std::int64_t ox, std::int64_t i) {
                 const T* const from = in + plane * p.in_size();
                 const Span rows = window(p, oy, p.in_height), columns = window(p, ox, p.in_width);
                 R best = -std::numeric_limits<R>::infinity();
                 std::int64_t winner = rows.first * p.in_width + columns.first;
                 for (std::int64_t y = rows.first; y < rows.last; ++y) {
                   for (std::int64_t x = columns.first; x < columns.last; ++x) {
                     const R value = widen(from[y * p.in_width + x]);
                     if (value > best || (value != value && best == best)) {
                       best = value;
                       winner = y * p.in_width + x;
                     }
                   }
                 }
                 out[i] = narrow<T>(best);
                 winners[i] = static_cast<std::int32_t>(winner);
               });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    max_backward_kernel(Planes p, const T* dy, const std::int32_t* winners, T* dx) {
  for_elements(p.planes, p.in_height, p.in_width,
               [&](std::int64_t plane, std::int64_t y, std::int64_t x, std::int64_t i) {
                 const Span rows = windows_over(p, y, p.out_height);
                 const Span columns = windows_over(p, x, p.out_width);
                 ComputeOf<T> sum = 0;
                 for (std::int64_t oy = rows.first; oy < rows.last; ++oy) {
                   for (std::int64_t ox = columns.first; ox < columns.last; ++ox) {
                     const std::int64_t from = plane * p.out_size() + oy * p.out_width + ox;
                     if (winners[from] == y * p.in_width + x) sum += widen(dy[from]);
                   }
                 }
                 dx[i] = narrow<T>(sum);
               });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    average_kernel(Planes p, ComputeOf<T> share, const T* in, T* out) {
  for_elements(p.planes, p.out_height, p.out_width,
               [&](std::int64_t plane, std::int64_t oy, std::int64_t ox, std::int64_t i) {
                 const T* const from = in + plane * p.in_size();
                 const Span rows = window(p, oy, p.in_height), columns = window(p, ox, p.in_width);
                 ComputeOf<T> sum = 0;
                 for (std::int64_t y = rows.first; y < rows.last; ++y) {
                   for (std::int64_t x = columns.first; x < columns.last; ++x) {
                     sum += widen(from[y * p.in_width + x]);
                   }
                 }
                 out[i] = narrow<T>(sum * share);
               });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    average_backward_kernel(Planes p, ComputeOf<T> share, const T* dy, T* dx) {
  for_elements(p.planes, p.in_height, p.in_width,
               [&](std::int64_t plane, std::int64_t y, std::int64_t x, std::int64_t i) {
                 const Span rows = windows_over(p, y, p.out_height);
                 const Span columns = windows_over(p, x, p.out_width);
                 ComputeOf<T> sum = 0;
                 for (std::int64_t oy = rows.first; oy < rows.last; ++oy) {
                   for (std::int64_t ox = columns.first; ox < columns.last; ++ox) {
                     sum += widen(dy[plane * p.out_size() + oy * p.out_width + ox]) * share;
                   }
                 }
                 dx[i] = narrow<T>(sum);
               });
}

Shape shape_for(std::int64_t elements) {
  return {grid_for(elements, kThreads, kBlocksMax), kThreads};
}

template <class T>
ComputeOf<T> share_of(const Pool2d& p) {
  return ComputeOf<T>(1) / static_cast<ComputeOf<T>>(p.kernel * p.kernel);
}

}  // namespace

void max_pool2d(const Pool2d& problem, const void* x, void* y, std::int32_t* winners,
                Stream stream) {
  const Planes p(problem);
  dispatch_floating(problem.dtype, "max_pool2d", [&]<class T>() {
    launch(max_kernel<T>, shape_for(p.planes * p.out_size()), stream, p, static_cast<const T*>(x),
           static_cast<T*>(y), winners);
  });
}

void max_pool2d_backward(const Pool2d& problem, const void* dy, const std::int32_t* winners,
                         void* dx, Stream stream) {
  const Planes p(problem);
  dispatch_floating(problem.dtype, "max_pool2d", [&]<class T>() {
    launch(max_backward_kernel<T>, shape_for(p.planes * p.in_size()), stream, p,
           static_cast<const T*>(dy), winners, static_cast<T*>(dx));
  });
}

void avg_pool2d(const Pool2d& problem, const void* x, void* y, Stream stream) {
  const Planes p(problem);
  dispatch_floating(problem.dtype, "avg_pool2d", [&]<class T>() {
    launch(average_kernel<T>, shape_for(p.planes * p.out_size()), stream, p, share_of<T>(problem),
           static_cast<const T*>(x), static_cast<T*>(y));
  });
}

void avg_pool2d_backward(const Pool2d& problem, const void* dy, void* dx, Stream stream) {
  const Planes p(problem);
  dispatch_floating(problem.dtype, "avg_pool2d", [&]<class T>() {
    launch(average_backward_kernel<T>, shape_for(p.planes * p.in_size()), stream, p,
           share_of<T>(problem), static_cast<const T*>(dy), static_cast<T*>(dx));
  });
}

}  // namespace weft::kernels::cuda
