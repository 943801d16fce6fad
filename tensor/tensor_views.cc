// Views: other shapes and strides over the same storage. Each one's backward is the inverse view of
// the gradient, or its sum where elements are repeated, so that nothing is copied but in narrow().
#include <algorithm>

#include "tensor/ops/sum_to.h"
#include "tensor/tensor_impl.h"

namespace weft::tensor {
namespace {

using autograd::record;

Tensor view_of(const TensorImpl& base, Shape shape, Strides strides, std::int64_t offset) {
  return make_tensor(base.storage, std::move(shape), std::move(strides), offset, base.dtype);
}

// Fills in the one -1, and checks the count.
Shape infer_shape(const TensorImpl& base, Shape shape, std::string_view operation) {
  std::int64_t known = 1;
  std::int64_t* open = nullptr;
  for (auto& size : shape) {
    if (size == -1 && open == nullptr) {
      open = &size;
    } else if (size < 0 || __builtin_mul_overflow(known, size, &known)) {
      fail<InvalidArgument>("{}: shape {} -> {}: expected sizes >= 0 and at most one -1", operation,
                            to_string(base.shape), to_string(shape));
    }
  }
  if (open != nullptr && known != 0 && base.numel % known == 0) {
    *open = base.numel / known;
    known = base.numel;
  }
  if (known != base.numel || (open != nullptr && *open == -1)) {
    fail<InvalidArgument>("{}: shape {} has {} elements and cannot become {}", operation,
                          to_string(base.shape), base.numel, to_string(shape));
  }
  return shape;
}

// Strides that read `base` as `shape` without a copy; false where there are none. Runs of
// dimensions that lie evenly in memory are merged, then split anew.
bool view_strides(const TensorImpl& base, const Shape& shape, Strides& strides) {
  strides = contiguous_strides(shape);
  if (base.contiguous) return true;
  auto left = static_cast<std::int64_t>(shape.size());  // dimensions of `shape` not yet covered
  std::int64_t run = 1;                                 // elements of the run so far
  std::int64_t run_stride = 0;                          // between its elements
  for (std::size_t d = base.shape.size(); d-- > 0;) {
    if (run == 1) run_stride = base.strides[d];
    run *= base.shape[d];
    std::size_t next = d;  // the dimension before, leaving out those of size 1
    while (next > 0 && base.shape[next - 1] == 1) --next;
    const bool continues = next > 0 && (run == 1 || base.strides[next - 1] == run * run_stride);
    if (continues) continue;
    std::int64_t covered = 1;
    while (left > 0 && covered < run) {
      const auto i = static_cast<std::size_t>(--left);
      strides[i] = covered * run_stride;
      covered *= shape[i];
    }
    if (covered != run) return false;
    run = 1;
  }
  return true;
}

Tensor recorded_view(std::string_view name, const Tensor& base, Shape shape, Strides strides) {
  auto result = view_of(*base.impl(), std::move(shape), std::move(strides), base.offset());
  if (!autograd::should_record({base})) return result;
  return record(name, std::move(result), {base},
                [from = base.shape()](const Tensor& grad) -> std::vector<Tensor> {
                  return {grad.reshape(from)};
                });
}

}  // namespace

Tensor Tensor::view(Shape shape) const {
  const auto& base = require_defined(*this, "view");
  shape = infer_shape(base, std::move(shape), "view");
  Strides strides;
  if (!view_strides(base, shape, strides)) {
    fail<InvalidArgument>(
        "view: shape {} with strides {} cannot be seen as {} without a copy; use reshape()",
        to_string(base.shape), to_string(base.strides), to_string(shape));
  }
  return recorded_view("view", *this, std::move(shape), std::move(strides));
}

Tensor Tensor::reshape(Shape shape) const {
  const auto& base = require_defined(*this, "reshape");
  shape = infer_shape(base, std::move(shape), "reshape");
  if (shape == base.shape) return *this;
  Strides strides;
  if (view_strides(base, shape, strides)) {
    return recorded_view("reshape", *this, std::move(shape), std::move(strides));
  }
  return contiguous().view(std::move(shape));
}

Tensor Tensor::transpose(std::int64_t a, std::int64_t b) const {
  const auto& base = require_defined(*this, "transpose");
  a = wrap_dim(a, dim(), "transpose");
  b = wrap_dim(b, dim(), "transpose");
  auto shape = base.shape;
  auto strides = base.strides;
  std::swap(shape[static_cast<std::size_t>(a)], shape[static_cast<std::size_t>(b)]);
  std::swap(strides[static_cast<std::size_t>(a)], strides[static_cast<std::size_t>(b)]);
  auto result = view_of(base, std::move(shape), std::move(strides), base.offset);
  if (!autograd::should_record({*this})) return result;
  return record(
      "transpose", std::move(result), {*this},
      [a, b](const Tensor& grad) -> std::vector<Tensor> { return {grad.transpose(a, b)}; });
}

Tensor Tensor::permute(std::vector<std::int64_t> order) const {
  const auto& base = require_defined(*this, "permute");
  const auto dims = base.shape.size();
  Shape shape(dims);
  Strides strides(dims);
  std::vector<std::int64_t> inverse(dims, -1);
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = wrap_dim(order[i], dim(), "permute");
    const auto from = static_cast<std::size_t>(order[i]);
    if (order.size() != dims || inverse[from] != -1) {
      fail<InvalidArgument>("permute: order {} of shape {}: each dimension must stand once",
                            to_string(order), to_string(base.shape));
    }
    inverse[from] = static_cast<std::int64_t>(i);
    shape[i] = base.shape[from];
    strides[i] = base.strides[from];
  }
  if (order.size() != dims) {
    fail<InvalidArgument>("permute: order {} of shape {}: each dimension must stand once",
                          to_string(order), to_string(base.shape));
  }
  auto result = view_of(base, std::move(shape), std::move(strides), base.offset);
  if (!autograd::should_record({*this})) return result;
  return record("permute", std::move(result), {*this},
                [inverse = std::move(inverse)](const Tensor& grad) -> std::vector<Tensor> {
                  return {grad.permute(inverse)};
                });
}

Tensor Tensor::narrow(std::int64_t d, std::int64_t start, std::int64_t length) const {
  const auto& base = require_defined(*this, "narrow");
  d = wrap_dim(d, dim(), "narrow");
  const auto at = static_cast<std::size_t>(d);
  if (start < 0 || length < 0 || start > base.shape[at] || length > base.shape[at] - start) {
    fail<InvalidArgument>("narrow: elements {} .. {} + {} of dimension {} of shape {}", start,
                          start, length, d, to_string(base.shape));
  }
  auto shape = base.shape;
  shape[at] = length;
  auto result =
      view_of(base, std::move(shape), base.strides, base.offset + start * base.strides[at]);
  if (!autograd::should_record({*this})) return result;
  return record("narrow", std::move(result), {*this},
                [d, start, length](const Tensor& grad) -> std::vector<Tensor> {
                  // Slices of one tensor, a split say, meet here without a whole one for each.
                  auto whole = autograd::summed_gradient(0);
                  add_into(whole.narrow(d, start, length), grad);
                  return {std::move(whole)};
                });
}

Tensor Tensor::select(std::int64_t d, std::int64_t index) const {
  const auto& base = require_defined(*this, "select");
  d = wrap_dim(d, dim(), "select");
  const auto size = base.shape[static_cast<std::size_t>(d)];
  if (index < -size || index >= size) {
    fail<InvalidArgument>("select: index {} of dimension {} of shape {}", index, d,
                          to_string(base.shape));
  }
  return narrow(d, index < 0 ? index + size : index, 1).squeeze(d);
}

Tensor Tensor::expand(Shape shape) const {
  const auto& base = require_defined(*this, "expand");
  if (broadcast_shapes(base.shape, shape, "expand") != shape) {
    fail<InvalidArgument>("expand: shape {} does not expand to {}", to_string(base.shape),
                          to_string(shape));
  }
  auto strides = broadcast_strides(base.shape, base.strides, shape);
  auto result = view_of(base, std::move(shape), std::move(strides), base.offset);
  if (!autograd::should_record({*this})) return result;
  return record("expand", std::move(result), {*this},
                [from = base.shape](const Tensor& grad) -> std::vector<Tensor> {
                  return {ops::sum_to(grad, from)};
                });
}

Tensor Tensor::squeeze(std::int64_t d) const {
  const auto& base = require_defined(*this, "squeeze");
  const auto at = static_cast<std::ptrdiff_t>(wrap_dim(d, dim(), "squeeze"));
  if (base.shape[static_cast<std::size_t>(at)] != 1) return *this;
  auto shape = base.shape;
  auto strides = base.strides;
  shape.erase(shape.begin() + at);
  strides.erase(strides.begin() + at);
  return recorded_view("squeeze", *this, std::move(shape), std::move(strides));
}

Tensor Tensor::unsqueeze(std::int64_t d) const {
  const auto& base = require_defined(*this, "unsqueeze");
  const auto at = static_cast<std::ptrdiff_t>(wrap_dim(d, dim() + 1, "unsqueeze"));
  auto shape = base.shape;
  auto strides = base.strides;
  shape.insert(shape.begin() + at, 1);
  strides.insert(strides.begin() + at, 1);
  return recorded_view("unsqueeze", *this, std::move(shape), std::move(strides));
}

Tensor Tensor::flatten(std::int64_t start, std::int64_t end) const {
  const auto& base = require_defined(*this, "flatten");
  if (base.shape.empty()) return reshape({1});
  const auto first = static_cast<std::size_t>(wrap_dim(start, dim(), "flatten"));
  const auto last = static_cast<std::size_t>(wrap_dim(end, dim(), "flatten"));
  if (first > last) {
    fail<InvalidArgument>("flatten: dimensions {} to {} of shape {}", start, end,
                          to_string(base.shape));
  }
  Shape shape;
  std::int64_t merged = 1;
  for (std::size_t i = 0; i < base.shape.size(); ++i) {
    if (i < first || i > last) shape.push_back(base.shape[i]);
    if (i >= first && i <= last) merged *= base.shape[i];
    if (i == last) shape.push_back(merged);
  }
  return reshape(std::move(shape));
}

}  // namespace weft::tensor
