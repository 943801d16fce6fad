// How much memory a GPT will take, worked out from its shape without making it (docs/plan.md).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/units.h"
#include "tensor/amp/precision.h"
#include "tensor/nn/gpt.h"

namespace weft::nn {

// What is gathered and reduced together when ranks share parameters out: first what belongs to no
// block (embeddings, final norm), then each block.
std::vector<Elems> gpt_units(const GPTConfig& config);
Elems gpt_parameters(const GPTConfig& config);  // position embeddings included

// Where gradients of parameters go: into buffers that are there all the time (DDP's buckets on two
// ranks and more, ZeRO's shares), or into memory that backward asks for as it goes and zero_grad()
// gives back (one rank).
enum class GradientMemory : std::uint8_t { kept, asked_for };

struct StepShape {
  std::int64_t batch_size = 1;  // of a micro-batch
  std::int64_t time = 1;        // tokens a sequence, up to block_size
  // A step has several micro-batches: from the second on gradients are there already, and each new
  // one takes memory of its own until it is added.
  bool accumulates = false;
};

// The most that one training step (forward with targets, backward) asks of the allocator beside
// parameters, optimizer and gradients that are kept: the batch, what each operator keeps for its
// backward, and what is alive at the worst moment of its way back; with `asked_for`, gradients as
// far as they are there at that moment. A walk along the tape of nn::GPT, operator by operator, as
// tensor/ops writes it. Tokens are i32. Small things are left out: scalars, gradients of biases,
// norms and positions. InvalidArgument for a batch that the model does not take.
Bytes gpt_step_memory(const GPTConfig& config, const StepShape& shape, amp::Precision precision,
                      GradientMemory gradients = GradientMemory::kept);

}  // namespace weft::nn
