#include "tensor/data/loader.h"

#include <algorithm>
#include <cstring>

namespace weft::data {
namespace {

Tensor checked(const Tensor& tensor, const char* what) {
  if (!tensor.defined() || tensor.dim() < 1) {
    fail<InvalidArgument>("DataLoader: {} need a first dimension of samples", what);
  }
  if (tensor.device().type != DeviceType::cpu) {
    fail<InvalidArgument>("DataLoader: {} lie on {}; expected the cpu (batches go to a device)",
                          what, tensor::to_string(tensor.device()));
  }
  return tensor.detach().contiguous();
}

Tensor gather(const Tensor& from, std::span<const std::int64_t> rows, Device device) {
  Shape shape = from.shape();
  const auto row_bytes = from.numel() / shape[0] * size_of(from.dtype()).value;
  shape[0] = static_cast<std::int64_t>(rows.size());
  const bool to_cuda = device.type == DeviceType::cuda;
  const auto bytes = Bytes(row_bytes * shape[0]);
  auto result = Tensor::wrap(
      to_cuda ? tensor::Storage::allocate_pinned(bytes) : tensor::Storage::allocate(bytes), shape,
      from.dtype());
  auto* to = static_cast<std::byte*>(result.data());
  const auto* source = static_cast<const std::byte*>(from.data());
  for (const auto row : rows) {
    std::memcpy(to, source + row * row_bytes, static_cast<std::size_t>(row_bytes));
    to += row_bytes;
  }
  return result.to(device, true);
}

}  // namespace

DataLoader::DataLoader(Tensor inputs, Tensor targets, LoaderOptions options)
    : inputs_(checked(inputs, "inputs")),
      targets_(checked(targets, "targets")),
      options_(options),
      sampler_({inputs_.size(0), 0, 1, options.shuffle, options.seed, options.drop_last}) {
  if (inputs_.size(0) != targets_.size(0)) {
    fail<InvalidArgument>("DataLoader: {} inputs, but {} targets", inputs_.size(0),
                          targets_.size(0));
  }
  if (options.batch_size < 1) {
    fail<InvalidArgument>("DataLoader: a batch holds at least 1 sample, not {}",
                          options.batch_size);
  }
}

DataLoader DataLoader::on(Device device) const {
  DataLoader result = *this;
  result.options_.device = device;
  return result;
}

DataLoader DataLoader::share(int rank, int world) const {
  DataLoader result = *this;
  auto options = sampler_.options();
  options.rank = rank;
  options.world = world;
  result.sampler_ = DistributedSampler(options);
  result.sampler_.set_epoch(sampler_.epoch());
  return result;
}

std::int64_t DataLoader::size() const {
  const auto extra = options_.drop_last ? 0 : options_.batch_size - 1;
  return (sampler_.size() + extra) / options_.batch_size;
}

DataLoader::Iterator DataLoader::begin() const {
  Iterator it;
  it.loader_ = this;
  it.order_ = sampler_.indices();
  return it;
}

DataLoader::Iterator DataLoader::end() const {
  Iterator it;
  it.batch_ = size();
  return it;
}

Batch DataLoader::Iterator::operator*() const {
  const auto size = loader_->options_.batch_size;
  const auto start = batch_ * size;
  const auto count = std::min(size, static_cast<std::int64_t>(order_.size()) - start);
  const auto rows =
      std::span(order_).subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(count));
  const auto device = loader_->options_.device;
  return {gather(loader_->inputs_, rows, device), gather(loader_->targets_, rows, device)};
}

}  // namespace weft::data
