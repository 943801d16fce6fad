// Ranks that address each other's device memory: queues their collectives and messages, a kernel
// each. Calls of one island must be queued in the same order by all members, and must not overlap
// on a device; who calls takes care of that.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "comm/cuda/planner.h"
#include "comm/cuda/words.h"
#include "comm/execute/call.h"
#include "comm/execute/operation.h"
#include "comm/transport/cuda_ipc/group.h"

namespace weft::comm {

struct IslandCall {
  Call call;  // root: a member
  Bytes wide_bytes;
  Elems block;
  Buffers buffers;
  std::string_view algorithm = {};  // the call's own wish
};

class Island {
 public:
  Island(std::shared_ptr<cuda_ipc::Group> group, int lanes, const std::string& algorithms,
         std::shared_ptr<const Tuning> tuning);

  cuda_ipc::Group& group() { return *group_; }
  const std::shared_ptr<cuda_ipc::Group>& share_group() const { return group_; }
  FinishWords& words() { return words_; }
  int lanes() const { return lanes_; }
  CudaPlanner& planner() { return planner_; }

  // Gives the tag under which errors know it. `finish.word` may be null.
  FrameTag run(const IslandCall& call, const kernels::cuda::Finish& finish,
               kernels::cuda::Stream stream, bool capturing);
  // `call.root` is the peer.
  FrameTag message(const Call& call, void* data, const kernels::cuda::Finish& finish,
                   kernels::cuda::Stream stream);

 private:
  void run_small(const IslandCall& call, const FrameTag& tag, const kernels::cuda::Finish& finish,
                 kernels::cuda::Stream stream);
  void run_program(const IslandCall& call, const FrameTag& tag, const kernels::cuda::Finish& finish,
                   kernels::cuda::Stream stream, bool capturing);

  std::shared_ptr<cuda_ipc::Group> group_;
  FinishWords words_;
  int lanes_;
  CudaPlanner planner_;
};

}  // namespace weft::comm
