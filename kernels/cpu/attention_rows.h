// The row-wise half of attention's tiles; the products are gemm's (kernels/cpu/attention.cc).
#pragma once

#include <cstdint>

namespace weft::kernels {

// A tile of scores: `rows` queries x `columns` keys, rows `stride` apart. Query r may look at the
// first visible(r) keys of the tile.
template <class R>
struct ScoreTile {
  R* scores = nullptr;
  std::int64_t rows = 0, columns = 0, stride = 0;
  std::int64_t first_visible = 0;  // of query 0; each next query sees one more
  const R* mask = nullptr;         // dropout's factors, like scores; nullptr: no dropout

  std::int64_t visible(std::int64_t row) const {
    const std::int64_t keys = first_visible + row;
    return keys < columns ? keys : columns;
  }
};

// Running softmax, one number a query: the maximum so far and the sum of exponentials against it.
// Turns scores into exp(score - maximum) * mask (0 where not visible) and multiplies `output` (rows
// x width, rows `stride` apart), which holds the tiles before, by exp(old maximum - new maximum);
// with `first`, output is not touched.
template <class R>
struct RunningSoftmax {
  R *maximum = nullptr, *sum = nullptr;
  R* output = nullptr;
  std::int64_t width = 0, stride = 0;
  bool first = false;
};
void advance_softmax(const ScoreTile<float>& tile, const RunningSoftmax<float>& state);
void advance_softmax(const ScoreTile<double>& tile, const RunningSoftmax<double>& state);

// Divides output by the sums and leaves log(sum) + maximum in log_sum_exp.
void finish_softmax(std::int64_t rows, const RunningSoftmax<float>& state, float* log_sum_exp);
void finish_softmax(std::int64_t rows, const RunningSoftmax<double>& state, double* log_sum_exp);

// Backward of a tile. In: scores, and in `gradient` (like scores) the gradient of the probabilities
// after dropout. Out: scores become the probabilities after dropout, gradient that of the scores
// before scaling, times `scale`. `dot` is the sum of dout * out over the width, one a query.
void softmax_tile_gradient(const ScoreTile<float>& tile, float* gradient, const float* log_sum_exp,
                           const float* dot, float scale);
void softmax_tile_gradient(const ScoreTile<double>& tile, double* gradient,
                           const double* log_sum_exp, const double* dot, double scale);

// dot[r] = sum over the width of a * b, rows `stride` apart.
void row_dots(std::int64_t rows, std::int64_t width, const float* a, std::int64_t stride_a,
              const float* b, std::int64_t stride_b, float* dot);
void row_dots(std::int64_t rows, std::int64_t width, const double* a, std::int64_t stride_a,
              const double* b, std::int64_t stride_b, double* dot);

}  // namespace weft::kernels
