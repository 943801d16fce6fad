// How operators take part in autograd.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace weft::tensor::autograd {

// Gives the gradient of each input (in order; undefined where none is needed), from that of the
// output. Runs once, with grad mode off; captured tensors are released after it ran. A gradient may
// be a view, may be `grad_output` itself, and may be given for several inputs: the engine never
// writes to memory that somebody else can see. `grad_output` has the output's shape and dtype but
// any strides, and must not be written to.
// On CUDA it runs with the streams current that were so when the operation was recorded; gradients
// that go from one stream to another are waited for, and the leaves are complete in the order of
// the streams that are current where backward() was called. Capture inputs as they are, but of the
// output only output.detach(): the output owns its Backward, and a cycle is never freed.
using Backward = std::function<std::vector<Tensor>(const Tensor& grad_output)>;

// Whether anything needs recording: grad mode is on and some input requires grad.
bool should_record(std::span<const Tensor> inputs);
inline bool should_record(std::initializer_list<Tensor> inputs) {
  return should_record(std::span<const Tensor>(inputs.begin(), inputs.size()));
}

// Makes `output` (fresh, no history) the result of an operation on `inputs`, if
// should_record(inputs). The gradient of each input has that input's shape and dtype (undefined
// inputs are allowed and get none). `name` is for messages ("matmul").
Tensor record(std::string_view name, Tensor output, std::vector<Tensor> inputs, Backward backward);

// For a Backward: an uninitialised contiguous tensor of `input`'s shape and dtype to compute the
// gradient of `input` into, all of it. Where `input` is a leaf with a gradient buffer that nothing
// was written to yet, it is that buffer, and the engine then has nothing to copy. Ask once for
// each gradient returned, and do not keep it.
Tensor empty_gradient(const Tensor& input);

// For a Backward that touches only a part of what it has for an input (rows of a table, a slice):
// the gradient of the running operation's input number `input` as far as this backward() has summed
// it, zeros where nothing has come yet. Add to it and return it; it is then not added once more.
Tensor summed_gradient(std::size_t input);

// From a Backward or an on_grad_ready hook: called at the end of the running backward(), on its
// thread, after the last hook, in the order of the calls. Dropped when backward() throws.
void after_backward(std::function<void()> callback);

// A part of a forward pass that wants to know when backward comes to it (parameters that have to be
// fetched first).
class Region {
 public:
  virtual ~Region() = default;
  // The running backward() is about to run operations recorded in this region, and ran some of
  // another region, or none, before. On the thread that runs it.
  virtual void enter_backward() = 0;
};

// What this thread records for the scope belongs to `region`. Nested: to the innermost.
class RegionScope {
 public:
  explicit RegionScope(std::shared_ptr<Region> region);
  ~RegionScope();
  RegionScope(const RegionScope&) = delete;
  RegionScope& operator=(const RegionScope&) = delete;

 private:
  std::shared_ptr<Region> previous_;
};

// The leaves that backward() from `output` would reach, in the order they are first found. Costs a
// walk over the graph.
std::vector<Tensor> reachable_leaves(const Tensor& output);

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

class EnableGrad {  // grad mode on again, inside a NoGrad or a Backward that records a graph anew
 public:
  EnableGrad();
  ~EnableGrad();
  EnableGrad(const EnableGrad&) = delete;
  EnableGrad& operator=(const EnableGrad&) = delete;

 private:
  bool previous_;
};

}  // namespace weft::tensor::autograd

namespace weft {
using tensor::autograd::NoGrad;
}
