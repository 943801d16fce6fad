// A parameter that the ranks of a job share out between them: what of it this rank updates.
//
// parallel::Zero gives parameters their parts. Optimizers then keep state for the part alone and
// update it in the parameter's place; its gradient is the part's. Threading: as tensors.
#pragma once

#include <cstdint>
#include <memory>

#include "tensor/tensor.h"

namespace weft::tensor {

class PartOwner {
 public:
  virtual ~PartOwner() = default;
  // Values of parts have changed: all that a step was to change. Collective.
  virtual void updated() = 0;
};

struct Part {
  Tensor values;  // one-dimensional, contiguous floating leaf: of the parameter's type, or wider
  std::int64_t begin = 0;  // of the first in the parameter, row-major
  std::weak_ptr<PartOwner> owner;
};

// nullptr: this rank updates all of it. InvalidArgument where the part is none of the parameter's.
std::shared_ptr<const Part> part_of(const Tensor& parameter);
void set_part(const Tensor& parameter, std::shared_ptr<const Part> part);

// The gradient of a part, of its shape and of any floating type. Undefined: none.
void set_part_grad(const Tensor& values, Tensor gradient);

// What an optimizer updates, and whose gradient counts: the part's values, or the parameter itself.
Tensor updated_of(const Tensor& parameter);

// A contiguous leaf's elements are those at element `offset` of `storage` from now on, whatever
// they are there; of all handles on it, and of histories that kept it. Views made before stay
// where they were.
void rebind(const Tensor& leaf, const std::shared_ptr<Storage>& storage, std::int64_t offset);

}  // namespace weft::tensor
