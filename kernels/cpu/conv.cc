#include "kernels/conv.h"

#include "kernels/cpu/staging.h"
#include "kernels/gemm.h"

namespace weft::kernels {
namespace {

// Output columns [first, last) whose input column lies inside the image, for kernel column kx.
struct Inside {
  std::int64_t first, last;
};
Inside inside(std::int64_t k, std::int64_t stride, std::int64_t padding, std::int64_t in,
              std::int64_t out) {
  const std::int64_t first = std::max<std::int64_t>(0, (padding - k + stride - 1) / stride);
  const std::int64_t beyond = in - 1 + padding - k;
  const std::int64_t last = beyond < 0 ? 0 : std::min(out, beyond / stride + 1);
  return {std::min(first, last), last};
}

// Visits (channel, ky, kx, oy) rows of the column matrix: visit(column_row, image_row or nullptr,
// kx range, kx - padding).
template <class R, class Image, class Visit>
void visit_rows(const Conv2d& p, R* columns, Image* image, const Visit& visit) {
  const std::int64_t oh = p.out_height(), ow = p.out_width();
  for (std::int64_t c = 0; c < p.in_channels; ++c) {
    for (std::int64_t ky = 0; ky < p.kernel_height; ++ky) {
      for (std::int64_t kx = 0; kx < p.kernel_width; ++kx) {
        const Inside span = inside(kx, p.stride, p.padding, p.in_width, ow);
        for (std::int64_t oy = 0; oy < oh; ++oy, columns += ow) {
          const std::int64_t iy = oy * p.stride + ky - p.padding;
          const bool outside = iy < 0 || iy >= p.in_height;
          Image* row = outside ? nullptr : image + (c * p.in_height + iy) * p.in_width;
          visit(columns, row, span, kx - p.padding);
        }
      }
    }
  }
}

// (channels * kh * kw, out pixels): row (c, ky, kx) holds what that filter element meets.
template <class R>
void image_to_columns(const Conv2d& p, const R* image, R* columns) {
  const std::int64_t ow = p.out_width(), stride = p.stride;
  visit_rows(p, columns, image, [ow, stride](R* to, const R* row, Inside span, std::int64_t shift) {
    if (row == nullptr) {
      std::fill_n(to, ow, R(0));
      return;
    }
    std::fill(to, to + span.first, R(0));
    for (std::int64_t x = span.first; x < span.last; ++x) to[x] = row[x * stride + shift];
    std::fill(to + span.last, to + ow, R(0));
  });
}

// The transpose of image_to_columns: adds into `image`.
template <class R>
void columns_to_image(const Conv2d& p, const R* columns, R* image) {
  const std::int64_t stride = p.stride;
  visit_rows(p, columns, image, [stride](const R* from, R* row, Inside span, std::int64_t shift) {
    if (row == nullptr) return;
    for (std::int64_t x = span.first; x < span.last; ++x) {
      row[x * stride + shift] += from[x];
    }
  });
}

template <class R>
void multiply(std::int64_t m, std::int64_t n, std::int64_t k, const R* a, Transpose transpose_a,
              const R* b, Transpose transpose_b, R beta, R* c) {
  Gemm g;
  g.dtype = dtype_of<R>;
  g.m = m, g.n = n, g.k = k;
  g.beta = static_cast<double>(beta);
  g.a = a, g.transpose_a = transpose_a, g.lda = transpose_a == Transpose::yes ? m : k;
  g.b = b, g.transpose_b = transpose_b, g.ldb = transpose_b == Transpose::yes ? k : n;
  g.c = c, g.ldc = n;
  gemm(g);
}

template <class T>
void forward(const Conv2d& p, const T* x, const T* weight, const T* bias, T* y) {
  using R = Real<T>;
  const std::int64_t pixels = p.pixels(), filter = p.filter(), result = p.out_channels * pixels;
  Reader<T> weights, biases;
  const R* w = weights.read(weight, p.out_channels * filter);
  const R* b = biases.read(bias, p.out_channels);
  const auto images = [&](std::int64_t begin, std::int64_t end) {
    Reader<T> in;
    Writer<T> out;
    std::vector<R> columns(static_cast<std::size_t>(filter * pixels));
    for (std::int64_t n = begin; n < end; ++n) {
      image_to_columns(p, in.read(x + n * p.image(), p.image()), columns.data());
      T* to = y + n * result;
      R* sums = out.begin(to, result);
      for (std::int64_t o = 0; b != nullptr && o < p.out_channels; ++o) {
        std::fill_n(sums + o * pixels, pixels, b[o]);
      }
      multiply(p.out_channels, pixels, filter, w, Transpose::no, columns.data(), Transpose::no,
               b == nullptr ? R(0) : R(1), sums);
      out.end(to, result);
    }
  };
  if (p.batch == 1) return images(0, 1);  // gemm shares its work out
  parallel_for(p.batch, 1, images);
}

template <class T>
struct BackwardBuffers {
  const T *dy, *x;
  const Real<T>* weight;
  T* dx;
};

// One group of images, in order: dx of each; dweight and dbias (either may be nullptr) summed.
template <class T>
void backward_of_images(const Conv2d& p, const BackwardBuffers<T>& buffers, std::int64_t begin,
                        std::int64_t end, Real<T>* dweight, Real<T>* dbias) {
  using R = Real<T>;
  const std::int64_t pixels = p.pixels(), filter = p.filter(), result = p.out_channels * pixels;
  Reader<T> x_in, dy_in;
  Writer<T> out;
  std::vector<R> columns(static_cast<std::size_t>(filter * pixels));
  for (std::int64_t n = begin; n < end; ++n) {
    const R* dy = dy_in.read(buffers.dy + n * result, result);
    if (dweight != nullptr) {
      image_to_columns(p, x_in.read(buffers.x + n * p.image(), p.image()), columns.data());
      multiply(p.out_channels, filter, pixels, dy, Transpose::no, columns.data(), Transpose::yes,
               R(1), dweight);
    }
    for (std::int64_t o = 0; dbias != nullptr && o < p.out_channels; ++o) {
      R sum = 0;
      for (std::int64_t i = 0; i < pixels; ++i) sum += dy[o * pixels + i];
      dbias[o] += sum;
    }
    if (buffers.dx == nullptr) continue;
    multiply(filter, pixels, p.out_channels, buffers.weight, Transpose::yes, dy, Transpose::no,
             R(0), columns.data());
    T* to = buffers.dx + n * p.image();
    R* image = out.begin(to, p.image());
    std::fill_n(image, p.image(), R(0));
    columns_to_image(p, columns.data(), image);
    out.end(to, p.image());
  }
}

template <class T>
void backward(const Conv2d& p, const BackwardBuffers<T>& buffers, T* dweight, T* dbias) {
  using R = Real<T>;
  constexpr std::int64_t kGroupsMax = 32;
  const std::int64_t filters = p.out_channels * p.filter();
  const std::int64_t group = std::max<std::int64_t>(1, (p.batch + kGroupsMax - 1) / kGroupsMax);
  const std::int64_t groups = (p.batch + group - 1) / group;
  const std::int64_t width =
      (dweight == nullptr ? 0 : filters) + (dbias == nullptr ? 0 : p.out_channels);
  std::vector<R> partials(static_cast<std::size_t>(groups * width), R(0));
  const auto run = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      R* partial = partials.data() + g * width;
      backward_of_images<T>(p, buffers, g * group, std::min(p.batch, (g + 1) * group),
                            dweight == nullptr ? nullptr : partial,
                            dbias == nullptr ? nullptr : partial + width - p.out_channels);
    }
  };
  if (p.batch == 1) {
    run(0, 1);  // gemm shares its work out
  } else {
    parallel_for(groups, 1, run);
  }
  std::vector<R> sums(static_cast<std::size_t>(width), R(0));
  parallel_for(width, kGrainElems, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const R* partial = partials.data() + g * width;
      for (std::int64_t j = begin; j < end; ++j) sums[static_cast<std::size_t>(j)] += partial[j];
    }
  });
  if (dweight != nullptr) {
    cast(dweight, dtype_of<T>, sums.data(), dtype_of<R>, Elems(filters));
  }
  if (dbias != nullptr) {
    cast(dbias, dtype_of<T>, sums.data() + width - p.out_channels, dtype_of<R>,
         Elems(p.out_channels));
  }
}

}  // namespace

void conv2d(const Conv2d& problem, const void* x, const void* weight, const void* bias, void* y) {
  dispatch_floating(problem.dtype, "conv2d", [&]<class T>() {
    forward(problem, static_cast<const T*>(x), static_cast<const T*>(weight),
            static_cast<const T*>(bias), static_cast<T*>(y));
  });
}

void conv2d_backward(const Conv2d& problem, const void* dy, const void* x, const void* weight,
                     void* dx, void* dweight, void* dbias) {
  dispatch_floating(problem.dtype, "conv2d", [&]<class T>() {
    Reader<T> weights;
    const Real<T>* w =
        weights.read(static_cast<const T*>(weight), problem.out_channels * problem.filter());
    backward<T>(problem,
                {static_cast<const T*>(dy), static_cast<const T*>(x), w, static_cast<T*>(dx)},
                static_cast<T*>(dweight), static_cast<T*>(dbias));
  });
}

}  // namespace weft::kernels
