// The public face of comm/: collectives among the ranks of a job.
//
// Threading: a Communicator may be used from several threads, but all ranks must issue the same
// collectives in the same order on one communicator (point-to-point calls are ordered per pair, and
// independent of collectives). Blocking calls are driven by the calling thread; *_async calls by a
// progress thread, several may be in flight. Buffers must stay alive and untouched until the
// operation completes.
//
// Shapes: counts are elements. Reductions follow kernels/reduce.h (halves are reduced in f32).
// `input` and `output` may be the same memory where "in place" is said; any other overlap is the
// caller's mistake. Pointers need no alignment. A count of zero is allowed everywhere.
//
// Errors: bad arguments throw InvalidArgument before anything is sent. A rank that calls something
// else than the others gets Mismatch, and so do they: in that call, or, where it needs nothing from
// those who differ (a broadcast of which each takes itself for the root), in the next one. After
// any other failure (PeerLost, Corrupt, Timeout...) the communicator is broken: every pending and
// later call on every rank throws the same root cause.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/error.h"
#include "kernels/base/units.h"
#include "kernels/cuda/stream.h"
#include "kernels/reduce.h"

namespace weft::comm {

struct HostMap;
class CudaCommunicator;

struct ConstView {
  const void* data = nullptr;
  Elems count;
  DType dtype = DType::f32;

  ConstView() = default;
  ConstView(const void* d, Elems c, DType t) : data(d), count(c), dtype(t) {}
  template <class T, std::size_t kExtent>
  ConstView(std::span<T, kExtent> span)  // NOLINT: a view of typed memory is what it says
      : data(span.data()),
        count(static_cast<std::int64_t>(span.size())),
        dtype(dtype_of<std::remove_const_t<T>>) {}
};

struct View {
  void* data = nullptr;
  Elems count;
  DType dtype = DType::f32;

  View() = default;
  View(void* d, Elems c, DType t) : data(d), count(c), dtype(t) {}
  template <class T, std::size_t kExtent>
  requires(!std::is_const_v<T>) View(std::span<T, kExtent> span)  // NOLINT: as above
      : data(span.data()), count(static_cast<std::int64_t>(span.size())), dtype(dtype_of<T>) {}
  operator ConstView() const { return {data, count, dtype}; }  // NOLINT: adding const is safe
};

// A handle on an asynchronous operation. Copies share it. Dropping every handle does not cancel the
// operation.
class Work {
 public:
  Work() = default;   // already complete
  void wait() const;  // blocks; throws what the operation failed with
  bool test() const;  // true when complete, well or badly; never throws
  // Makes what is queued on `stream` from now on wait for an operation on CUDA memory, without the
  // host; of an operation on host memory as wait().
  void wait_on(kernels::cuda::Stream stream) const;
  // Runs `callback` once the operation is complete (at once if it is), on the progress thread or
  // the one that drives; it gets the failure or nullptr. It must not throw, nor block on this
  // communicator; it may start asynchronous operations.
  void then(std::function<void(std::exception_ptr)> callback) const;
  // From start to completion; zero while running.
  std::chrono::nanoseconds duration() const;

  struct State;
  explicit Work(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

// automatic: shared memory between ranks of one host, TCP between hosts. shm: shared memory or
// nothing. tcp: sockets everywhere.
enum class TransportKind { automatic, inproc, shm, tcp };
std::optional<TransportKind> parse_transport(std::string_view name);

// How a rank joins. from_environment() reads what `weft run` (or a cluster's launcher) set: see
// launcher/environment.
struct ConnectOptions {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  std::string store_host = "127.0.0.1";  // where the store listens
  int store_port = 0;
  std::vector<std::uint8_t> secret;  // 32 bytes, the job's; never printed
  std::string job_id;
  std::uint32_t epoch = 0;
  TransportKind transport = TransportKind::automatic;
  std::string interface;  // name ("eth0") or address to listen on; empty: the one the route to the
                          // store takes
  int lanes = 1;          // links a pair of ranks, among which schedules are striped
  int connections = 1;  // tcp: over how many the large messages of a link are spread, each as fast
                        // as it is; 1: over the link's own
  // Defaults of calls: a name for every collective, "all_reduce=ring,broadcast=tree", or both
  // ("tree,all_reduce=ring"). Empty: chosen by size. docs/tuning.md tells what goes before what.
  std::string algorithm;
  // What choices are made from: a file of `weft tune`, "none" for what is built in, or empty for
  // the user's own file if there is one. Rank 0's counts, for all ranks; one that is damaged gives
  // InvalidArgument on all of them.
  std::string tuning_file;
  std::chrono::milliseconds connect_timeout{60'000};
  std::chrono::milliseconds operation_timeout{
      30 * 60'000};  // a collective that makes no progress for so long fails
  std::chrono::milliseconds heartbeat{500};  // a rank silent for 6 of these is lost

  // docs/trace.md. Where the last operations are dumped to on failures and signals; "off": they are
  // not even recorded; empty: no dumps. Where timelines go; empty: there are none.
  std::string flight_recorder;
  std::string timeline;
  std::size_t timeline_events = std::size_t{1} << 18;  // a thread and communicator

  static ConnectOptions from_environment();
};

// What a call may ask for; the same on all ranks.
struct CallOptions {
  std::string_view algorithm = {};  // overrides the communicator's
  // f16 or bf16: f32 buffers travel in this type, half the bytes, and are reduced in f32. Of
  // all_reduce, reduce, reduce_scatter, all_gather, broadcast and their v forms; every rank of an
  // all_reduce, all_gather or broadcast ends with the same bits (the own block of an all_gather and
  // the root's buffer of a broadcast are rounded, too). Chosen call by call and nowhere else: what
  // a call rounds away should be seen where it is made. A group of one sends, and rounds, nothing.
  //
  // Error, elementwise. With u = 2^-8 and t = 2^-134 (bf16), or u = 2^-11 and t = 2^-25 (f16), a
  // value that travels once is off by at most max(u |x|, t): all_gather and broadcast. A sum of x_r
  // over n ranks is off by at most
  //   ((1 + u)^h (1 + 2^-24)^n - 1) sum |x_r| + 2 n t      (avg: the first part divided by n)
  // h being how often a contribution is rounded on its way, one less in reduce and reduce_scatter,
  // whose results stay f32: ring n, halving_doubling 1 + ceil(log2 n), tree 2 + floor(log2(n-1)),
  // two_shot (and the others' direct) 2; never more than n. min and max are the exact result,
  // rounded once (in reduce and reduce_scatter: off by at most max(u |x|, t)). Where sums cancel,
  // the error is relative to sum |x_r|, as that of any float sum. f16 overflows to infinity at
  // 65520, in partial sums, too: prefer bf16, or scale. NaN stays NaN. docs/compression.md derives
  // it.
  std::optional<DType> wire = {};
};

// What this rank moved, payload alone. A message counts where it is sent and where it is received.
// In shared memory one side moves a byte for both: written to where others get it counts as sent,
// read from another rank's memory as received.
struct TrafficCounters {
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t operations = 0;
};

// Memory of this rank that the other ranks of its host have mapped, too, and that collectives
// therefore read and write where it is, instead of copying it through shared scratch. Aligned to
// pages, zeroed. Use any part of it in calls on the communicator that made it; in other
// communicators it is ordinary memory. It may outlive the communicator. Dropped memory stays with
// the communicator until all ranks have dropped theirs and the next allocate_symmetric lets it go
// (one of zero bytes will do). Where a call fails because a process of the host does not answer in
// the middle of it, what was allocated together gets pages that others do not have, with its
// contents, before the call throws: what other threads write beside the call's buffer at that
// moment may be lost. Movable; not thread-safe.
class SymmetricMemory {
 public:
  SymmetricMemory() = default;
  std::byte* data() const { return memory_.get(); }
  Bytes size() const { return size_; }
  // As elements of T, as many as fit.
  template <class T>
  std::span<T> as() const {
    return {reinterpret_cast<T*>(memory_.get()), size_.size() / sizeof(T)};
  }

  SymmetricMemory(std::shared_ptr<std::byte> memory, Bytes size)
      : memory_(std::move(memory)), size_(size) {}

 private:
  std::shared_ptr<std::byte> memory_;
  Bytes size_;
};

class Communicator {
 public:
  // Blocks until all ranks are there; throws Timeout naming the missing ranks, Unauthorized,
  // Mismatch (another world size), PeerLost.
  static Communicator connect(const ConnectOptions& options);
  // A world of ranks that are threads of this process; element r is for the thread that plays rank
  // r. No store, no sockets. With `hosts` (schedule/host_map.h) they are treated as if they were
  // spread over hosts like that: schedules follow it, and `hierarchical` can be asked for.
  static std::vector<Communicator> in_process(int world_size,
                                              std::shared_ptr<const HostMap> hosts = nullptr);
  // A world of one: every collective is a copy.
  static Communicator self();

  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;
  // Says goodbye to the peers; pending operations fail with Aborted. A child that this process
  // forked has no communicator: there, calls throw Unsupported and destruction does nothing.
  ~Communicator();

  int rank() const;
  int size() const;
  std::string_view host_of(int rank) const;

  // --- Collectives. Each has a blocking form and an _async form that returns Work.
  // in place: input.data == output.data.
  void all_reduce(ConstView input, View output, ReduceOp op = ReduceOp::sum,
                  CallOptions options = {});
  void all_reduce(View buffer, ReduceOp op = ReduceOp::sum, CallOptions options = {}) {
    all_reduce(buffer, buffer, op, options);
  }
  // output is used on the root alone; in place there.
  void reduce(ConstView input, View output, int root, ReduceOp op = ReduceOp::sum,
              CallOptions options = {});
  void broadcast(View buffer, int root, CallOptions options = {});
  // output.count == size() * input.count; in place: input is the rank's own block of output.
  void all_gather(ConstView input, View output, CallOptions options = {});
  // input.count == size() * output.count; in place: output is the rank's own block of input.
  void reduce_scatter(ConstView input, View output, ReduceOp op = ReduceOp::sum,
                      CallOptions options = {});
  void gather(ConstView input, View output, int root, CallOptions options = {});
  void scatter(ConstView input, View output, int root, CallOptions options = {});
  void all_to_all(ConstView input, View output, CallOptions options = {});  // never in place
  void barrier(CallOptions options = {});

  // The v forms: block r has counts[r] elements, blocks packed in rank order. `counts` is the same
  // on every rank, except in all_to_all_v (what this rank sends to and receives from each).
  void all_gather_v(ConstView input, View output, std::span<const Elems> counts,
                    CallOptions options = {});
  void reduce_scatter_v(ConstView input, View output, std::span<const Elems> counts,
                        ReduceOp op = ReduceOp::sum, CallOptions options = {});
  void gather_v(ConstView input, View output, std::span<const Elems> counts, int root,
                CallOptions options = {});
  void scatter_v(ConstView input, View output, std::span<const Elems> counts, int root,
                 CallOptions options = {});
  void all_to_all_v(ConstView input, std::span<const Elems> send_counts, View output,
                    std::span<const Elems> recv_counts, CallOptions options = {});

  Work all_reduce_async(ConstView input, View output, ReduceOp op = ReduceOp::sum,
                        CallOptions options = {});
  Work all_reduce_async(View buffer, ReduceOp op = ReduceOp::sum, CallOptions options = {}) {
    return all_reduce_async(buffer, buffer, op, options);
  }
  Work reduce_async(ConstView input, View output, int root, ReduceOp op = ReduceOp::sum,
                    CallOptions options = {});
  Work broadcast_async(View buffer, int root, CallOptions options = {});
  Work all_gather_async(ConstView input, View output, CallOptions options = {});
  Work reduce_scatter_async(ConstView input, View output, ReduceOp op = ReduceOp::sum,
                            CallOptions options = {});
  Work gather_async(ConstView input, View output, int root, CallOptions options = {});
  Work scatter_async(ConstView input, View output, int root, CallOptions options = {});
  Work all_to_all_async(ConstView input, View output, CallOptions options = {});
  Work barrier_async(CallOptions options = {});
  Work all_gather_v_async(ConstView input, View output, std::span<const Elems> counts,
                          CallOptions options = {});
  Work reduce_scatter_v_async(ConstView input, View output, std::span<const Elems> counts,
                              ReduceOp op = ReduceOp::sum, CallOptions options = {});
  Work gather_v_async(ConstView input, View output, std::span<const Elems> counts, int root,
                      CallOptions options = {});
  Work scatter_v_async(ConstView input, View output, std::span<const Elems> counts, int root,
                       CallOptions options = {});
  Work all_to_all_v_async(ConstView input, std::span<const Elems> send_counts, View output,
                          std::span<const Elems> recv_counts, CallOptions options = {});

  // --- Point to point: matched in the order they are posted, per pair and direction.
  void send(ConstView buffer, int peer);
  void recv(View buffer, int peer);
  Work send_async(ConstView buffer, int peer);
  Work recv_async(View buffer, int peer);

  // Collective: ranks with one colour form a new communicator, ordered by (key, rank). A negative
  // colour joins none and gets nothing. The new one has connections of its own and fails on its
  // own.
  std::optional<Communicator> split(int color, int key = 0);

  // Collective: memory of `bytes` on every rank (the same everywhere) that ranks of one host
  // address directly. Over TCP alone, and between threads, it is plain memory. Throws on all ranks
  // alike: IoError naming the rank whose machine has too little memory, or where it cannot be
  // mapped.
  SymmetricMemory allocate_symmetric(Bytes bytes);

  // Collective, the first time: collectives on CUDA memory (cuda_communicator.h) of this rank's
  // `device`; ranks may share one. `lanes`: the most thread blocks that a collective may occupy, 0
  // for what is good; the least of all ranks' counts. Throws on all ranks alike, naming the rank:
  // Unsupported without a device, InvalidArgument for an index out of range. Later calls give the
  // same again, and know no other device. It lives as long as the communicator.
  CudaCommunicator& cuda(int device, int lanes = 0);

  // Fails every pending and later call here and on the other ranks with Aborted(reason). Never
  // blocks; the destructor waits (at most 300 ms) until the others have been told. A process that
  // exits without it may be reported as an exit instead.
  void abort(const std::string& reason);

  TrafficCounters traffic() const;  // since connect

  struct Impl;
  explicit Communicator(std::unique_ptr<Impl> impl);

 private:
  struct Destroy {
    void operator()(Impl* impl) const;
  };
  std::unique_ptr<Impl, Destroy> impl_;
};

}  // namespace weft::comm

namespace weft {
using comm::Communicator;
using comm::Work;
}  // namespace weft
