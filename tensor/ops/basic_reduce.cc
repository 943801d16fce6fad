// Sums, means and maxima over dimensions.
#include <algorithm>

#include "kernels/elementwise.h"
#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/basic_checks.h"
#include "tensor/ops/sum_to.h"

namespace weft::tensor::ops {
namespace {

using autograd::record;
using autograd::should_record;
using kernels::AxisOp;

// Which dimensions go, and the shapes left.
struct Reduction {
  std::vector<bool> goes;
  Shape kept;         // without them
  Shape kept_as_one;  // with 1 in their place
  std::int64_t count = 1;
};

Reduction plan(std::string_view name, const Shape& shape, const std::vector<std::int64_t>& dims) {
  Reduction result{std::vector<bool>(shape.size(), dims.empty()), {}, shape, 1};
  for (const auto d : dims) {
    const auto at =
        static_cast<std::size_t>(wrap_dim(d, static_cast<std::int64_t>(shape.size()), name));
    if (result.goes[at]) {
      fail<InvalidArgument>("{}: dimension {} of shape {} is named twice", name, d,
                            to_string(shape));
    }
    result.goes[at] = true;
  }
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (result.goes[i]) {
      result.count *= shape[i];
      result.kept_as_one[i] = 1;
    } else {
      result.kept.push_back(shape[i]);
    }
  }
  return result;
}

// The kernel reduces one run of neighbouring dimensions of contiguous memory; others are brought
// together first.
Tensor reduce(AxisOp op, const Tensor& a, const Reduction& reduction, bool keep_dim) {
  const auto& goes = reduction.goes;
  auto out =
      Tensor::empty(keep_dim ? reduction.kept_as_one : reduction.kept, {a.dtype(), a.device()});
  if (out.numel() == 0) return out;
  const auto first = std::find(goes.begin(), goes.end(), true);
  const auto last = std::find(first, goes.end(), false);
  kernels::Axis axis;
  Tensor input = a.detach();
  if (std::find(last, goes.end(), true) == goes.end()) {
    for (std::size_t i = 0; i < goes.size(); ++i) {
      const auto at = goes.begin() + static_cast<std::ptrdiff_t>(i);
      (at < first ? axis.outer : at < last ? axis.reduced : axis.inner) *= a.shape()[i];
    }
  } else {
    std::vector<std::int64_t> order;
    for (const bool going : {false, true}) {
      for (std::size_t i = 0; i < goes.size(); ++i) {
        if (goes[i] == going) order.push_back(static_cast<std::int64_t>(i));
      }
    }
    input = input.permute(order);
    axis = {out.numel(), reduction.count, 1};
  }
  input = input.contiguous();
  kernels::reduce_axis(op, a.dtype(), axis, out.data(), input.data());
  return out;
}

struct MaxResult {
  Tensor values, indices;
  kernels::Axis axis;
};

MaxResult max_along(std::string_view name, const Tensor& a, std::int64_t dim, bool want_values,
                    bool want_indices) {
  const auto at = static_cast<std::size_t>(dim);
  if (a.shape()[at] == 0) {
    fail<InvalidArgument>("{}: dimension {} of shape {} has no element to choose from", name, dim,
                          to_string(a.shape()));
  }
  MaxResult result;
  Shape shape = a.shape();
  shape[at] = 1;
  for (std::size_t i = 0; i < a.shape().size(); ++i) {
    auto& part = i < at ? result.axis.outer : i == at ? result.axis.reduced : result.axis.inner;
    part *= a.shape()[i];
  }
  if (want_values) result.values = Tensor::empty(shape, {a.dtype(), a.device()});
  if (want_indices) result.indices = Tensor::empty(shape, {DType::i64, a.device()});
  if (a.numel() == 0) return result;
  const auto input = a.detach().contiguous();
  kernels::max_axis(a.dtype(), result.axis, want_values ? result.values.data() : nullptr,
                    want_indices ? result.indices.data<std::int64_t>() : nullptr, input.data());
  return result;
}

// A result with 1 in place of `dim`, without it unless it is to be kept.
Tensor drop_dim(const Tensor& a, std::int64_t dim, bool keep_dim) {
  return keep_dim ? a : a.squeeze(dim);
}

}  // namespace

Tensor sum_to(const Tensor& a, const Shape& shape) {
  if (a.shape() == shape) return a;
  const auto lead = a.shape().size() - shape.size();
  std::vector<std::int64_t> dims;
  for (std::size_t i = 0; i < a.shape().size(); ++i) {
    if (i < lead || shape[i - lead] != a.shape()[i]) dims.push_back(static_cast<std::int64_t>(i));
  }
  return reduce(AxisOp::sum, a, plan("sum", a.shape(), dims), false).view(shape);
}

Tensor sum(const Tensor& a, std::vector<std::int64_t> dims, bool keep_dim) {
  if (amp::casts()) {
    return amp::wide([&](const Tensor& x) { return sum(x, dims, keep_dim); }, a);
  }
  require_some("sum", a);
  const auto reduction = plan("sum", a.shape(), dims);
  auto out = reduce(AxisOp::sum, a, reduction, keep_dim);
  if (!should_record({a})) return out;
  return record("sum", std::move(out), {a},
                [shape = a.shape(), as_one = reduction.kept_as_one](const Tensor& grad)
                    -> std::vector<Tensor> { return {grad.reshape(as_one).expand(shape)}; });
}

Tensor mean(const Tensor& a, std::vector<std::int64_t> dims, bool keep_dim) {
  if (amp::casts()) {
    return amp::wide([&](const Tensor& x) { return mean(x, dims, keep_dim); }, a);
  }
  require_floating("mean", a);
  const auto reduction = plan("mean", a.shape(), dims);
  auto out = reduce(AxisOp::mean, a, reduction, keep_dim);
  if (!should_record({a})) return out;
  return record("mean", std::move(out), {a},
                [shape = a.shape(), as_one = reduction.kept_as_one,
                 scale = 1.0 / static_cast<double>(reduction.count)](
                    const Tensor& grad) -> std::vector<Tensor> {
                  return {mul(grad, scale).reshape(as_one).expand(shape)};
                });
}

Tensor max(const Tensor& a, std::int64_t dim, bool keep_dim) {
  require_some("max", a);
  dim = wrap_dim(dim, a.dim(), "max");
  const bool recording = should_record({a});
  auto result = max_along("max", a, dim, true, recording);
  auto out = drop_dim(result.values, dim, keep_dim);
  if (!recording) return out;
  return record("max", std::move(out), {a},
                [shape = a.shape(), axis = result.axis,
                 indices = std::move(result.indices)](const Tensor& grad) -> std::vector<Tensor> {
                  auto whole = Tensor::empty(shape, {grad.dtype(), grad.device()});
                  const auto from = grad.contiguous();
                  kernels::max_axis_backward(grad.dtype(), axis, whole.data(), from.data(),
                                             indices.data<std::int64_t>());
                  return {std::move(whole)};
                });
}

Tensor argmax(const Tensor& a, std::int64_t dim) {
  require_some("argmax", a);
  dim = wrap_dim(dim, a.dim(), "argmax");
  return max_along("argmax", a, dim, false, true).indices.squeeze(dim);
}

}  // namespace weft::tensor::ops
