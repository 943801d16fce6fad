// How a full bucket of gradients is averaged over the ranks: as it is, compressed, or as the user
// says. Ddp decides when; a hook decides what travels.
//
// Threading: the thread that calls Ddp::backward(). Every rank must use the same hook: all of them
// make the same collectives in the same order. A hook has one Ddp.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "tensor/tensor.h"

namespace weft::parallel {

// What travels instead of f32 gradients (buckets of other types always travel as they are).
//   fp16, bf16: all-reduced with CallOptions::wire; sums are taken in f32. fp16 is divided by the
//     world size before it is summed, so that it overflows only where a gradient does.
//   int8: a scale for each 256 values (kernels/quantize.h), a quarter of the bytes, with error
//     feedback: what rounding took from a gradient is added to the next step's. See make_comm_hook.
enum class Compression : std::uint8_t { none, fp16, bf16, int8 };
std::string_view name_of(Compression compression);
std::optional<Compression> parse_compression(std::string_view name);

struct GradBucket {
  struct Part {
    std::int32_t parameter = 0;  // index among those that Ddp trains
    Elems begin;                 // in the buffer
    Elems count;
  };
  std::int32_t index = 0;  // in launch order
  // Flat, in host memory (of gradients on a CUDA device a pinned copy, but in device_hook.h); gaps
  // between parts (of less than 64 bytes) hold zeros.
  Tensor buffer;
  std::vector<Part> parts;
};

class CommHook {
 public:
  virtual ~CommHook() = default;
  // Before the first launch, and again when gradients have been regrouped (nothing is on its way
  // then). What a hook keeps for a gradient has to follow it.
  virtual void regroup(std::span<const GradBucket> buckets) = 0;
  // A bucket is full: starts to average it. Called while backward runs on, in the order of indices.
  virtual void launch(const GradBucket& bucket, Communicator& communicator) = 0;
  // Backward is done, all buckets are launched: makes the next collective of a hook that needs
  // several. In the order of indices, before the first finish().
  virtual void proceed(const GradBucket& bucket, Communicator& communicator);
  // Waits until bucket.buffer holds the average, on every rank the same bits. How long the
  // bucket's collectives took, from start to completion.
  virtual std::chrono::nanoseconds finish(const GradBucket& bucket, Communicator& communicator) = 0;
};

// int8 keeps 6 bytes a gradient: a residual (f32) and two packed copies. With G the largest
// |gradient| in a block on any rank and step, the sum over steps of what arrives differs from the
// sum of the true averages by at most G / 60 however many steps there are (and by f32's own
// roundings, which a plain all-reduce has, too); one step by itself by at most as much. Residuals
// are not part of checkpoints: a resumed run starts with none, which costs that much once. NaN and
// infinity make their block of 256 NaN on every rank, and leave no residual. What is owed to a
// parameter that no rank uses in a step (find_unused_parameters) is dropped with its gradient.
std::shared_ptr<CommHook> make_comm_hook(Compression compression);

// `average` starts an operation on the bucket's buffer and gives its handle; once that is complete
// the buffer holds the average. It makes the same collectives on every rank.
using AverageFunction = std::function<Work(const GradBucket& bucket, Communicator& communicator)>;
std::shared_ptr<CommHook> make_comm_hook(AverageFunction average);

}  // namespace weft::parallel
