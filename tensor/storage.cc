#include "tensor/storage.h"

#include <fmt/format.h>

#include "kernels/base/error.h"
#include "tensor/cpu_allocator.h"

namespace weft::tensor {
namespace {

void require_host(Device device) {
  if (device.type == DeviceType::cpu) return;
  fail<Unsupported>("storage on {}: this build has no tensors on CUDA devices; use the cpu device",
                    to_string(device));
}

}  // namespace

std::string to_string(Device device) {
  if (device.type == DeviceType::cpu) return "cpu";
  return fmt::format("cuda:{}", device.index);
}

std::shared_ptr<Storage> Storage::allocate(Bytes bytes, Device device) {
  require_host(device);
  if (bytes < Bytes(0)) fail<InvalidArgument>("storage of {} bytes", bytes.value);
  auto storage = std::make_shared<Storage>(Private());
  storage->device_ = device;
  if (bytes > Bytes(0)) storage->data_ = allocate_cpu_memory(bytes);
  storage->bytes_ = bytes;
  return storage;
}

std::shared_ptr<Storage> Storage::borrow(void* data, Bytes bytes, std::shared_ptr<void> owner,
                                         Device device) {
  require_host(device);
  if (bytes < Bytes(0) || (data == nullptr && bytes > Bytes(0))) {
    fail<InvalidArgument>("storage borrowed at {}: {} bytes; expected memory of that many bytes",
                          data, bytes.value);
  }
  auto storage = std::make_shared<Storage>(Private());
  storage->device_ = device;
  storage->data_ = static_cast<std::byte*>(data);
  storage->bytes_ = bytes;
  storage->owner_ = std::move(owner);
  storage->borrowed_ = true;
  return storage;
}

Storage::~Storage() {
  if (!borrowed_ && data_ != nullptr) free_cpu_memory(data_, bytes_);
}

}  // namespace weft::tensor
