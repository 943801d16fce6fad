// Ranks as threads that do collectives on CUDA memory, and buffers for them.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/cuda_communicator.h"
#include "kernels/cuda/runtime.h"

namespace weft::comm::testing {

struct CudaRank {
  Communicator& host;
  CudaCommunicator& cuda;
  kernels::cuda::Stream stream;

  int rank() const { return host.rank(); }
  int size() const { return host.size(); }
  void wait() const { kernels::cuda::wait_stream(stream); }
};

using CudaBody = std::function<void(CudaRank& rank)>;

inline std::string text_of_error(const std::exception_ptr& error) {
  if (!error) return {};
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
}

struct CudaWorld {
  int size = 2;
  int devices = 1;  // ranks are dealt to them
  int lanes = 4;    // few, for the emulator's sake
  std::shared_ptr<const HostMap> hosts = nullptr;
};

// Device memory that stays until the world has ended: freeing some waits for all kernels of the
// device, and those of other ranks may wait for this one's.
class WorldMemory {
 public:
  static std::byte* take(Bytes bytes) {
    auto* const data = static_cast<std::byte*>(kernels::cuda::allocate(bytes));
    const std::lock_guard lock(all().mutex_);
    all().taken_.push_back(data);
    return data;
  }
  static void free_all() {
    const std::lock_guard lock(all().mutex_);
    for (std::byte* data : all().taken_) kernels::cuda::release(data);
    all().taken_.clear();
  }

 private:
  static WorldMemory& all() {
    static WorldMemory memory;
    return memory;
  }
  std::mutex mutex_;
  std::vector<std::byte*> taken_;
};

// What each rank's body threw, or nullptr.
inline std::vector<std::exception_ptr> run_cuda_world(const CudaWorld& world,
                                                      const CudaBody& body) {
  std::vector<Communicator> ranks = Communicator::in_process(world.size, world.hosts);
  std::vector<std::exception_ptr> errors(ranks.size());
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    threads.emplace_back([&, r] {
      try {
        Communicator mine = std::move(ranks[r]);
        const int device = static_cast<int>(r) % world.devices;
        const kernels::cuda::DeviceGuard guard(device);
        const kernels::cuda::OwnedStream stream(device);
        CudaRank rank{mine, mine.cuda(device, world.lanes), stream.get()};
        body(rank);
      } catch (...) {
        errors[r] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  WorldMemory::free_all();
  return errors;
}

inline void expect_cuda_world(const CudaWorld& world, const CudaBody& body) {
  const auto errors = run_cuda_world(world, body);
  for (std::size_t r = 0; r < errors.size(); ++r) {
    EXPECT_EQ(text_of_error(errors[r]), "") << "rank " << r;
  }
}

// Elements on the device and on the host, at an address that is aligned to elements only if asked.
class TwinBuffer {
 public:
  TwinBuffer(DType dtype, std::int64_t count, bool unaligned)
      : dtype_(dtype),
        count_(count),
        skip_(unaligned ? size_of(dtype).size() : 0),
        host_(bytes_of(Elems(count), dtype).size()),
        device_(WorldMemory::take(Bytes(static_cast<std::int64_t>(host_.size() + skip_) + 16))) {}
  TwinBuffer(const TwinBuffer&) = delete;

  // The same values on both, from a seed. exact: 1 and 2, which sums and products keep exact in any
  // order.
  void fill(std::uint64_t seed, kernels::cuda::Stream stream, bool exact = false) {
    std::mt19937_64 random(seed);
    dispatch(dtype_, [&]<class T>() {
      for (std::int64_t i = 0; i < count_; ++i) {
        const auto bits = random();
        T value;
        if (exact) {
          value = T(static_cast<float>(1 + bits % 2));
        } else if constexpr (std::is_integral_v<T>) {
          value = static_cast<T>(bits % 7);
        } else {
          value = T(static_cast<float>(static_cast<double>(bits % 20011) / 4096.0 - 2.25));
        }
        std::memcpy(host_.data() + static_cast<std::size_t>(i) * sizeof(T), &value, sizeof(T));
      }
    });
    upload(stream);
  }
  void upload(kernels::cuda::Stream stream) {
    kernels::cuda::copy_async(device_ + skip_, host_.data(),
                              Bytes(static_cast<std::int64_t>(host_.size())), stream);
    kernels::cuda::wait_stream(stream);
  }
  std::vector<std::byte> download(kernels::cuda::Stream stream) const {
    std::vector<std::byte> bytes(host_.size());
    kernels::cuda::copy_async(bytes.data(), device_ + skip_,
                              Bytes(static_cast<std::int64_t>(bytes.size())), stream);
    kernels::cuda::wait_stream(stream);
    return bytes;
  }
  const std::vector<std::byte>& host_bytes() const { return host_; }

  View host(std::int64_t begin, std::int64_t count) {
    return {host_.data() + bytes_of(Elems(begin), dtype_).size(), Elems(count), dtype_};
  }
  View host() { return host(0, count_); }
  View device(std::int64_t begin, std::int64_t count) {
    return {device_ + skip_ + bytes_of(Elems(begin), dtype_).size(), Elems(count), dtype_};
  }
  View device() { return device(0, count_); }
  std::int64_t count() const { return count_; }

 private:
  DType dtype_;
  std::int64_t count_;
  std::size_t skip_;
  std::vector<std::byte> host_;
  std::byte* device_;
};

}  // namespace weft::comm::testing
