// Which gradient lives where: parameters packed into flat buffers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"
#include "tensor/tensor.h"

namespace weft::parallel {

struct Bucket {
  std::vector<std::int32_t> parameters;  // indices, in the order they lie
  std::vector<Elems> begins;             // where each lies in the buffer
  std::vector<Tensor> views;             // one a parameter, of its shape
  Tensor buffer;                         // flat, all of them
};

struct BucketSizes {
  Bytes first;
  Bytes rest;
};

// Where a buffer of so many bytes is to live: zeroed.
using BucketMemory = std::function<std::shared_ptr<tensor::Storage>(Bytes bytes)>;

// Packs `parameters` in the given order. A bucket holds one dtype and closes when it has reached
// its size; the first bucket of each dtype closes early, so that communication starts early. Views
// start on 64-byte boundaries.
std::vector<Bucket> make_buckets(std::span<const Tensor> parameters,
                                 std::span<const std::int32_t> order, BucketSizes sizes,
                                 const BucketMemory& memory);

}  // namespace weft::parallel
