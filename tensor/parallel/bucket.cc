#include "tensor/parallel/bucket.h"

#include <map>

namespace weft::parallel {
namespace {

constexpr std::int64_t kAlignment = 64;  // bytes: a cache line, and enough for any vector unit

Elems padded(const Tensor& tensor) {
  const std::int64_t line = kAlignment / size_of(tensor.dtype()).value;
  return Elems((tensor.numel() + line - 1) / line * line);
}

void allocate(Bucket& bucket, std::span<const Tensor> parameters, const BucketMemory& memory) {
  Elems total;
  for (const auto index : bucket.parameters)
    total += padded(parameters[static_cast<std::size_t>(index)]);
  const auto dtype = parameters[static_cast<std::size_t>(bucket.parameters.front())].dtype();
  bucket.buffer = Tensor::wrap(memory(bytes_of(total, dtype)), {total.value}, dtype, 0);
  Elems at;
  for (const auto index : bucket.parameters) {
    const auto& parameter = parameters[static_cast<std::size_t>(index)];
    bucket.begins.push_back(at);
    bucket.views.push_back(
        Tensor::wrap(bucket.buffer.storage(), parameter.shape(), dtype, at.value));
    at += padded(parameter);
  }
}

}  // namespace

std::vector<Bucket> make_buckets(std::span<const Tensor> parameters,
                                 std::span<const std::int32_t> order, BucketSizes sizes,
                                 const BucketMemory& memory) {
  struct Open {
    Bucket bucket;
    Bytes bytes;
    bool first = true;
  };
  std::map<DType, Open> open;
  std::vector<Bucket> closed;
  const auto close = [&](Open& o) {
    closed.push_back(std::move(o.bucket));
    o = Open{{}, Bytes(0), false};
  };
  for (const auto index : order) {
    const auto& parameter = parameters[static_cast<std::size_t>(index)];
    auto& o = open[parameter.dtype()];
    o.bucket.parameters.push_back(index);
    o.bytes += bytes_of(padded(parameter), parameter.dtype());
    if (o.bytes >= (o.first ? sizes.first : sizes.rest)) close(o);
  }
  for (auto& [dtype, o] : open) {
    if (!o.bucket.parameters.empty()) close(o);
  }
  for (auto& bucket : closed) allocate(bucket, parameters, memory);
  return closed;
}

}  // namespace weft::parallel
