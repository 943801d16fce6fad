// Where a mask's numbers come from. For this folder only.
#pragma once

#include <string_view>

#include "kernels/dropout.h"
#include "tensor/random.h"
#include "tensor/stream.h"

namespace weft::tensor::ops {

// Takes `words` off the generator. In a graph its draws move on with each launch, or would repeat
// for ever: InvalidArgument where nobody sees to that.
inline kernels::DropoutMask dropout_mask(std::string_view operation, Device device, double p,
                                         Generator& generator, std::uint64_t words) {
  const bool on_cuda = device.type == DeviceType::cuda;
  if (on_cuda && generator.advance() == nullptr && Stream::current(device).is_capturing()) {
    fail<InvalidArgument>(
        "{}: captured into a graph with a generator that the graph does not know, so that every "
        "replay would drop the same elements; give it as GraphOptions::generator",
        operation);
  }
  return {p, generator.seed(), generator.stream(), generator.reserve(words),
          on_cuda ? generator.advance() : nullptr};
}

}  // namespace weft::tensor::ops
