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

struct Staged::Lane {
  explicit Lane(int device) : stream(device) {}

  kernels::cuda::OwnedStream stream;
  std::array<kernels::cuda::PinnedMemory, 2> inputs;  // tiles, by turn
  std::array<kernels::cuda::PinnedMemory, 2> outputs;
  std::array<std::shared_ptr<std::byte>, 2> shards;  // device memory
  std::array<Bytes, 2> shard_bytes{};
  std::array<kernels::cuda::Finish, 2> marks{};

  std::condition_variable changed;
  std::deque<std::unique_ptr<Job>> jobs;
  std::thread thread;
};

}  // namespace weft::comm
