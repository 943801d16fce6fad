// The public calls on CUDA memory: checked as those on host memory are, then queued.
#include "comm/arguments.h"
#include "comm/cuda/cuda_impl.h"
#include "comm/work_state.h"
#include "kernels/cuda/runtime.h"

namespace weft::comm {

namespace cuda = kernels::cuda;

namespace {

// Bytes behind the pointers of a call.
struct Extent {
  Bytes input;
  Bytes output;
};

Extent extent_of(const Request& request, int size) {
  const Bytes block = bytes_of(request.input_block, request.call.dtype);
  Extent extent{block, block};
  switch (request.call.collective) {
    case Collective::all_gather:
    case Collective::gather:
      extent.output = block * size;
      break;
    case Collective::reduce_scatter:
    case Collective::scatter:
      extent.input = block * size;
      break;
    case Collective::all_to_all:
      extent = {block * size, block * size};
      break;
    default:
      break;
  }
  return extent;
}

// The memory that both are, where that is no in-place form: the same buffer, or the narrow one is
// the rank's own block of the wide one.
bool overlap_wrongly(const Request& request, const Extent& extent, int rank) {
  const auto input = reinterpret_cast<std::uintptr_t>(request.buffers.input);
  const auto output = reinterpret_cast<std::uintptr_t>(request.buffers.output);
  if (input == 0 || output == 0 || extent.input.value == 0 || extent.output.value == 0)
    return false;
  if (input + extent.input.size() <= output || output + extent.output.size() <= input) return false;
  const auto own =
      bytes_of(request.input_block, request.call.dtype).size() * static_cast<std::size_t>(rank);
  if (extent.output > extent.input) return input != output + own;
  if (extent.input > extent.output) return output != input + own;
  return input != output;
}

std::string describe(const cuda::PointerInfo& info) {
  switch (info.kind) {
    case cuda::MemoryKind::device:
      return fmt::format("memory of device {}", info.device);
    case cuda::MemoryKind::managed:
      return "managed memory";
    case cuda::MemoryKind::pinned:
      return "pinned host memory";
    case cuda::MemoryKind::unknown:
      break;
  }
  return "host memory, or memory that was freed";
}

std::shared_ptr<Work::State> make_state(const std::shared_ptr<StreamOrder>& order) {
  auto state = std::make_shared<Work::State>();
  state->completion = std::make_shared<Completion>();
  state->order = [order](cuda::Stream stream) { order->let_wait(stream); };
  return state;
}

}  // namespace

void CudaCommunicator::Impl::check_buffer(const char* operation, const char* name, const void* data,
                                          Bytes bytes) const {
  if (data == nullptr || bytes.value == 0) return;
  const cuda::PointerInfo info = cuda::pointer_info(data);
  const auto* const last = static_cast<const std::byte*>(data) + (bytes.value - 1);
  const cuda::PointerInfo end = cuda::pointer_info(last);
  if (info.kind != end.kind || info.device != end.device) {
    fail<InvalidArgument>(
        "rank {}: {} on CUDA memory: {} begins in {} and its last byte, {} bytes on, is {}; pass a "
        "buffer of as many elements as the call says",
        base.rank, operation, name, describe(info), bytes.value - 1, describe(end));
  }
  if (info.kind == cuda::MemoryKind::managed) return;
  if (info.kind == cuda::MemoryKind::device) {
    if (info.device == device) return;
    fail<InvalidArgument>(
        "rank {}: {} on CUDA memory: {} is {}, but this communicator is of device {}; copy it, or "
        "ask Communicator::cuda() for that device",
        base.rank, operation, name, describe(info), device);
  }
  fail<InvalidArgument>(
      "rank {}: {} on CUDA memory: {} is {}; pass memory of device {}, or call the communicator "
      "itself, whose collectives are on host memory",
      base.rank, operation, name, describe(info), device);
}

// The default stream is one for all threads: the kernel of one rank, which waits for the others',
// would keep those from running.
void CudaCommunicator::Impl::check_stream(const char* operation, Stream stream) const {
  constexpr std::uintptr_t kLegacy = 1;  // cudaStreamLegacy
  if (!shares_device || reinterpret_cast<std::uintptr_t>(stream) > kLegacy) return;
  fail<InvalidArgument>(
      "rank {}: {} on CUDA memory: the default stream, while other threads of this process are "
      "ranks on device {} as well: their kernels would wait for each other in one queue. Give each "
      "rank a stream of its own (tensor::StreamGuard, create_stream())",
      base.rank, operation, device);
}

bool CudaCommunicator::Impl::may_capture(Stream stream) const {
  if (!cuda::is_capturing(stream)) return false;
  if (staged) {
    fail<Unsupported>(
        "rank {}: collectives on CUDA memory go through {} here and cannot be captured into a CUDA "
        "graph; leave them out of it",
        base.rank, means);
  }
  if (watch) watch->watch_graphs();
  return true;
}

// run() queues a kernel that says at `finish` when it is through.
Work CudaCommunicator::Impl::queue(const std::shared_ptr<StreamOrder>& where, Stream stream,
                                   bool capturing, int peer,
                                   const std::function<FrameTag(const cuda::Finish&)>& run) {
  if (capturing) {
    where->run(stream, true, [&] { run({nullptr, 0}); });
    return Work();
  }
  const cuda::Finish finish = island->words().take();
  auto state = make_state(where);
  where->run(stream, false, [&] {
    try {
      const FrameTag tag = run(finish);
      watch->add(finish, tag, peer, state->completion);
    } catch (...) {
      island->words().give_back(finish);
      throw;
    }
  });
  return Work(std::move(state));
}

Work CudaCommunicator::Impl::start(const Request& request, Stream stream) {
  base.engine->throw_if_failed();
  const char* const operation = name_of(request.call.collective);
  if (request.call.wire) {
    fail<Unsupported>(
        "rank {}: {} on CUDA memory: wire compression is for host memory; cast the "
        "buffer instead, or leave wire out",
        base.rank, operation);
  }
  check_stream(operation, stream);
  const Extent extent = extent_of(request, base.size);
  check_buffer(operation, "input", request.buffers.input, extent.input);
  check_buffer(operation, "output", request.buffers.output, extent.output);
  if (overlap_wrongly(request, extent, base.rank)) {
    fail<InvalidArgument>(
        "rank {}: {} on CUDA memory: input and output overlap ({} and {} bytes); they must be "
        "apart, or as communicator.h says for this collective in place",
        base.rank, operation, extent.input.value, extent.output.value);
  }
  const bool capturing = may_capture(stream);
  if (base.size == 1) return copy_alone(request, stream, capturing);
  if (staged) return staged->start(request, stream, order);
  const IslandCall call{request.call, request.wide_bytes, request.input_block, request.buffers,
                        request.algorithm};
  return queue(order, stream, capturing, -1, [&](const cuda::Finish& finish) {
    return island->run(call, finish, stream, capturing);
  });
}

// A world of one: every collective is a copy.
Work CudaCommunicator::Impl::copy_alone(const Request& request, Stream stream, bool capturing) {
  const Bytes bytes = bytes_of(request.input_block, request.call.dtype);
  const Buffers& buffers = request.buffers;
  const auto copy = [&] {
    if (buffers.output == nullptr || buffers.input == buffers.output || bytes.value == 0) return;
    const cuda::DeviceGuard guard(device);
    cuda::copy_async(buffers.output, buffers.input, bytes, stream);
  };
  return queue(order, stream, capturing, -1, [&](const cuda::Finish& finish) {
    copy();
    if (finish.word != nullptr) cuda::write_host(finish.word, finish.value, stream);
    return tag_of(request.call, 0);
  });
}

std::shared_ptr<StreamOrder> CudaCommunicator::Impl::order_of_messages(bool sends, int peer) {
  const std::lock_guard lock(mutex);
  auto& known = messages[{sends, peer}];
  if (!known) known = std::make_shared<StreamOrder>(device);
  return known;
}

Work CudaCommunicator::Impl::message(bool sends, const void* input, void* output, Elems count,
                                     DType dtype, int peer, Stream stream) {
  const char* const operation = sends ? "send" : "recv";
  const Arguments check(operation, base.rank, base.size);
  check.peer(peer);
  check.view("buffer", sends ? input : output, count, dtype);
  base.engine->throw_if_failed();
  check_stream(operation, stream);
  check_buffer(operation, "buffer", sends ? input : output, bytes_of(count, dtype));
  Call call;
  call.collective = sends ? Collective::send : Collective::recv;
  call.dtype = dtype;
  call.count = count;
  call.root = peer;
  const bool capturing = may_capture(stream);
  void* const data = sends ? const_cast<void*>(input) : output;
  const auto where = order_of_messages(sends, peer);
  if (staged) return staged->message(call, data, stream, where);
  return queue(where, stream, capturing, peer, [&](const cuda::Finish& finish) {
    return island->message(call, data, finish, stream);
  });
}

CudaCommunicator::CudaCommunicator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CudaCommunicator::~CudaCommunicator() { close(true); }

void CudaCommunicator::close(bool hopeless) {
  if (impl_->staged) impl_->staged->close(hopeless);
  if (impl_->watch) {
    impl_->watch->close(hopeless);
    impl_->watch.reset();
  }
}

int CudaCommunicator::rank() const { return impl_->base.rank; }
int CudaCommunicator::size() const { return impl_->base.size; }
int CudaCommunicator::device() const { return impl_->device; }
const std::string& CudaCommunicator::means() const { return impl_->means; }
int CudaCommunicator::lanes() const { return impl_->staged ? 0 : impl_->island->lanes(); }
Bytes CudaCommunicator::small_limit() const {
  return impl_->staged ? Bytes(0) : impl_->island->planner().small_limit();
}
void CudaCommunicator::set_small_limit(Bytes limit) {
  if (!impl_->staged) impl_->island->planner().set_small_limit(limit);
}
void CudaCommunicator::check() const { impl_->base.engine->throw_if_failed(); }

Work CudaCommunicator::all_reduce(ConstView input, View output, ReduceOp op, Stream stream,
                                  CallOptions options) {
  return impl_->start(impl_->base.all_reduce(input, output, op, options), stream);
}
Work CudaCommunicator::reduce(ConstView input, View output, int root, ReduceOp op, Stream stream,
                              CallOptions options) {
  return impl_->start(impl_->base.reduce(input, output, root, op, options), stream);
}
Work CudaCommunicator::broadcast(View buffer, int root, Stream stream, CallOptions options) {
  return impl_->start(impl_->base.broadcast(buffer, root, options), stream);
}
Work CudaCommunicator::all_gather(ConstView input, View output, Stream stream,
                                  CallOptions options) {
  return impl_->start(impl_->base.all_gather(input, output, options), stream);
}
Work CudaCommunicator::reduce_scatter(ConstView input, View output, ReduceOp op, Stream stream,
                                      CallOptions options) {
  return impl_->start(impl_->base.reduce_scatter(input, output, op, options), stream);
}
Work CudaCommunicator::gather(ConstView input, View output, int root, Stream stream,
                              CallOptions options) {
  return impl_->start(impl_->base.gather(input, output, root, options), stream);
}
Work CudaCommunicator::scatter(ConstView input, View output, int root, Stream stream,
                               CallOptions options) {
  return impl_->start(impl_->base.scatter(input, output, root, options), stream);
}
Work CudaCommunicator::all_to_all(ConstView input, View output, Stream stream,
                                  CallOptions options) {
  return impl_->start(impl_->base.all_to_all(input, output, options), stream);
}
Work CudaCommunicator::barrier(Stream stream, CallOptions options) {
  return impl_->start(impl_->base.barrier(options), stream);
}
Work CudaCommunicator::send(ConstView buffer, int peer, Stream stream) {
  return impl_->message(true, buffer.data, nullptr, buffer.count, buffer.dtype, peer, stream);
}
Work CudaCommunicator::recv(View buffer, int peer, Stream stream) {
  return impl_->message(false, nullptr, buffer.data, buffer.count, buffer.dtype, peer, stream);
}

}  // namespace weft::comm
