#include "kernels/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cast.h"
#include "kernels/cpu/epilogue.h"

namespace weft::kernels {
namespace {

// Below this many multiplications a product is done before another thread has woken.
constexpr double kThreadWork = 128.0 * 1024;
// Tiles end at multiples of this, where BLAS kernels have no ragged edge.
constexpr std::int64_t kTileStep = 32;
// With an epilogue, rows of C are finished in panels that stay in a core's share of the caches...
constexpr std::int64_t kPanelBytes = 2 * 1024 * 1024;
// ... but are no shorter than this, because BLAS packs B anew for each: panels of 64 rows cost 20%
// of 2048x1536x384, of 512 rows 3%.
constexpr std::int64_t kPanelRowsMin = 512;
// Halves: elements of B, and of a panel of A, that are widened at a time.
constexpr std::int64_t kWideB = std::int64_t{1} << 22;
constexpr std::int64_t kWideA = std::int64_t{1} << 17;
constexpr std::int64_t kSizeMax = std::numeric_limits<blasint>::max();

struct Tail {  // what follows the product
  Epilogue epilogue = Epilogue::none;
  const void* bias = nullptr;
  void* pre_activation = nullptr;
};

struct Tile {
  std::int64_t row, rows, column, columns;
};

template <class Pointer>
Pointer at(Pointer data, std::int64_t index, DType dtype) {
  using Byte = std::conditional_t<std::is_same_v<Pointer, void*>, std::byte, const std::byte>;
  if (data == nullptr) return nullptr;
  return static_cast<Byte*>(data) + index * size_of(dtype).value;
}

// A float buffer of this thread that only grows. `slot` tells apart those in use together.
float* scratch(int slot, std::int64_t count) {
  struct Buffer {
    std::unique_ptr<float[]> data;
    std::int64_t count = 0;
  };
  static thread_local Buffer buffers[4];
  Buffer& buffer = buffers[slot];
  if (buffer.count < count) {
    buffer.data.reset();
    buffer.data = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(count));
    buffer.count = count;
  }
  return buffer.data.get();
}

// The part of A, B and C that a tile of C needs.
Gemm part_of(const Gemm& g, const Tile& tile) {
  Gemm part = g;
  part.m = tile.rows;
  part.n = tile.columns;
  const bool ta = g.transpose_a == Transpose::yes;
  const bool tb = g.transpose_b == Transpose::yes;
  part.a = at(g.a, ta ? tile.row : tile.row * g.lda, g.dtype);
  part.b = at(g.b, tb ? tile.column * g.ldb : tile.column, g.dtype);
  part.c = at(g.c, tile.row * g.ldc + tile.column, g.dtype);
  return part;
}

// f32 and f64, in the calling thread.
void blas(const Gemm& g) {
  // We share work out ourselves. A thread of OpenBLAS beside each of ours would fight for cores.
  static const bool single = (openblas_set_num_threads(1), true);
  static_cast<void>(single);
  if (g.m == 0 || g.n == 0) return;
  const auto size = [](std::int64_t value) { return static_cast<blasint>(value); };
  const auto lead = [](std::int64_t value) {
    return static_cast<blasint>(std::max<std::int64_t>(value, 1));
  };
  const auto ta = g.transpose_a == Transpose::yes ? CblasTrans : CblasNoTrans;
  const auto tb = g.transpose_b == Transpose::yes ? CblasTrans : CblasNoTrans;
  if (g.dtype == DType::f64) {
    cblas_dgemm(CblasRowMajor, ta, tb, size(g.m), size(g.n), size(g.k), g.alpha,
                static_cast<const double*>(g.a), lead(g.lda), static_cast<const double*>(g.b),
                lead(g.ldb), g.beta, static_cast<double*>(g.c), lead(g.ldc));
  } else {
    cblas_sgemm(CblasRowMajor, ta, tb, size(g.m), size(g.n), size(g.k), static_cast<float>(g.alpha),
                static_cast<const float*>(g.a), lead(g.lda), static_cast<const float*>(g.b),
                lead(g.ldb), static_cast<float>(g.beta), static_cast<float*>(g.c), lead(g.ldc));
  }
}

void finish_tile(const Gemm& part, const Tail& tail, const Tile& tile, std::int64_t ld_pre) {
  if (tail.epilogue == Epilogue::none) return;
  EpilogueTile work;
  work.dtype = part.dtype;
  work.rows = part.m;
  work.columns = part.n;
  work.c = part.c;
  work.ldc = part.ldc;
  work.bias = at(tail.bias, tile.column, part.dtype);
  work.pre_activation = at(tail.pre_activation, tile.row * ld_pre + tile.column, part.dtype);
  work.ld_pre = ld_pre;
  if (tail.epilogue == Epilogue::bias) return add_bias(work);
  add_bias_gelu(work);
}

// f32 and f64: a tile in the calling thread, in panels of rows where an epilogue follows.
void tile_product(const Gemm& g, const Tail& tail, const Tile& tile) {
  std::int64_t step = tile.rows;
  if (tail.epilogue != Epilogue::none) {
    const std::int64_t row_bytes = std::max<std::int64_t>(1, tile.columns * size_of(g.dtype).value);
    step = std::max(kPanelRowsMin, kPanelBytes / row_bytes / kTileStep * kTileStep);
  }
  for (std::int64_t done = 0; done < tile.rows; done += step) {
    const Tile panel{tile.row + done, std::min(step, tile.rows - done), tile.column, tile.columns};
    const Gemm part = part_of(g, panel);
    blas(part);
    finish_tile(part, tail, panel, g.n);
  }
}

struct Grid {
  std::int64_t rows = 1, columns = 1;  // tiles
};

// At most one tile a thread, as square as may be: the least reading of A and B.
Grid grid_for(const Gemm& g, std::int64_t threads) {
  const double work = static_cast<double>(g.m) * static_cast<double>(g.n) *
                      static_cast<double>(std::max<std::int64_t>(g.k, 1));
  const auto useful = static_cast<std::int64_t>(std::min(work / kThreadWork, 1e6));
  threads = std::max<std::int64_t>(1, std::min(threads, useful));
  Grid best;
  double best_cost = std::numeric_limits<double>::infinity();
  for (std::int64_t rows = 1; rows <= threads; ++rows) {
    const Grid grid{rows, threads / rows};
    const auto share = [](std::int64_t size, std::int64_t parts) {
      const std::int64_t steps = (size + kTileStep - 1) / kTileStep;
      return static_cast<double>((steps + parts - 1) / parts * kTileStep);
    };
    const double height = share(g.m, grid.rows);
    const double width = share(g.n, grid.columns);
    // The largest tile decides the time; reading A and B costs about as much as 16 rows of work.
    const double cost = height * width + 16.0 * (height + width);
    if (cost < best_cost) {
      best_cost = cost;
      best = grid;
    }
  }
  return best;
}

// Position where part `index` of `parts` begins: a multiple of kTileStep.
std::int64_t boundary(std::int64_t size, std::int64_t parts, std::int64_t index) {
  const std::int64_t steps = (size + kTileStep - 1) / kTileStep;
  return std::min(size, steps * index / parts * kTileStep);
}

void product(const Gemm& g, const Tail& tail) {
  const Grid grid = grid_for(g, ThreadPool::current().size());
  parallel_for(grid.rows * grid.columns, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t r = i / grid.columns, c = i % grid.columns;
      const std::int64_t row = boundary(g.m, grid.rows, r);
      const std::int64_t column = boundary(g.n, grid.columns, c);
      const Tile tile{row, boundary(g.m, grid.rows, r + 1) - row, column,
                      boundary(g.n, grid.columns, c + 1) - column};
      if (tile.rows > 0 && tile.columns > 0) tile_product(g, tail, tile);
    }
  });
}

// A matrix in f32, side by side, from one of halves.
void widen(float* to, const void* from, DType dtype, std::int64_t ld, std::int64_t rows,
           std::int64_t columns) {
  cast_rows({to, DType::f32, columns}, {from, dtype, ld}, rows, Elems(columns));
}

void narrow(void* to, std::int64_t ld, DType dtype, const float* from, std::int64_t rows,
            std::int64_t columns) {
  cast_rows({to, dtype, ld}, {from, DType::f32, columns}, rows, Elems(columns));
}

// A panel of halves: A and C are widened, B and the bias have been.
void half_panel(const Gemm& g, const Tail& tail, const Tile& tile, const float* wide_b,
                const float* wide_bias) {
  const Gemm part = part_of(g, tile);
  const bool ta = g.transpose_a == Transpose::yes;
  const bool tb = g.transpose_b == Transpose::yes;
  Gemm wide = part;
  wide.dtype = DType::f32;
  float* const a = scratch(1, part.m * g.k);
  float* const c = scratch(2, part.m * part.n);
  widen(a, part.a, g.dtype, g.lda, ta ? g.k : part.m, ta ? part.m : g.k);
  if (g.beta != 0.0) widen(c, part.c, g.dtype, g.ldc, part.m, part.n);
  wide.a = a;
  wide.lda = ta ? part.m : g.k;
  wide.b = wide_b;
  wide.ldb = tb ? g.k : part.n;
  wide.c = c;
  wide.ldc = part.n;
  blas(wide);
  if (tail.epilogue != Epilogue::none) {
    float* const pre = tail.pre_activation != nullptr ? scratch(3, part.m * part.n) : nullptr;
    const Tile whole{0, part.m, 0, part.n};
    finish_tile(wide, Tail{tail.epilogue, wide_bias, pre}, whole, part.n);
    if (pre != nullptr) {
      narrow(at(tail.pre_activation, tile.row * g.n + tile.column, g.dtype), g.n, g.dtype, pre,
             part.m, part.n);
    }
  }
  narrow(part.c, g.ldc, g.dtype, c, part.m, part.n);
}

// Columns of B are widened block by block, for all threads; each widens its own rows of A.
void half_product(const Gemm& g, const Tail& tail) {
  if (g.m == 0 || g.n == 0) return;
  const std::int64_t depth = std::max<std::int64_t>(g.k, 1);
  const std::int64_t block =
      std::clamp(kWideB / depth / kTileStep * kTileStep, kTileStep, std::max(g.n, kTileStep));
  const bool tb = g.transpose_b == Transpose::yes;
  for (std::int64_t column = 0; column < g.n; column += block) {
    const std::int64_t columns = std::min(block, g.n - column);
    float* const b = scratch(0, depth * columns + columns);
    float* const bias = b + depth * columns;
    const void* const from = at(g.b, tb ? column * g.ldb : column, g.dtype);
    const std::int64_t rows_b = tb ? columns : g.k;
    const std::int64_t width_b = tb ? g.k : columns;
    parallel_for(rows_b, std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(width_b, 1)),
                 [&](std::int64_t begin, std::int64_t end) {
                   widen(b + begin * width_b, at(from, begin * g.ldb, g.dtype), g.dtype, g.ldb,
                         end - begin, width_b);
                 });
    if (tail.epilogue != Epilogue::none) {
      cast(bias, DType::f32, at(tail.bias, column, g.dtype), g.dtype, Elems(columns));
    }
    const std::int64_t rows =
        std::clamp(kWideA / depth / kTileStep * kTileStep, kTileStep, std::int64_t{512});
    const auto grain = static_cast<std::int64_t>(kThreadWork / (static_cast<double>(depth) *
                                                                static_cast<double>(columns))) +
                       1;
    parallel_for(g.m, grain, [&](std::int64_t begin, std::int64_t end) {
      for (; begin < end; begin += rows) {
        half_panel(g, tail, Tile{begin, std::min(rows, end - begin), column, columns}, b, bias);
      }
    });
  }
}

void check(const Gemm& g, const Tail& tail) {
  if (!is_floating(g.dtype)) {
    fail<InvalidArgument>("gemm: matrices of {}: expected a floating type.", name_of(g.dtype));
  }
  if (g.m < 0 || g.n < 0 || g.k < 0) {
    fail<InvalidArgument>("gemm: m={} n={} k={}: expected 0 or more.", g.m, g.n, g.k);
  }
  const std::int64_t width_a = g.transpose_a == Transpose::yes ? g.m : g.k;
  const std::int64_t width_b = g.transpose_b == Transpose::yes ? g.k : g.n;
  if (g.lda < width_a || g.ldb < width_b || g.ldc < g.n) {
    fail<InvalidArgument>(
        "gemm: m={} n={} k={}: lda={} ldb={} ldc={}: expected at least {}, {} and {}.", g.m, g.n,
        g.k, g.lda, g.ldb, g.ldc, width_a, width_b, g.n);
  }
  if (std::max({g.m, g.n, g.k, g.lda, g.ldb, g.ldc}) > kSizeMax) {
    fail<Unsupported>("gemm: m={} n={} k={}: this BLAS takes sizes and strides up to {}.", g.m, g.n,
                      g.k, kSizeMax);
  }
  const bool reads = g.m > 0 && g.n > 0;
  if (reads && (g.c == nullptr || (g.k > 0 && (g.a == nullptr || g.b == nullptr)))) {
    fail<InvalidArgument>("gemm: m={} n={} k={}: a null matrix.", g.m, g.n, g.k);
  }
  if (reads && tail.epilogue != Epilogue::none && tail.bias == nullptr) {
    fail<InvalidArgument>("gemm: the epilogue adds a bias, which is null.");
  }
}

void checked_product(const Gemm& g, const Tail& tail) {
  if (is_half(g.dtype)) return half_product(g, tail);
  product(g, tail);
}

}  // namespace

void gemm(const Gemm& problem, Epilogue epilogue, const void* bias, void* pre_activation) {
  const Tail tail{epilogue, bias, pre_activation};
  check(problem, tail);
  checked_product(problem, tail);
}

void gemm_batched(const Gemm& problem, std::int64_t batch, std::int64_t stride_a,
                  std::int64_t stride_b, std::int64_t stride_c) {
  if (batch < 0) fail<InvalidArgument>("gemm_batched: batch {}: expected 0 or more.", batch);
  if (batch == 0) return;
  check(problem, {});
  const auto product_at = [&](std::int64_t i) {
    Gemm one = problem;
    one.a = at(problem.a, i * stride_a, problem.dtype);
    one.b = at(problem.b, i * stride_b, problem.dtype);
    one.c = at(problem.c, i * stride_c, problem.dtype);
    checked_product(one, {});
  };
  if (batch < ThreadPool::current().size()) {  // threads share each product
    for (std::int64_t i = 0; i < batch; ++i) product_at(i);
    return;
  }
  const double work = static_cast<double>(problem.m) * static_cast<double>(problem.n) *
                      static_cast<double>(std::max<std::int64_t>(problem.k, 1));
  const auto grain = static_cast<std::int64_t>(kThreadWork / std::max(work, 1.0)) + 1;
  parallel_for(batch, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) product_at(i);
  });
}

}  // namespace weft::kernels
