#include "bench/collectives/buffer.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/runtime.h"

namespace weft::bench {

namespace cuda = kernels::cuda;

Buffer::Buffer(Bytes bytes, bool registered, Communicator& communicator, const DeviceCalls* device)
    : on_device_(device != nullptr), size_(bytes.size()) {
  if (registered) {
    symmetric_ = on_device_ ? device->cuda.allocate_symmetric(bytes)
                            : communicator.allocate_symmetric(bytes);
    data_ = reinterpret_cast<std::uint8_t*>(symmetric_.data());
  } else if (on_device_) {
    device_ = {cuda::allocate(std::max(bytes, Bytes(1))), cuda::release};
    data_ = static_cast<std::uint8_t*>(device_.get());
  } else {
    ordinary_.resize(size_);
    data_ = ordinary_.data();
  }
}

void Buffer::poison() const {
  constexpr std::uint8_t kPoison = 0x5a;
  if (on_device_) {
    write(data_, std::vector<std::uint8_t>(size_, kPoison));
  } else {
    std::fill_n(data_, size_, kPoison);
  }
}

void Buffer::write(void* data, const std::vector<std::uint8_t>& from) const {
  if (from.empty()) return;
  if (on_device_) {
    cuda::copy_to_device(data, from.data(), Bytes(static_cast<std::int64_t>(from.size())));
  } else {
    std::memcpy(data, from.data(), from.size());
  }
}

std::vector<std::uint8_t> Buffer::read(const void* data, std::size_t bytes) const {
  std::vector<std::uint8_t> to(bytes);
  if (bytes == 0) return to;
  if (on_device_) {
    cuda::copy_to_host(to.data(), data, Bytes(static_cast<std::int64_t>(bytes)));
  } else {
    std::memcpy(to.data(), data, bytes);
  }
  return to;
}

}  // namespace weft::bench
