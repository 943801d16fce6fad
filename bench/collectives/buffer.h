// One side of a collective: ordinary or symmetric memory, of the host or of a device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/cuda_communicator.h"

namespace weft::bench {

// What a rank does collectives on a device with.
struct DeviceCalls {
  CudaCommunicator& cuda;
  kernels::cuda::Stream stream;
  kernels::cuda::Stream receiving;  // a send and a receive that wait for each other need two
};

class Buffer {
 public:
  Buffer() = default;
  // Collective where `registered`. Of the device's memory where `device` is given. Device memory is
  // allocated and freed only while no rank's call is under way (comm/cuda_communicator.h).
  Buffer(Bytes bytes, bool registered, Communicator& communicator, const DeviceCalls* device);

  std::uint8_t* data() const { return data_; }
  std::size_t size() const { return size_; }
  void poison() const;  // every byte
  // Between the buffer at `data`, which is of it, and memory of the host.
  void write(void* data, const std::vector<std::uint8_t>& from) const;
  std::vector<std::uint8_t> read(const void* data, std::size_t bytes) const;

 private:
  std::vector<std::uint8_t> ordinary_;
  std::shared_ptr<void> device_;
  comm::SymmetricMemory symmetric_;
  bool on_device_ = false;
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace weft::bench
