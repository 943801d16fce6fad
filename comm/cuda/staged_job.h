// What Staged keeps of an operation, and of the thread that runs operations one after the other.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <memory>
#include <thread>

#include "comm/cuda/staged.h"

namespace weft::comm {

struct Staged::Job {
  Request request;  // of a message: call and buffers alone
  bool is_message = false;
  kernels::cuda::Event ready;      // the stream has come to it
  kernels::cuda::Finish released;  // the host's word that the stream may go on
  std::shared_ptr<Completion> completion;

  explicit Job(int device) : ready(device) {}

  Bytes block_bytes(Elems count) const { return bytes_of(count, request.call.dtype); }
  // Blocks behind the input and the output, 0 where there is none.
  int input_blocks(int size) const;
  int output_blocks(int size) const;
};

// Of all blocks of a tile together.
inline constexpr std::int64_t kTileBytes = 4 << 20;

// Memory is taken once and for all: to free some waits for all kernels of the device, which may
// wait for this rank's.
struct Staged::Lane {
  // shards: device memory is needed, too, for tiles that are reduced inside the host.
  Lane(int device, bool with_shards) : stream(device) {
    constexpr Bytes kRoom(kTileBytes + (64 << 10));  // a tile has an element of each block at least
    for (auto* side : {&inputs, &outputs}) {
      for (auto& memory : *side) memory = kernels::cuda::PinnedMemory(kRoom);
    }
    for (auto& shard : shards) {
      if (with_shards) shard = cuda_ipc::SharedMemory(device, kRoom).mapping();
    }
  }

  kernels::cuda::OwnedStream stream;
  std::array<kernels::cuda::PinnedMemory, 2> inputs;  // tiles, by turn
  std::array<kernels::cuda::PinnedMemory, 2> outputs;
  std::array<cuda_ipc::Mapping, 2> shards;
  std::array<kernels::cuda::Finish, 2> marks{};

  std::condition_variable changed;
  std::deque<std::unique_ptr<Job>> jobs;
  std::thread thread;
};

}  // namespace weft::comm
