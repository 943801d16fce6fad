// A training step as a CUDA graph: captured once, then launched whole, so that the host no longer
// queues its hundreds of kernels one by one.
//
//   GraphedStep step([&](const std::vector<Tensor>& in) -> std::vector<Tensor> {
//     optimizer.zero_grad();
//     const auto loss = model.forward(in[0], in[1]).loss;
//     loss.backward();
//     optim::clip_grad_norm_tensor_(model.parameters(), 1.0);
//     optimizer.step();
//     return {loss.detach()};
//   });
//   for (...) loss = step({x, y})[0];
//
// Every call is one step. The first `warmup` calls run as they are (on a stream of their own, so
// that libraries and caches are ready), the next one is captured, and from then on each call copies
// its inputs to where the graph reads them and launches it. What the step allocates comes from a
// pool that the graph keeps; results are the same tensors every time, overwritten by the next call.
//
// The step must do the same device work each time: fixed shapes, no branch on values, nothing that
// waits for the device (item(), to_vector(), to(cpu): InvalidArgument while captured) and no host
// data but the inputs. Host code inside it runs for the first warmup + 1 calls only: set learning
// rates outside (Optimizer::set_learning_rate() reaches the graph). Dropout draws new numbers at
// each call, from `generator`, those that the step would have drawn without a graph where it uses
// up whole blocks of four; dropout with any other generator is InvalidArgument while captured.
//
// Threading: one thread. Calls are ordered by the stream that is current when they are made.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tensor/random.h"
#include "tensor/tensor.h"

namespace weft::tensor {

struct GraphOptions {
  Device device{DeviceType::cuda, 0};
  int warmup = 2;                  // calls before the capture, at least 1
  Generator* generator = nullptr;  // none: this thread's default_generator()
};

class GraphedStep {
 public:
  using Step = std::function<std::vector<Tensor>(const std::vector<Tensor>& inputs)>;
  // InvalidArgument for a device that is not CUDA, no step, or warmup < 1.
  explicit GraphedStep(Step step, GraphOptions options = {});
  ~GraphedStep();  // waits for the last launch
  GraphedStep(const GraphedStep&) = delete;
  GraphedStep& operator=(const GraphedStep&) = delete;

  // Inputs of the first call say number, shapes and dtypes; they may lie anywhere. InvalidArgument
  // where a later call's differ, naming the input.
  const std::vector<Tensor>& operator()(const std::vector<Tensor>& inputs);
  bool is_captured() const;
  std::int64_t launches() const;  // of the graph

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::tensor
