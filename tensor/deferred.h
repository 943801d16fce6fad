// Leaves whose values are still to come: they have a shape and a type, know how to make their
// values, and take no memory until somebody asks for them. For models that are made before it is
// known how much of them this rank will hold (nn/deferred_init.h, parallel::Zero).
//
// Threading: as tensors. Asking such a leaf for its elements is InvalidArgument.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tensor/tensor.h"

namespace weft::tensor {

// Writes all elements of a tensor of the leaf's shape, in any floating type.
using Fill = std::function<void(const Tensor&)>;

// On the cpu; its fills will run in this order.
Tensor deferred_leaf(Shape shape, DType dtype, std::vector<Fill> fills);
// As deferred_leaf(): of another type, its values those of `leaf` (now, or deferred as well).
Tensor deferred_copy(const Tensor& leaf, DType dtype);

bool is_deferred(const Tensor& leaf);
void add_fill(const Tensor& leaf, Fill fill);  // after those it has
// A new tensor with the values that the leaf is to have.
Tensor filled(const Tensor& leaf, DType dtype);
// Gives the leaf memory of its own with its values; nothing where it has them.
void materialize(const Tensor& leaf);
// Its values are elsewhere now (rebind()): forgets how they are made.
void forget_fills(const Tensor& leaf);

}  // namespace weft::tensor
