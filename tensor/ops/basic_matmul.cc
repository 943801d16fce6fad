// Matrix products: strides become BLAS's transposes and leading dimensions where they can, leading
// dimensions become batches.
#include <algorithm>

#include "kernels/gemm.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/basic_checks.h"
#include "tensor/ops/sum_to.h"

namespace weft::tensor::ops {
namespace {

using kernels::Gemm;
using kernels::Transpose;

struct Layout {
  Transpose transpose;
  std::int64_t lead;  // elements between rows as stored
};

// How BLAS reads the last two dimensions; false where it cannot.
bool blas_layout(const Tensor& a, Layout& layout) {
  const auto n = a.shape().size();
  const auto rows = a.shape()[n - 2];
  const auto cols = a.shape()[n - 1];
  const auto row_stride = a.strides()[n - 2];
  const auto col_stride = a.strides()[n - 1];
  if ((col_stride == 1 || cols <= 1) &&
      (row_stride >= std::max<std::int64_t>(cols, 1) || rows <= 1)) {
    layout = {Transpose::no, rows <= 1 ? std::max<std::int64_t>(cols, 1) : row_stride};
    return true;
  }
  if ((row_stride == 1 || rows <= 1) &&
      (col_stride >= std::max<std::int64_t>(rows, 1) || cols <= 1)) {
    layout = {Transpose::yes, cols <= 1 ? std::max<std::int64_t>(rows, 1) : col_stride};
    return true;
  }
  return false;
}

Tensor readable(const Tensor& a, Layout& layout) {
  if (blas_layout(a, layout)) return a;
  auto copy = a.contiguous();
  blas_layout(copy, layout);
  return copy;
}

// Batch dimensions shared by both operands and the (contiguous) result.
struct Batch {
  Shape shape;
  Strides a, b;
};

// Merges neighbouring batch dimensions that both operands walk evenly.
Batch merged(const Batch& batch) {
  Batch result;
  for (std::size_t i = batch.shape.size(); i-- > 0;) {
    if (batch.shape[i] == 1) continue;
    if (!result.shape.empty() && batch.a[i] == result.a.back() * result.shape.back() &&
        batch.b[i] == result.b.back() * result.shape.back()) {
      result.shape.back() *= batch.shape[i];
      continue;
    }
    result.shape.push_back(batch.shape[i]);
    result.a.push_back(batch.a[i]);
    result.b.push_back(batch.b[i]);
  }
  return result;  // innermost first
}

void run_batches(Gemm problem, const Batch& batch) {
  const auto size = size_of(problem.dtype).value;
  const auto per_product = problem.m * problem.n;
  const std::int64_t inner = batch.shape.empty() ? 1 : batch.shape[0];
  std::int64_t outer = 1;
  for (std::size_t d = 1; d < batch.shape.size(); ++d) outer *= batch.shape[d];
  const auto* a = static_cast<const std::byte*>(problem.a);
  const auto* b = static_cast<const std::byte*>(problem.b);
  auto* c = static_cast<std::byte*>(problem.c);
  for (std::int64_t i = 0; i < outer; ++i) {
    std::int64_t a_at = 0, b_at = 0, rest = i;
    for (std::size_t d = 1; d < batch.shape.size(); ++d) {
      const auto index = rest % batch.shape[d];
      rest /= batch.shape[d];
      a_at += index * batch.a[d];
      b_at += index * batch.b[d];
    }
    problem.a = a + a_at * size;
    problem.b = b + b_at * size;
    problem.c = c + i * inner * per_product * size;
    if (inner == 1) {
      kernels::gemm(problem);
    } else {
      kernels::gemm_batched(problem, inner, batch.a[0], batch.b[0], per_product);
    }
  }
}

Strides batch_strides(const Tensor& a, const Shape& batch) {
  const auto n = static_cast<std::ptrdiff_t>(a.shape().size()) - 2;
  return broadcast_strides(Shape(a.shape().begin(), a.shape().begin() + n),
                           Strides(a.strides().begin(), a.strides().begin() + n), batch);
}

// out = a b, for contiguous `out` of the broadcast shape.
void multiply_into(const Tensor& out, const Tensor& a, const Tensor& b) {
  if (out.numel() == 0) return;
  Layout a_layout, b_layout;
  const auto left = readable(a, a_layout);
  const auto right = readable(b, b_layout);
  Gemm problem;
  problem.dtype = out.dtype();
  problem.transpose_a = a_layout.transpose;
  problem.transpose_b = b_layout.transpose;
  problem.m = out.size(-2);
  problem.n = out.size(-1);
  problem.k = a.size(-1);
  problem.a = left.data();
  problem.lda = a_layout.lead;
  problem.b = right.data();
  problem.ldb = b_layout.lead;
  problem.c = out.data();
  problem.ldc = problem.n;
  if (out.dim() == 2) {
    kernels::gemm(problem);
    return;
  }
  const Shape batch(out.shape().begin(), out.shape().end() - 2);
  run_batches(problem, merged({batch, batch_strides(left, batch), batch_strides(right, batch)}));
}

Tensor multiply(const Tensor& a, const Tensor& b, Shape batch) {
  batch.push_back(a.size(-2));
  batch.push_back(b.size(-1));
  auto out = Tensor::empty(std::move(batch), {a.dtype(), a.device()});
  multiply_into(out, a, b);
  return out;
}

// The gradient of `input`, of the product left * right. Straight into place where no broadcast
// dimension is to be summed away.
Tensor product_gradient(const Tensor& input, const Tensor& left, const Tensor& right,
                        const Shape& batch) {
  if (input.dim() == static_cast<std::int64_t>(batch.size()) + 2 &&
      std::equal(batch.begin(), batch.end(), input.shape().begin())) {
    auto gradient = autograd::empty_gradient(input);
    multiply_into(gradient, left, right);
    return gradient;
  }
  return sum_to(multiply(left, right, batch), input.shape());
}

Shape batch_of(const Tensor& a) { return {a.shape().begin(), a.shape().end() - 2}; }

void check(const Tensor& a, const Tensor& b) {
  require_same_type("matmul", a, b);
  require_floating("matmul", a);
  if (a.dim() < 2 || b.dim() < 2 || a.size(-1) != b.size(-2)) {
    fail<InvalidArgument>("matmul: shapes {} and {}; expected (..., m, k) and (..., k, n)",
                          to_string(a.shape()), to_string(b.shape()));
  }
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (amp::casts()) {
    return amp::low([](const Tensor& x, const Tensor& y) { return matmul(x, y); }, a, b);
  }
  check(a, b);
  if (a.dim() > 2 && b.dim() == 2) {
    // One product over all rows; the gradient of b is then one product too.
    Shape shape = a.shape();
    shape.back() = b.size(-1);
    const auto rows = numel(batch_of(a)) * a.size(-2);
    return matmul(a.reshape({rows, a.size(-1)}), b).view(std::move(shape));
  }
  const auto batch = broadcast_shapes(batch_of(a), batch_of(b), "matmul");
  auto out = multiply(a, b, batch);
  if (!autograd::should_record({a, b})) return out;
  return autograd::record(
      "matmul", std::move(out), {a, b}, [a, b, batch](const Tensor& grad) -> std::vector<Tensor> {
        return {
            a.requires_grad() ? product_gradient(a, grad, b.transpose(-2, -1), batch) : Tensor(),
            b.requires_grad() ? product_gradient(b, a.transpose(-2, -1), grad, batch) : Tensor()};
      });
}

}  // namespace weft::tensor::ops
