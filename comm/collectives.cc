// The public calls: each prepares its operation (prepare.cc) and runs or starts it.
#include "comm/impl.h"

namespace weft::comm {

void Communicator::all_reduce(ConstView input, View output, ReduceOp op, CallOptions options) {
  impl_->run(impl_->all_reduce(input, output, op, options));
}
Work Communicator::all_reduce_async(ConstView input, View output, ReduceOp op,
                                    CallOptions options) {
  return impl_->start(impl_->all_reduce(input, output, op, options));
}

void Communicator::reduce(ConstView input, View output, int root, ReduceOp op,
                          CallOptions options) {
  impl_->run(impl_->reduce(input, output, root, op, options));
}
Work Communicator::reduce_async(ConstView input, View output, int root, ReduceOp op,
                                CallOptions options) {
  return impl_->start(impl_->reduce(input, output, root, op, options));
}

void Communicator::broadcast(View buffer, int root, CallOptions options) {
  impl_->run(impl_->broadcast(buffer, root, options));
}
Work Communicator::broadcast_async(View buffer, int root, CallOptions options) {
  return impl_->start(impl_->broadcast(buffer, root, options));
}

void Communicator::all_gather(ConstView input, View output, CallOptions options) {
  impl_->run(impl_->all_gather(input, output, options));
}
Work Communicator::all_gather_async(ConstView input, View output, CallOptions options) {
  return impl_->start(impl_->all_gather(input, output, options));
}

void Communicator::reduce_scatter(ConstView input, View output, ReduceOp op, CallOptions options) {
  impl_->run(impl_->reduce_scatter(input, output, op, options));
}
Work Communicator::reduce_scatter_async(ConstView input, View output, ReduceOp op,
                                        CallOptions options) {
  return impl_->start(impl_->reduce_scatter(input, output, op, options));
}

void Communicator::gather(ConstView input, View output, int root, CallOptions options) {
  impl_->run(impl_->gather(input, output, root, options));
}
Work Communicator::gather_async(ConstView input, View output, int root, CallOptions options) {
  return impl_->start(impl_->gather(input, output, root, options));
}

void Communicator::scatter(ConstView input, View output, int root, CallOptions options) {
  impl_->run(impl_->scatter(input, output, root, options));
}
Work Communicator::scatter_async(ConstView input, View output, int root, CallOptions options) {
  return impl_->start(impl_->scatter(input, output, root, options));
}

void Communicator::all_to_all(ConstView input, View output, CallOptions options) {
  impl_->run(impl_->all_to_all(input, output, options));
}
Work Communicator::all_to_all_async(ConstView input, View output, CallOptions options) {
  return impl_->start(impl_->all_to_all(input, output, options));
}

void Communicator::barrier(CallOptions options) { impl_->run(impl_->barrier(options)); }
Work Communicator::barrier_async(CallOptions options) {
  return impl_->start(impl_->barrier(options));
}

void Communicator::all_gather_v(ConstView input, View output, std::span<const Elems> counts,
                                CallOptions options) {
  impl_->run(impl_->all_gather_v(input, output, counts, options));
}
Work Communicator::all_gather_v_async(ConstView input, View output, std::span<const Elems> counts,
                                      CallOptions options) {
  return impl_->start(impl_->all_gather_v(input, output, counts, options));
}

void Communicator::reduce_scatter_v(ConstView input, View output, std::span<const Elems> counts,
                                    ReduceOp op, CallOptions options) {
  impl_->run(impl_->reduce_scatter_v(input, output, counts, op, options));
}
Work Communicator::reduce_scatter_v_async(ConstView input, View output,
                                          std::span<const Elems> counts, ReduceOp op,
                                          CallOptions options) {
  return impl_->start(impl_->reduce_scatter_v(input, output, counts, op, options));
}

void Communicator::gather_v(ConstView input, View output, std::span<const Elems> counts, int root,
                            CallOptions options) {
  impl_->run(impl_->gather_v(input, output, counts, root, options));
}
Work Communicator::gather_v_async(ConstView input, View output, std::span<const Elems> counts,
                                  int root, CallOptions options) {
  return impl_->start(impl_->gather_v(input, output, counts, root, options));
}

void Communicator::scatter_v(ConstView input, View output, std::span<const Elems> counts, int root,
                             CallOptions options) {
  impl_->run(impl_->scatter_v(input, output, counts, root, options));
}
Work Communicator::scatter_v_async(ConstView input, View output, std::span<const Elems> counts,
                                   int root, CallOptions options) {
  return impl_->start(impl_->scatter_v(input, output, counts, root, options));
}

void Communicator::all_to_all_v(ConstView input, std::span<const Elems> send_counts, View output,
                                std::span<const Elems> recv_counts, CallOptions options) {
  impl_->run(impl_->all_to_all_v(input, send_counts, output, recv_counts, options));
}
Work Communicator::all_to_all_v_async(ConstView input, std::span<const Elems> send_counts,
                                      View output, std::span<const Elems> recv_counts,
                                      CallOptions options) {
  return impl_->start(impl_->all_to_all_v(input, send_counts, output, recv_counts, options));
}

void Communicator::send(ConstView buffer, int peer) {
  impl_->run(impl_->message(true, buffer.data, nullptr, buffer.count, buffer.dtype, peer));
}
Work Communicator::send_async(ConstView buffer, int peer) {
  return impl_->start(impl_->message(true, buffer.data, nullptr, buffer.count, buffer.dtype, peer));
}

void Communicator::recv(View buffer, int peer) {
  impl_->run(impl_->message(false, nullptr, buffer.data, buffer.count, buffer.dtype, peer));
}
Work Communicator::recv_async(View buffer, int peer) {
  return impl_->start(
      impl_->message(false, nullptr, buffer.data, buffer.count, buffer.dtype, peer));
}

}  // namespace weft::comm
