// What a rank has of the tensors of a checkpoint: the words in which those who train (DDP, ZeRO)
// and those who write and read files speak to each other.
#pragma once

#include <string>
#include <vector>

#include "kernels/base/units.h"
#include "tensor/tensor.h"

namespace weft::checkpoint {

// A range of one whole tensor.
//
// Saving: what this rank holds. Over all ranks the ranges of a tensor must cover it; where several
// ranks hold the same range (replicated state), it is written once.
// Loading: what this rank wishes to have. `data` is filled, and converted to its dtype, from
// whatever layout, number of ranks and dtype is on the disk.
struct Shard {
  std::string name;  // of the whole tensor: the parameter's in its module (Hugging Face's names for
                     // GPT-2); optimizer state is "<parameter>.exp_avg" and the like
  Shape shape;       // of the whole tensor
  Elems begin;       // `data` is the elements [begin, begin + data.numel()) of it, row-major
  Tensor data;       // one-dimensional, or the whole tensor in its shape; on any device; without
                     // elements, or undefined, where this rank holds none of it
};

using ShardList = std::vector<Shard>;

}  // namespace weft::checkpoint
