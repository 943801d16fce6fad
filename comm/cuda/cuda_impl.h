// What is behind a CudaCommunicator.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "comm/cuda/island.h"
#include "comm/cuda/order.h"
#include "comm/cuda/staged.h"
#include "comm/cuda/watch.h"
#include "comm/cuda_communicator.h"
#include "comm/impl.h"

namespace weft::comm {

struct CudaCommunicator::Impl {
  Communicator::Impl& base;
  int device;
  std::string means;
  bool shares_device = false;  // with other threads of this process that are ranks
  // All ranks, or with `staged` those of this host, if they address each other's memory.
  std::unique_ptr<Island> island;
  std::unique_ptr<CudaWatch> watch;
  std::unique_ptr<Staged> staged;  // through host memory
  std::shared_ptr<StreamOrder> order;
  std::mutex mutex;
  std::map<std::pair<bool, int>, std::shared_ptr<StreamOrder>> messages;  // sends, peer

  Impl(Communicator::Impl& base_impl, int device_index)
      : base(base_impl), device(device_index), order(std::make_shared<StreamOrder>(device)) {}

  Work start(const Request& request, Stream stream);
  Work message(bool sends, const void* input, void* output, Elems count, DType dtype, int peer,
               Stream stream);
  // Throws unless the first and the last of `bytes` at `data` are memory of the device.
  void check_buffer(const char* operation, const char* name, const void* data, Bytes bytes) const;
  void check_stream(const char* operation, Stream stream) const;

 private:
  bool may_capture(Stream stream) const;
  Work copy_alone(const Request& request, Stream stream, bool capturing);
  Work queue(const std::shared_ptr<StreamOrder>& where, Stream stream, bool capturing, int peer,
             const std::function<FrameTag(const kernels::cuda::Finish&)>& run);
  std::shared_ptr<StreamOrder> order_of_messages(bool sends, int peer);
};

}  // namespace weft::comm
