#include "tensor/storage.h"

#include <fmt/format.h>

#include "kernels/base/error.h"
#include "kernels/cuda/runtime.h"
#include "tensor/cpu_allocator.h"
#include "tensor/cuda_allocator.h"

namespace weft::tensor {
namespace {

void require_size(Bytes bytes) {
  if (bytes < Bytes(0)) fail<InvalidArgument>("storage of {} bytes", bytes.value);
}

// Host memory given as device memory would be found by the first kernel, far from the mistake.
void require_memory_of(Device device, const void* data) {
  require_device(device, "borrowed storage");
  const int found = kernels::cuda::device_of(data);
  if (found == device.index) return;
  fail<InvalidArgument>(
      "storage borrowed at {} as memory of {}: it is {}; copy it with to(), or say where it is",
      data, to_string(device),
      found < 0 ? std::string("host memory") : to_string({DeviceType::cuda, found}));
}

}  // namespace

std::string to_string(Device device) {
  if (device.type == DeviceType::cpu) return "cpu";
  return fmt::format("cuda:{}", device.index);
}

std::shared_ptr<Storage> Storage::allocate(Bytes bytes, Device device) {
  require_size(bytes);
  auto storage = std::make_shared<Storage>(Private());
  storage->device_ = device;
  if (device.type == DeviceType::cuda) {
    storage->owner_kind_ = Owner::cuda;
    require_device(device, "a tensor");
    if (bytes > Bytes(0)) storage->data_ = allocate_cuda_memory(bytes, device);
  } else if (bytes > Bytes(0)) {
    storage->data_ = allocate_cpu_memory(bytes);
  }
  storage->bytes_ = bytes;
  return storage;
}

std::shared_ptr<Storage> Storage::allocate_pinned(Bytes bytes) {
  require_size(bytes);
  auto storage = std::make_shared<Storage>(Private());
  storage->owner_kind_ = Owner::pinned;
  if (bytes > Bytes(0)) storage->data_ = allocate_pinned_memory(bytes);
  storage->bytes_ = bytes;
  return storage;
}

std::shared_ptr<Storage> Storage::borrow(void* data, Bytes bytes, std::shared_ptr<void> owner,
                                         Device device) {
  if (bytes < Bytes(0) || (data == nullptr && bytes > Bytes(0))) {
    fail<InvalidArgument>("storage borrowed at {}: {} bytes; expected memory of that many bytes",
                          data, bytes.value);
  }
  if (device.type == DeviceType::cuda && bytes > Bytes(0)) require_memory_of(device, data);
  auto storage = std::make_shared<Storage>(Private());
  storage->device_ = device;
  storage->data_ = static_cast<std::byte*>(data);
  storage->bytes_ = bytes;
  storage->owner_ = std::move(owner);
  storage->owner_kind_ = Owner::borrowed;
  return storage;
}

void Storage::move_to(void* data) {
  if (owner_kind_ != Owner::borrowed || device_.type != DeviceType::cpu) {
    fail<InvalidArgument>("storage on {}: only borrowed memory of the host can move",
                          to_string(device_));
  }
  data_ = static_cast<std::byte*>(data);
  mark_written();
}

void Storage::record_stream(const Stream& stream) const {
  if (data_ == nullptr) return;
  if (owner_kind_ == Owner::cuda) record_cuda_stream(data_, device_, stream);
  if (owner_kind_ == Owner::pinned) record_pinned_stream(data_, stream);
}

Storage::~Storage() {
  if (data_ == nullptr) return;
  switch (owner_kind_) {
    case Owner::cpu:
      free_cpu_memory(data_, bytes_);
      break;
    case Owner::pinned:
      free_pinned_memory(data_);
      break;
    case Owner::cuda:
      free_cuda_memory(data_, device_);
      break;
    case Owner::borrowed:
      break;
  }
}

}  // namespace weft::tensor
