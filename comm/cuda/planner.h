// From a call to the programs of its kernel: picks the algorithm, emits and lowers its schedule for
// all members, encodes this member's, and keeps it in device memory for the next call of the kind.
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "comm/cuda/words.h"
#include "comm/execute/cuda_program.h"
#include "comm/planner.h"
#include "comm/transport/cuda_ipc/group.h"

namespace weft::comm {

struct CudaPlan {
  CudaProgram by_scratch;  // for sizes; its arrays are in device memory, as said below
  CudaProgram everywhere;
  kernels::cuda::Program scratch_program{};
  kernels::cuda::Program everywhere_program{};
};

struct CudaChoice {
  std::uint8_t algorithm = 0;  // index into algorithms()
  bool small = false;          // everybody sends everything to everybody, flags beside the data
};

class CudaPlanner {
 public:
  CudaPlanner(const cuda_ipc::Group& group, FinishWords& words, const std::string& algorithms,
              std::shared_ptr<const Tuning> tuning);

  // `bytes`: of the wide buffer; `contribution`: what a member sends of it. `algorithm`: the call's
  // own wish, or empty; throws InvalidArgument where it does not do this.
  CudaChoice choose(Collective collective, int root, Bytes bytes, Bytes contribution,
                    std::string_view algorithm) const;
  // Contributions that may go with their flags beside the data.
  Bytes small_limit() const;
  void set_small_limit(Bytes limit);

  // capturing: nothing may be allocated. Throws Unsupported where that would be needed.
  const CudaPlan& plan(Collective collective, int root, std::uint8_t algorithm, bool capturing);

 private:
  struct Key {
    Collective collective;
    std::int32_t root;
    std::uint8_t algorithm;
    auto operator<=>(const Key&) const = default;
  };
  std::string_view wish(const Problem& problem, std::string_view algorithm) const;
  std::unique_ptr<CudaPlan> make(const Problem& problem, std::string_view algorithm) const;
  kernels::cuda::Program upload(const CudaProgram& program, bool capturing);
  std::byte* place(std::size_t bytes, bool capturing);

  const cuda_ipc::Group& group_;
  FinishWords& words_;
  AlgorithmWishes default_algorithms_;
  std::shared_ptr<const Tuning> tuning_;
  std::atomic<std::int64_t> small_bytes_;
  std::mutex mutex_;
  std::map<Key, std::unique_ptr<CudaPlan>> plans_;
  std::vector<std::shared_ptr<std::byte>> pools_;  // device memory, and its pinned counterpart
  std::vector<kernels::cuda::PinnedMemory> staging_;
  std::size_t used_ = 0;  // of the last pool
};

}  // namespace weft::comm
