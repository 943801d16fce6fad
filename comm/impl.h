// What is behind a Communicator.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "comm/cuda_communicator.h"
#include "comm/execute/engine.h"
#include "comm/group.h"
#include "comm/planner.h"
#include "comm/process_mark.h"
#include "comm/trace/trace.h"
#include "comm/transport/shm/host.h"

namespace weft::comm {

// Where a communicator's splits come from. Called by all ranks of the new group, with the same key
// and members (indices into the parent, in the new order).
class Home {
 public:
  virtual ~Home() = default;
  virtual std::unique_ptr<Communicator::Impl> make_child(Communicator::Impl& parent,
                                                         const std::string& key,
                                                         const std::vector<int>& members,
                                                         int rank) = 0;
};

struct Settings {
  int lanes = 1;
  std::string algorithm;
  Medium medium = Medium::tcp;
  std::shared_ptr<const Tuning> tuning = std::make_shared<const Tuning>();
  std::shared_ptr<const HostMap> hosts = nullptr;  // of this communicator's ranks, if known
  EngineOptions engine;
  Bytes scratch;  // that a round of a collective on shared memory may use, of each rank; set below
  trace::Options trace;
};

// A checked call of equally long blocks. `algorithm` is the call's own wish.
struct Request {
  Call call;
  Bytes wide_bytes;
  Elems input_block;
  Elems output_block;
  Buffers buffers;
  std::string_view algorithm;
};

// An operation that is checked and bound, with the buffers it is to run on.
struct Prepared {
  std::unique_ptr<Operation> operation;
  Buffers buffers;
};

struct Communicator::Impl {
  Impl(std::unique_ptr<Mesh> mesh, std::shared_ptr<GroupSupervisor> group_supervisor,
       std::shared_ptr<Home> splits_from, const Settings& new_settings);
  ~Impl();

  int rank;
  int size;
  Settings settings;
  std::shared_ptr<GroupSupervisor> supervisor;
  std::shared_ptr<Home> home;
  const memory::Group* memory;  // of all ranks, where they share it, else null
  std::shared_ptr<Engine> engine;
  Planner planner;
  std::string name = "world";  // the same on all ranks, no other communicator's; keys splits
  std::uint32_t splits = 0;
  std::shared_ptr<shm::Host> host;         // null where no memory is shared
  std::unique_ptr<CudaCommunicator> cuda;  // once it was asked for
  int exceptions_at_birth;
  std::atomic<bool> aborted{false};  // by this rank
  std::function<void()> before_close = [] {};

  ProcessMark process;

  void refuse_in_child() const;
  void run(const Request& request);
  void run(Prepared prepared) {
    refuse_in_child();
    engine->release(engine->run(std::move(prepared.operation), prepared.buffers));
  }
  Work start(const Request& request) { return start(bind(request)); }
  Work start(Prepared prepared);

  // prepare.cc: check the arguments, throwing InvalidArgument, and bind. `where` of the messages is
  // "rank 2 (node7): all_reduce".
  Request all_reduce(ConstView input, View output, ReduceOp op, CallOptions options);
  Request reduce(ConstView input, View output, int root, ReduceOp op, CallOptions options);
  Request broadcast(View buffer, int root, CallOptions options);
  Request all_gather(ConstView input, View output, CallOptions options);
  Request reduce_scatter(ConstView input, View output, ReduceOp op, CallOptions options);
  Request gather(ConstView input, View output, int root, CallOptions options);
  Request scatter(ConstView input, View output, int root, CallOptions options);
  Request all_to_all(ConstView input, View output, CallOptions options);
  Request barrier(CallOptions options);
  Prepared message(bool sends, const void* input, void* output, Elems count, DType dtype, int peer);
  // prepare_v.cc
  Prepared all_gather_v(ConstView input, View output, std::span<const Elems> counts,
                        CallOptions options);
  Prepared reduce_scatter_v(ConstView input, View output, std::span<const Elems> counts,
                            ReduceOp op, CallOptions options);
  Prepared gather_v(ConstView input, View output, std::span<const Elems> counts, int root,
                    CallOptions options);
  Prepared scatter_v(ConstView input, View output, std::span<const Elems> counts, int root,
                     CallOptions options);
  Prepared all_to_all_v(ConstView input, std::span<const Elems> send_counts, View output,
                        std::span<const Elems> recv_counts, CallOptions options);

  // Picks what carries the call out, and says so in `call`.
  Planned plan_of(Call& call, Bytes wide_bytes, std::string_view algorithm, Way way);
  Bytes round_bytes(Collective collective) const;
  Prepared bind(const Request& request);
  Prepared bind(Call call, Bytes wide_bytes, std::span<const Elems> input_blocks,
                std::span<const Elems> output_blocks, const Buffers& buffers, CallOptions options);
};

// Communicators of threads: Communicator::in_process(), with what to write down.
std::vector<Communicator> make_in_process(int world_size, const trace::Options& trace,
                                          std::shared_ptr<const HostMap> hosts = nullptr);

}  // namespace weft::comm
