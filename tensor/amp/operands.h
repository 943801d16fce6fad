// How operators take part in autocast: the one line that each has at its entry. For the tensor room
// only; amp/autocast.h says what the rules are.
#pragma once

#include <initializer_list>
#include <vector>

#include "tensor/amp/autocast.h"
#include "tensor/tensor.h"

namespace weft::tensor::amp {

namespace detail {
// `a` in `type`; itself where it is undefined, of that type, f64, or holds integers. Recorded: the
// gradient comes back in a's type, straight into its buffer where `a` is a leaf that has one.
Tensor cast(const Tensor& a, DType type);
// The widest floating type among the operands that have one; f16 and bf16 meet in f32.
DType widest(std::initializer_list<const Tensor*> operands);
DType widest(const std::vector<Tensor>& operands);
// As cast(), but f64 is cast as well: operands meet in f64 where one has it.
Tensor promote(const Tensor& a, DType type);
}  // namespace detail

// Whether this operator is to look at its operands' types at all.
inline bool casts() { return autocast_enabled(); }

// operation(operands in the low type...), which runs without autocast.
template <class Operation, class... Tensors>
Tensor low(const Operation& operation, const Tensors&... operands) {
  const DType type = autocast_type();
  const NoAutocast plain;
  return operation(detail::cast(operands, type)...);
}

// operation(operands in f32 or wider...).
template <class Operation, class... Tensors>
Tensor wide(const Operation& operation, const Tensors&... operands) {
  const NoAutocast plain;
  return operation(detail::cast(operands, DType::f32)...);
}

// Whether operands are to meet in their widest type first.
inline bool mixes(const Tensor& a, const Tensor& b) {
  return casts() && a.defined() && b.defined() && a.dtype() != b.dtype();
}

template <class Operation>
Tensor promoted(const Operation& operation, const Tensor& a, const Tensor& b) {
  const DType type = detail::widest({&a, &b});
  const NoAutocast plain;
  return operation(detail::promote(a, type), detail::promote(b, type));
}

// All of them in their widest type; as they are where autocast is off.
std::vector<Tensor> promoted(const std::vector<Tensor>& operands);

}  // namespace weft::tensor::amp
