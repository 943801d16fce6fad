// Element-wise operators, reductions and products. All differentiable unless said; broadcasting
// follows NumPy; operands share one dtype and device (InvalidArgument names operation, shapes and
// dtypes otherwise). Integers: add, sub, mul, sum.
#pragma once

#include <vector>

#include "tensor/tensor.h"

namespace weft::tensor::ops {

Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor add(const Tensor& a, double b);
Tensor mul(const Tensor& a, double b);
Tensor neg(const Tensor& a);
Tensor exp(const Tensor& a);
Tensor log(const Tensor& a);
Tensor sqrt(const Tensor& a);
Tensor pow(const Tensor& a, double exponent);
Tensor tanh(const Tensor& a);
Tensor sigmoid(const Tensor& a);
Tensor relu(const Tensor& a);
Tensor sum(const Tensor& a, std::vector<std::int64_t> dims = {},
           bool keep_dim = false);  // no dims: all
Tensor mean(const Tensor& a, std::vector<std::int64_t> dims = {}, bool keep_dim = false);
Tensor max(const Tensor& a, std::int64_t dim, bool keep_dim = false);
Tensor argmax(const Tensor& a, std::int64_t dim);  // i64, not differentiable
Tensor matmul(const Tensor& a,
              const Tensor& b);  // (..., m, k) x (..., k, n), leading dims broadcast
Tensor cat(const std::vector<Tensor>& tensors, std::int64_t dim);
Tensor stack(const std::vector<Tensor>& tensors, std::int64_t dim);

}  // namespace weft::tensor::ops

namespace weft::tensor {
inline Tensor operator+(const Tensor& a, const Tensor& b) { return ops::add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return ops::sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return ops::mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return ops::div(a, b); }
inline Tensor operator*(const Tensor& a, double b) { return ops::mul(a, b); }
inline Tensor operator*(double a, const Tensor& b) { return ops::mul(b, a); }
inline Tensor operator+(const Tensor& a, double b) { return ops::add(a, b); }
inline Tensor operator-(const Tensor& a) { return ops::neg(a); }
}  // namespace weft::tensor

namespace weft {
namespace ops = tensor::ops;
}
