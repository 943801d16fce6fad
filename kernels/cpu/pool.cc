#include "kernels/pool.h"

#include <limits>

#include "kernels/cpu/staging.h"

namespace weft::kernels {
namespace {

// The part of a window that lies inside the plane.
struct Window {
  std::int64_t top, bottom, left, right;
};
Window window_of(const Pool2d& p, std::int64_t oy, std::int64_t ox) {
  const std::int64_t y = oy * p.stride - p.padding, x = ox * p.stride - p.padding;
  return {std::max<std::int64_t>(y, 0), std::min(y + p.kernel, p.in_height),
          std::max<std::int64_t>(x, 0), std::min(x + p.kernel, p.in_width)};
}

// body(input plane, output plane, plane) for every plane, either side staged.
template <class T, class Body>
void for_planes(const Pool2d& p, const T* from, std::int64_t from_size, T* to, std::int64_t to_size,
                const Body& body) {
  parallel_for(
      p.planes, grain_rows(from_size + to_size), [&](std::int64_t begin, std::int64_t end) {
        Reader<T> in;
        Writer<T> out;
        for (std::int64_t plane = begin; plane < end; ++plane) {
          T* target = to + plane * to_size;
          body(in.read(from + plane * from_size, from_size), out.begin(target, to_size), plane);
          out.end(target, to_size);
        }
      });
}

template <class R>
void max_of_plane(const Pool2d& p, const R* x, R* y, std::int32_t* winners) {
  for (std::int64_t oy = 0; oy < p.out_height(); ++oy) {
    for (std::int64_t ox = 0; ox < p.out_width(); ++ox) {
      const Window w = window_of(p, oy, ox);
      R best = -std::numeric_limits<R>::infinity();
      std::int64_t winner = w.top * p.in_width + w.left;
      for (std::int64_t iy = w.top; iy < w.bottom; ++iy) {
        for (std::int64_t ix = w.left; ix < w.right; ++ix) {
          const R value = x[iy * p.in_width + ix];
          if (value > best || (value != value && best == best)) {
            best = value;
            winner = iy * p.in_width + ix;
          }
        }
      }
      *y++ = best;
      *winners++ = static_cast<std::int32_t>(winner);
    }
  }
}

template <class Visit>
void visit_windows(const Pool2d& p, const Visit& visit) {
  for (std::int64_t oy = 0; oy < p.out_height(); ++oy) {
    for (std::int64_t ox = 0; ox < p.out_width(); ++ox) {
      visit(oy * p.out_width() + ox, window_of(p, oy, ox));
    }
  }
}

}  // namespace

void max_pool2d(const Pool2d& problem, const void* x, void* y, std::int32_t* winners) {
  const std::int64_t in = problem.in_height * problem.in_width;
  const std::int64_t out = problem.out_height() * problem.out_width();
  dispatch_floating(problem.dtype, "max_pool2d", [&]<class T>() {
    for_planes(problem, static_cast<const T*>(x), in, static_cast<T*>(y), out,
               [&](const Real<T>* from, Real<T>* to, std::int64_t plane) {
                 max_of_plane(problem, from, to, winners + plane * out);
               });
  });
}

void max_pool2d_backward(const Pool2d& problem, const void* dy, const std::int32_t* winners,
                         void* dx) {
  const std::int64_t in = problem.in_height * problem.in_width;
  const std::int64_t out = problem.out_height() * problem.out_width();
  dispatch_floating(problem.dtype, "max_pool2d", [&]<class T>() {
    for_planes(problem, static_cast<const T*>(dy), out, static_cast<T*>(dx), in,
               [&](const Real<T>* from, Real<T>* to, std::int64_t plane) {
                 std::fill_n(to, in, Real<T>(0));
                 const std::int32_t* won = winners + plane * out;
                 for (std::int64_t i = 0; i < out; ++i) to[won[i]] += from[i];
               });
  });
}

void avg_pool2d(const Pool2d& problem, const void* x, void* y) {
  const std::int64_t in = problem.in_height * problem.in_width;
  const std::int64_t out = problem.out_height() * problem.out_width();
  dispatch_floating(problem.dtype, "avg_pool2d", [&]<class T>() {
    using R = Real<T>;
    const R share = R(1) / static_cast<R>(problem.kernel * problem.kernel);
    for_planes(problem, static_cast<const T*>(x), in, static_cast<T*>(y), out,
               [&](const R* from, R* to, std::int64_t /*plane*/) {
                 visit_windows(problem, [&](std::int64_t i, const Window& w) {
                   R sum = 0;
                   for (std::int64_t iy = w.top; iy < w.bottom; ++iy) {
                     for (std::int64_t ix = w.left; ix < w.right; ++ix) {
                       sum += from[iy * problem.in_width + ix];
                     }
                   }
                   to[i] = sum * share;
                 });
               });
  });
}

void avg_pool2d_backward(const Pool2d& problem, const void* dy, void* dx) {
  const std::int64_t in = problem.in_height * problem.in_width;
  const std::int64_t out = problem.out_height() * problem.out_width();
  dispatch_floating(problem.dtype, "avg_pool2d", [&]<class T>() {
    using R = Real<T>;
    const R share = R(1) / static_cast<R>(problem.kernel * problem.kernel);
    for_planes(problem, static_cast<const T*>(dy), out, static_cast<T*>(dx), in,
               [&](const R* from, R* to, std::int64_t /*plane*/) {
                 std::fill_n(to, in, R(0));
                 visit_windows(problem, [&](std::int64_t i, const Window& w) {
                   for (std::int64_t iy = w.top; iy < w.bottom; ++iy) {
                     for (std::int64_t ix = w.left; ix < w.right; ++ix) {
                       to[iy * problem.in_width + ix] += from[i] * share;
                     }
                   }
                 });
               });
  });
}

}  // namespace weft::kernels
