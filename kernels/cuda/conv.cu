// Convolution as three products over implicit column matrices:
//
//            m             n                    k
//   y        out channels  image, pixel         channel, filter element
//   dx       in channels   image, input pixel   out channel, filter element
//   dweight  out channels  channel, element     image, pixel
#include "kernels/cuda/conv.h"

#include <limits>

#include "kernels/cuda/checks.h"
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/conv_gemm.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/walk.h"

namespace weft::kernels::cuda {
namespace {

// Conv2d in 32 bits, with divisions by its sizes prepared.
struct Sizes {
  std::int32_t batch, in_channels, in_height, in_width, out_channels, out_height, out_width;
  std::int32_t kernel_height, kernel_width, stride, padding;
  Divisor by_width, by_pixels;              // of the output
  Divisor by_in_width, by_in_pixels;        // of the input
  Divisor by_kernel_width, by_kernel_size;  // of a filter's plane
  Divisor by_stride;

  explicit Sizes(const Conv2d& p)
      : batch(narrowed(p.batch)),
        in_channels(narrowed(p.in_channels)),
        in_height(narrowed(p.in_height)),
        in_width(narrowed(p.in_width)),
        out_channels(narrowed(p.out_channels)),
        out_height(narrowed(p.out_height())),
        out_width(narrowed(p.out_width())),
        kernel_height(narrowed(p.kernel_height)),
        kernel_width(narrowed(p.kernel_width)),
        stride(narrowed(p.stride)),
        padding(narrowed(p.padding)),
        by_width(divisor(out_width)),
        by_pixels(divisor(p.pixels())),
        by_in_width(divisor(in_width)),
        by_in_pixels(divisor(p.in_height * p.in_width)),
        by_kernel_width(divisor(kernel_width)),
        by_kernel_size(divisor(p.kernel_height * p.kernel_width)),
        by_stride(divisor(stride)) {}

  // A tile beyond the last element must still count in 32 bits.
  static std::int32_t narrowed(std::int64_t size) {
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() - 2 * kConvTile;
    if (size < 0 || size > kMost) {
      refuse("conv2d: a size of " + std::to_string(size) +
             ": the CUDA backend takes 0 .. 2^31 - 129; split the batch.");
    }
    return static_cast<std::int32_t>(size);
  }
  static Divisor divisor(std::int64_t size) {
    return Divisor(static_cast<std::uint32_t>(std::max(narrowed(size), 1)));
  }

  WEFT_HD std::int32_t pixels() const { return out_height * out_width; }
  WEFT_HD std::int32_t in_pixels() const { return in_height * in_width; }
  WEFT_HD std::int32_t kernel_size() const { return kernel_height * kernel_width; }
};

struct Triple {
  std::int32_t outer, y, x;
};
// index = (outer * height + y) * width + x
__device__ __forceinline__ Triple split(std::int32_t index, const Divisor& by_plane,
                                        const Divisor& by_width) {
  const auto i = static_cast<std::uint32_t>(index);
  const std::uint32_t outer = by_plane.quotient(i), rest = i - outer * by_plane.value;
  const std::uint32_t y = by_width.quotient(rest);
  return {static_cast<std::int32_t>(outer), static_cast<std::int32_t>(y),
          static_cast<std::int32_t>(rest - y * by_width.value)};
}

// The input element that a filter element meets at an output pixel; zero outside the image.
template <class T>
__device__ __forceinline__ ComputeOf<T> met(const Sizes& s, const T* x, const Triple& pixel,
                                            const Triple& element) {
  const std::int32_t iy = pixel.y * s.stride + element.y - s.padding;
  const std::int32_t ix = pixel.x * s.stride + element.x - s.padding;
  if (iy < 0 || iy >= s.in_height || ix < 0 || ix >= s.in_width) return 0;
  const std::int64_t plane = static_cast<std::int64_t>(pixel.outer) * s.in_channels + element.outer;
  return widen(x[(plane * s.in_height + iy) * s.in_width + ix]);
}

template <class T>
struct Forward {
  using R = ComputeOf<T>;
  using Column = Triple;
  static constexpr bool kAlongK = false;
  Sizes s;
  std::int32_t m, n, k;
  const T *x, *weight, *bias;
  T* y;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(x);
    visit(weight);
    visit(bias);
    visit(y);
  }

  struct Product {
    std::int32_t index;
    Triple element;  // channel, ky, kx
  };
  __device__ Column column(std::int32_t j) const { return split(j, s.by_pixels, s.by_width); }
  __device__ Product product(std::int32_t i) const {
    return {i, split(i, s.by_kernel_size, s.by_kernel_width)};
  }
  __device__ R a(std::int32_t row, const Product& product) const {
    return widen(weight[static_cast<std::int64_t>(row) * k + product.index]);
  }
  __device__ R b(const Product& product, const Column& pixel) const {
    return met(s, x, pixel, product.element);
  }
  __device__ void put(std::int32_t row, std::int32_t j, int, R sum) const {
    const Triple pixel = column(j);
    const std::int64_t plane = static_cast<std::int64_t>(pixel.outer) * s.out_channels + row;
    if (bias != nullptr) sum += widen(bias[row]);
    y[plane * s.pixels() + pixel.y * s.out_width + pixel.x] = narrow<T>(sum);
  }
};

template <class T>
struct InputGradient {
  using R = ComputeOf<T>;
  using Column = Triple;  // image, iy, ix
  static constexpr bool kAlongK = false;
  Sizes s;
  std::int32_t m, n, k;
  const T *dy, *weight;
  T* dx;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(dy);
    visit(weight);
    visit(dx);
  }

  using Product = Triple;  // out channel, ky, kx
  __device__ Column column(std::int32_t j) const { return split(j, s.by_in_pixels, s.by_in_width); }
  __device__ Product product(std::int32_t i) const {
    return split(i, s.by_kernel_size, s.by_kernel_width);
  }
  __device__ R a(std::int32_t row, const Product& p) const {
    const std::int64_t plane = static_cast<std::int64_t>(p.outer) * s.in_channels + row;
    return widen(weight[plane * s.kernel_size() + p.y * s.kernel_width + p.x]);
  }
  __device__ R b(const Product& p, const Column& pixel) const {
    const std::int32_t ty = pixel.y + s.padding - p.y, tx = pixel.x + s.padding - p.x;
    if (ty < 0 || tx < 0) return 0;
    const auto oy = static_cast<std::int32_t>(s.by_stride.quotient(static_cast<std::uint32_t>(ty)));
    const auto ox = static_cast<std::int32_t>(s.by_stride.quotient(static_cast<std::uint32_t>(tx)));
    if (oy * s.stride != ty || ox * s.stride != tx || oy >= s.out_height || ox >= s.out_width) {
      return 0;
    }
    const std::int64_t plane = static_cast<std::int64_t>(pixel.outer) * s.out_channels + p.outer;
    return widen(dy[plane * s.pixels() + oy * s.out_width + ox]);
  }
  __device__ void put(std::int32_t row, std::int32_t j, int, R sum) const {
    const Triple pixel = column(j);
    const std::int64_t plane = static_cast<std::int64_t>(pixel.outer) * s.in_channels + row;
    dx[plane * s.in_pixels() + pixel.y * s.in_width + pixel.x] = narrow<T>(sum);
  }
};

template <class T>
struct WeightGradient {
  using R = ComputeOf<T>;
  using Column = Triple;  // channel, ky, kx
  static constexpr bool kAlongK = true;
  Sizes s;
  std::int32_t m, n, k;
  const T *dy, *x;
  R* partials;  // (parts, m, n)

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(dy);
    visit(x);
    visit(partials);
  }

  using Product = Triple;  // image, oy, ox
  __device__ Column column(std::int32_t j) const {
    return split(j, s.by_kernel_size, s.by_kernel_width);
  }
  __device__ Product product(std::int32_t i) const { return split(i, s.by_pixels, s.by_width); }
  __device__ R a(std::int32_t row, const Product& p) const {
    const std::int64_t plane = static_cast<std::int64_t>(p.outer) * s.out_channels + row;
    return widen(dy[plane * s.pixels() + p.y * s.out_width + p.x]);
  }
  __device__ R b(const Product& p, const Column& element) const { return met(s, x, p, element); }
  __device__ void put(std::int32_t row, std::int32_t j, int part, R sum) const {
    partials[(static_cast<std::int64_t>(part) * m + row) * n + j] = sum;
  }
};

// A block an output channel: its sum over images and pixels.
template <class T>
__global__ void __launch_bounds__(256)
    bias_gradient_kernel(std::int64_t batch, std::int64_t channels, std::int64_t pixels,
                         const T* dy, T* dbias) {
  __shared__ double slots[kWarpsMax];
  ComputeOf<T> sum = 0;
  for (std::int64_t n = 0; n < batch; ++n) {
    const T* const plane = dy + (n * channels + blockIdx.x) * pixels;
#pragma unroll 4
    for (std::int64_t i = threadIdx.x; i < pixels; i += blockDim.x) sum += widen(plane[i]);
  }
  sum = BlockTeam{slots}.sum(sum);
  if (threadIdx.x == 0) dbias[blockIdx.x] = narrow<T>(sum);
}

template <class T>
void weight_gradient(const Conv2d& problem, const Sizes& sizes, const T* dy, const T* x, T* dweight,
                     Stream stream) {
  using R = ComputeOf<T>;
  constexpr std::int64_t kBlocks = 264, kProductsMin = 1024;
  const std::int64_t m = problem.out_channels, n = problem.filter();
  const std::int64_t k = problem.batch * problem.pixels();
  const std::int64_t tiles = ((m + kConvTile - 1) / kConvTile) * ((n + kConvTile - 1) / kConvTile);
  if (tiles == 0) return;
  const std::int64_t parts =
      std::max<std::int64_t>(1, std::min(kBlocks / tiles, (k + kProductsMin - 1) / kProductsMin));
  const Scratch scratch(Bytes(parts * m * n * static_cast<std::int64_t>(sizeof(R))), stream);
  auto* const partials = static_cast<R*>(scratch.data());
  launch_conv_gemm<R>(WeightGradient<T>{sizes, Sizes::narrowed(m), Sizes::narrowed(n),
                                        Sizes::narrowed(k), dy, x, partials},
                      static_cast<int>(parts), stream);
  launch_fold_columns(1, parts, m * n, ColumnTarget<T, R, 1>{{dweight}, R(1), partials}, stream);
}

}  // namespace

void conv2d(const Conv2d& problem, const void* x, const void* weight, const void* bias, void* y,
            Stream stream) {
  const Sizes sizes(problem);
  dispatch_floating(problem.dtype, "conv2d", [&]<class T>() {
    launch_conv_gemm<ComputeOf<T>>(
        Forward<T>{sizes, sizes.out_channels, Sizes::narrowed(problem.batch * problem.pixels()),
                   Sizes::narrowed(problem.filter()), static_cast<const T*>(x),
                   static_cast<const T*>(weight), static_cast<const T*>(bias), static_cast<T*>(y)},
        1, stream);
  });
}

void conv2d_backward(const Conv2d& problem, const void* dy, const void* x, const void* weight,
                     void* dx, void* dweight, void* dbias, Stream stream) {
  const Sizes sizes(problem);
  dispatch_floating(problem.dtype, "conv2d", [&]<class T>() {
    const auto* const gradient = static_cast<const T*>(dy);
    if (dx != nullptr) {
      launch_conv_gemm<ComputeOf<T>>(
          InputGradient<T>{
              sizes, sizes.in_channels,
              Sizes::narrowed(problem.batch * problem.in_height * problem.in_width),
              Sizes::narrowed(problem.out_channels * problem.kernel_height * problem.kernel_width),
              gradient, static_cast<const T*>(weight), static_cast<T*>(dx)},
          1, stream);
    }
    if (dweight != nullptr) {
      weight_gradient(problem, sizes, gradient, static_cast<const T*>(x), static_cast<T*>(dweight),
                      stream);
    }
    if (dbias != nullptr) {
      launch(bias_gradient_kernel<T>, Shape{static_cast<unsigned>(problem.out_channels), 256},
             stream, problem.batch, problem.out_channels, problem.pixels(), gradient,
             static_cast<T*>(dbias));
    }
  });
}

}  // namespace weft::kernels::cuda
