// Distributed data parallel: every rank holds the whole model, gradients are averaged over ranks
// while backward runs on.
//
// Gradients live in buckets (flat buffers); each parameter's gradient is a view of its bucket.
// Buckets are filled in the reverse order of registration at first, and once, after the first
// synchronised backward, in the order in which rank 0 saw gradients become ready. A bucket is
// reduced as soon as it is full and all buckets before it were launched, so all ranks launch in the
// same order whatever their timing. (Li et al., "PyTorch Distributed: Experiences on Accelerating
// Data Parallel Training", VLDB 2020; bucket sizes 1 MiB first, then 25 MiB, are theirs.)
//
// On a CUDA device buckets lie in memory that the host's other ranks address and are averaged on a
// stream of their own while backward runs on (device_hook.h; compressed, or with the user's hook,
// through host memory: staged_hook.h); finish_backward() returns when what follows on the current
// stream will find the averages. Ranks that are threads and share a device need a current stream
// each (tensor/stream.h).
//
// Threading: one thread at a time. Every rank must build with the same parameters (checked:
// Mismatch names the parameter) and call backward() alike.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "tensor/nn/state_dict.h"
#include "tensor/parallel/comm_hook.h"
#include "tensor/parallel/engine.h"
#include "tensor/tensor.h"

namespace weft::parallel {

using nn::NamedTensor;

struct DdpOptions {
  Bytes first_bucket_bytes = Bytes(std::int64_t{1} << 20);
  Bytes bucket_bytes = Bytes(std::int64_t{25} << 20);
  // Parameters may take no part in a backward, not the same on every rank. Costs one small
  // all-reduce a step. Without it, such a parameter is an error that names it.
  bool find_unused_parameters = false;
  Compression compression = Compression::none;  // f32 buckets only
  // How buckets are averaged instead (comm_hook.h); of this Ddp alone. Not with `compression`.
  std::shared_ptr<CommHook> hook = nullptr;
};

using DdpTimes = EngineTimes;

class Ddp : public Engine {
 public:
  // Collective: checks that all ranks have the same parameters, then gives every rank rank 0's
  // values (parameters and buffers). The communicator must outlive this.
  Ddp(std::vector<NamedTensor> parameters, std::vector<NamedTensor> buffers,
      Communicator& communicator, DdpOptions options = {});
  ~Ddp() override;

  void begin_backward() override;
  void finish_backward() override;
  void cancel_backward() override;
  bool synchronises() const override;
  void set_synchronises(bool on) override;
  void broadcast_buffers() override;
  DdpTimes last_times() const override;
  checkpoint::ShardList parameter_shards() const override;  // all of it, on every rank
  void parameters_changed() override;

  int bucket_count() const;
  // Parameter names bucket by bucket, in launch order: for tests and `--verbose`.
  std::vector<std::vector<std::string>> bucket_layout() const;

  struct Impl;

 private:
  void require_gradients() override;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::parallel
