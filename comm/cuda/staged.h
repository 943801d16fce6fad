// Collectives on CUDA memory that go through host memory: between hosts, and where device memory
// cannot be shared. A thread of its own copies tiles of the buffers to pinned memory, has the
// communicator's links do the collective there, and copies the results back; streams wait for it.
//
// An all_reduce whose hosts have equally many ranks is reduced inside the hosts first:
//
//   device   reduce-scatter of tile k   ->  shard of tile k        ->  all-gather of tile k
//   host                              copy out, all_reduce among the ranks that have the same
//                                     shard, one on each host, copy in
//
// Two tiles are under way at a time. All ranks queue the kernels of a host in the same order.
#pragma once

#include <atomic>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "comm/cuda/island.h"
#include "comm/cuda/order.h"
#include "comm/cuda/watch.h"
#include "comm/impl.h"
#include "kernels/cuda/runtime.h"

namespace weft::comm {

// A part of every block of a collective.
struct Tile {
  Elems begin;
  Elems count;
};

class Staged {
 public:
  // `links`: of the same ranks as `base`, for this alone. `island`: ranks of this host, if hosts
  // have equally many and share device memory; `across`: then the ranks that have this one's place
  // on their hosts. All outlive this but what is given.
  Staged(Communicator::Impl& base, int device, Communicator links, Island* island,
         std::optional<Communicator> across);
  ~Staged();  // after close()

  // Throws what the communicator has failed with.
  Work start(const Request& request, kernels::cuda::Stream stream,
             const std::shared_ptr<StreamOrder>& order);
  Work message(const Call& call, void* data, kernels::cuda::Stream stream,
               const std::shared_ptr<StreamOrder>& order);
  void close(bool hopeless);

 private:
  struct Job;
  struct Lane;
  Work enqueue(std::unique_ptr<Job> job, Lane& lane, kernels::cuda::Stream stream,
               const std::shared_ptr<StreamOrder>& order);
  Lane& lane_of(bool sends, int peer);
  void main(Lane& lane);
  void run(Lane& lane, Job& job);
  void run_tiles(Lane& lane, Job& job, Elems begin);
  void run_inside_first(Lane& lane, Job& job);
  void copy_out(Lane& lane, const Job& job, const Tile& tile, int turn);
  void copy_in(Lane& lane, const Job& job, const Tile& tile, int turn);
  Work collective(Lane& lane, const Job& job, const Tile& tile, int turn);
  void wait_device(Lane& lane, int turn);
  void wait_host(const Work& work);
  void mark(Lane& lane, int turn);
  std::exception_ptr failure(std::exception_ptr seen, const Job& job);
  bool gives_up() const;

  Communicator::Impl& base_;
  int device_;
  std::optional<Communicator> links_;  // until close()
  Island* island_;
  std::optional<Communicator> across_;
  FinishWords words_;
  kernels::cuda::PinnedMemory desk_memory_;
  kernels::cuda::Desk* desk_;  // its abort lets go of streams that wait

  std::mutex mutex_;
  std::atomic<bool> hopeless_{false};
  bool closing_ = false;
  std::map<std::pair<bool, int>, std::unique_ptr<Lane>> lanes_;  // collectives: {false, -1}
};

}  // namespace weft::comm
