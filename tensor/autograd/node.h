// How operators take part in autograd.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace weft::tensor::autograd {

// Gives the gradient of each input (in order; undefined where none is needed), from that of the
// output. Captured tensors are released after it ran.
using Backward = std::function<std::vector<Tensor>(const Tensor& grad_output)>;

// Whether anything needs recording: grad mode is on and some input requires grad.
bool should_record(std::span<const Tensor> inputs);
inline bool should_record(std::initializer_list<Tensor> inputs) {
  return should_record(std::span<const Tensor>(inputs.begin(), inputs.size()));
}

// Makes `output` (fresh, no history) the result of an operation on `inputs`, if
// should_record(inputs). The gradient of each input has that input's shape and dtype. `name` is for
// messages ("matmul").
Tensor record(std::string_view name, Tensor output, std::vector<Tensor> inputs, Backward backward);

bool grad_enabled();
class NoGrad {  // grad mode off for this thread, for the scope
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

}  // namespace weft::tensor::autograd

namespace weft {
using tensor::autograd::NoGrad;
}
