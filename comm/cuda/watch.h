// Looks after the kernels of an island from the host, on a thread of its own, and without a call to
// CUDA (which a capture on another thread might forbid): tells them that a member is gone or that
// all is over, hears what went wrong in them, and completes operations.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/cuda/island.h"
#include "comm/execute/engine.h"
#include "comm/execute/operation.h"
#include "comm/group.h"
#include "comm/transport/memory/group.h"

namespace weft::comm {

class CudaWatch {
 public:
  // `presence`: where members of the island say that they go, null in a world of one. It and the
  // engine outlive this.
  CudaWatch(Island& island, Engine& engine, GroupSupervisor& supervisor,
            const memory::Group* presence, std::chrono::milliseconds operation_timeout);
  ~CudaWatch();  // after close()

  void add(const kernels::cuda::Finish& finish, const FrameTag& tag, int peer_of_message,
           std::shared_ptr<Completion> completion);
  // From now on there may be kernels that were not added: graphs.
  void watch_graphs();
  // No kernel runs any more after this. hopeless: what runs is stopped, else waited for.
  void close(bool hopeless);

 private:
  struct Pending {
    kernels::cuda::Finish finish;
    FrameTag tag;
    int peer = -1;  // of a message; its direction is the tag's business no more
    std::shared_ptr<Completion> completion;
    Clock::time_point since;
  };
  void main();
  bool is_quiet() const;
  void look();
  void look_at_members();
  void look_at_troubles();
  void look_at_times();
  void complete_finished();
  void complete_failed();
  void settle(const Trouble& trouble);
  Trouble mismatch(const kernels::cuda::Desk& desk) const;
  std::string name_of(const Pending& pending) const;
  std::exception_ptr failure(const Pending& pending) const;
  std::chrono::microseconds pause() const;

  Island& island_;
  Engine& engine_;
  GroupSupervisor& supervisor_;
  const memory::Group* presence_;
  std::vector<int> presence_of_;  // by member: its number there
  std::chrono::milliseconds operation_timeout_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Pending> pending_;
  bool graphs_ = false;
  bool closing_ = false;
  bool hopeless_ = false;

  // The thread's own.
  bool stopped_ = false;  // kernels have been told to stop
  Clock::time_point stopped_at_;
  bool settled_ = false;
  std::uint64_t epoch_seen_ = 0;
  Clock::time_point epoch_since_;
  std::thread thread_;
};

}  // namespace weft::comm
