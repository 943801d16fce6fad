#include "tensor/data/loader.h"

#include <cstring>
#include <span>

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
      sampler_({.samples = inputs_.size(0),
                .batch_size = options.batch_size,
                .shuffle = options.shuffle,
                .seed = options.seed,
                .drop_last = options.drop_last}) {
  if (inputs_.size(0) != targets_.size(0)) {
    fail<InvalidArgument>("DataLoader: {} inputs, but {} targets", inputs_.size(0),
                          targets_.size(0));
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
  result.sampler_.restore(sampler_.save());
  return result;
}

void DataLoader::set_epoch(std::int64_t epoch) {
  sampler_.set_epoch(epoch);
  goes_on_ = false;
}

void DataLoader::restore(std::string_view saved) {
  sampler_.restore(saved);
  goes_on_ = true;
}

DataLoader::Iterator DataLoader::begin() {
  if (!goes_on_) sampler_.set_epoch(sampler_.epoch());
  goes_on_ = false;
  Iterator it;
  it.loader_ = this;
  it.share_ = sampler_.next();
  return it;
}

DataLoader::Iterator& DataLoader::Iterator::operator++() {
  share_ = loader_->sampler_.next();
  return *this;
}

Batch DataLoader::Iterator::operator*() const {
  const auto& [samples, weight] = share_.front();
  const auto device = loader_->options_.device;
  return {gather(loader_->inputs_, samples, device), gather(loader_->targets_, samples, device),
          weight};
}

}  // namespace weft::data
