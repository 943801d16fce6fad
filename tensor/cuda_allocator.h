// Memory of CUDA devices and pinned host memory for tensors, cached (tensor/block_cache.h).
//
// Device memory belongs to the stream that is current when it is asked for. A block freed while its
// stream still works on it is given to the next request on that stream at once; for use on another
// stream say record_stream() first (operators on several streams: Tensor::record_stream). One cache
// a device, for all threads. Errors: those of tensor/stream.h; IoError when memory is exhausted
// (asked for, free on the device, held here and in use).
#pragma once

#include <optional>

#include "tensor/block_cache.h"
#include "tensor/stream.h"

namespace weft::tensor {

// `bytes` > 0; 512-byte aligned.
std::byte* allocate_cuda_memory(Bytes bytes, Device device);
void free_cuda_memory(std::byte* block, Device device) noexcept;
void record_cuda_stream(const std::byte* block, Device device, const Stream& stream);

BlockStats cuda_memory_stats(Device device);
void reset_cuda_memory_peak(Device device);
// Gives what is not in use back to the device, waiting for streams that use freed blocks.
void trim_cuda_memory(Device device);
// How much this process may hold of the device (several processes may share it); no value: all.
void set_cuda_memory_limit(Device device, std::optional<Bytes> limit);

// Host memory that copies to and from devices run on asynchronously. Freed blocks are given out
// again once the copies that were recorded are done.
std::byte* allocate_pinned_memory(Bytes bytes);
void free_pinned_memory(std::byte* block) noexcept;
void record_pinned_stream(const std::byte* block, const Stream& stream);
BlockStats pinned_memory_stats();
void trim_pinned_memory();

// Memory kept for a captured graph: while a scope is open, what this thread asks for on the device
// comes from the pool and goes back to it, and to nobody else until the pool is destroyed.
class MemoryPool {
 public:
  explicit MemoryPool(Device device);
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;
  Device device() const { return device_; }
  PoolId id() const { return id_; }

  class Scope {
   public:
    explicit Scope(const MemoryPool& pool);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const MemoryPool* previous_;
  };

 private:
  Device device_;
  PoolId id_;
};

// While one lives, no event is recorded or asked on the device by its allocator: a capture is under
// way somewhere in the process.
class CaptureScope {
 public:
  explicit CaptureScope(Device device);
  ~CaptureScope();
  CaptureScope(const CaptureScope&) = delete;
  CaptureScope& operator=(const CaptureScope&) = delete;

 private:
  Device device_;
};

}  // namespace weft::tensor
