// Collectives on CUDA memory, in the order of streams: Communicator::cuda() gives one.
//
// Calls queue their work on `stream` and return at once: the buffers are read and written when the
// stream comes to it, and no call waits for the host. Work::wait() waits on the host,
// Work::wait_on(stream) makes another stream wait. All ranks make the same calls in the same order;
// calls of one communicator run one after the other, whatever their streams, while messages to one
// peer and messages from it are three orders of their own.
//
// Buffers are memory of the communicator's device (Unsupported or InvalidArgument, saying what they
// are, where they are not), and everything else is as in communicator.h: shapes, in-place use and
// errors. Reductions have the CPU's arithmetic, and its bits (NaNs' payloads apart) by direct and
// two_shot, which are what is chosen unless somebody says otherwise; the other algorithms fold
// parts of a buffer in orders that depend on how it is cut. A failure ends the kernels that wait
// for others; Work::wait() and every later call then throw its root cause, the same as the calls on
// host memory. Contents of buffers are undefined after it.
//
// How. Ranks of one host map each other's memory: threads of a process as it is, processes through
// CUDA IPC. One kernel a call then reads and writes it where it is (buffers of threads, and
// symmetric memory) or through shared scratch. Several ranks may share a device: as threads, whose
// kernels run side by side (each needs a stream of its own: the default one is InvalidArgument; and
// as CUDA waits for all kernels of a device before it frees memory, free none while another
// thread's collective may be waiting for this rank's: keep it, as caching allocators do), and as
// processes. Between hosts, and where the system refuses IPC, ranks go through pinned host memory
// and the communicator's own links: all_reduce reduces inside the host first.
//
// Graphs. Calls may be captured, once one of the kind was made before; the Work they give is
// complete at once, and failures while a graph runs are thrown by the next call and by check().
// Replays count as calls: all ranks replay alike, and not at the same time as other calls. What
// goes through host memory cannot be captured (Unsupported).
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "kernels/cuda/stream.h"

namespace weft::comm {

class CudaCommunicator {
 public:
  using Stream = kernels::cuda::Stream;

  int rank() const;
  int size() const;
  int device() const;
  // "threads of one process", "CUDA IPC", or "host memory: ..." with the reason.
  const std::string& means() const;

  Work all_reduce(ConstView input, View output, ReduceOp op, Stream stream,
                  CallOptions options = {});
  Work all_reduce(View buffer, ReduceOp op, Stream stream, CallOptions options = {}) {
    return all_reduce(buffer, buffer, op, stream, options);
  }
  Work reduce(ConstView input, View output, int root, ReduceOp op, Stream stream,
              CallOptions options = {});
  Work broadcast(View buffer, int root, Stream stream, CallOptions options = {});
  Work all_gather(ConstView input, View output, Stream stream, CallOptions options = {});
  Work reduce_scatter(ConstView input, View output, ReduceOp op, Stream stream,
                      CallOptions options = {});
  Work gather(ConstView input, View output, int root, Stream stream, CallOptions options = {});
  Work scatter(ConstView input, View output, int root, Stream stream, CallOptions options = {});
  Work all_to_all(ConstView input, View output, Stream stream, CallOptions options = {});
  Work barrier(Stream stream, CallOptions options = {});

  // Matched in the order they are posted, per pair and direction. Two ranks that send to each other
  // need two streams each: a message longer than the slots between them waits for its receiver.
  Work send(ConstView buffer, int peer, Stream stream);
  Work recv(View buffer, int peer, Stream stream);

  // Collective: device memory of `bytes` on every rank (the same everywhere), zeroed, that kernels
  // of the host's other ranks address where it is. Communicator::allocate_symmetric() tells when it
  // is given back. Throws on all ranks alike: IoError where memory is short.
  SymmetricMemory allocate_symmetric(Bytes bytes);

  // Throws what the communicator has failed with, if it has.
  void check() const;

  // Thread blocks that a collective has at most; 0 where it goes through host memory.
  int lanes() const;
  // What a rank contributes to a collective by `direct` goes with its flag beside it up to here:
  // what the tuning says, and at most what there is room for. Set by `weft tune`, which measures
  // both sides; the same on all ranks, between calls.
  Bytes small_limit() const;
  void set_small_limit(Bytes limit);

  struct Impl;
  explicit CudaCommunicator(std::unique_ptr<Impl> impl);
  ~CudaCommunicator();
  CudaCommunicator(const CudaCommunicator&) = delete;
  // Ends what is under way: waits for it, unless it is hopeless. Called by the communicator.
  void close(bool hopeless);

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::comm

namespace weft {
using comm::CudaCommunicator;
}  // namespace weft
