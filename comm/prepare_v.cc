// Checks and binds the collectives whose blocks differ in length.
#include "comm/arguments.h"
#include "comm/impl.h"

namespace weft::comm {

namespace {

Call make_call(Collective collective, DType dtype, Elems count, std::span<const Elems> counts,
               ReduceOp op = ReduceOp::sum, int root = -1, std::optional<DType> wire = {}) {
  Call call;
  call.collective = collective;
  call.dtype = dtype;
  call.op = op;
  call.root = root;
  call.count = count;
  call.detail = fingerprint(counts);
  call.wire = wire;
  return call;
}

}  // namespace

Prepared Communicator::Impl::bind(Call call, Bytes wide_bytes, std::span<const Elems> input_blocks,
                                  std::span<const Elems> output_blocks, const Buffers& buffers,
                                  CallOptions options) {
  // Of all_to_all_v no rank knows what the others say to each other: messages find out.
  const Way way = call.collective == Collective::all_to_all ? Way::by_messages : Way::any;
  const Planned planned = plan_of(call, wide_bytes, options.algorithm, way);
  if (!planned.plan) {
    Prepared prepared{engine->acquire(planned.memory.by_scratch.get()), buffers};
    prepared.operation->bind_memory_blocks(planned.memory, call, input_blocks, output_blocks,
                                           round_bytes(call.collective));
    return prepared;
  }
  Prepared prepared{engine->acquire(planned.plan.get()), buffers};
  prepared.operation->bind_blocks(planned.plan, call, input_blocks, output_blocks);
  return prepared;
}

Prepared Communicator::Impl::all_gather_v(ConstView input, View output,
                                          std::span<const Elems> counts, CallOptions options) {
  const Arguments check("all_gather_v", rank, size);
  check.view("input", input);
  check.view("output", output);
  check.same_dtype(input, output);
  const Elems total = check.counts("counts", counts, input.dtype);
  const Elems mine = counts[static_cast<std::size_t>(rank)];
  check.count("input", input.count, mine, "counts[rank()]");
  check.count("output", output.count, total, "the sum of counts");
  check_algorithm(options.algorithm, "all_gather_v");
  return bind(make_call(Collective::all_gather, input.dtype, total, counts, ReduceOp::sum, -1,
                        check.wire(options, input.dtype)),
              bytes_of(total, input.dtype), {&mine, 1}, counts, {input.data, output.data}, options);
}

Prepared Communicator::Impl::reduce_scatter_v(ConstView input, View output,
                                              std::span<const Elems> counts, ReduceOp op,
                                              CallOptions options) {
  const Arguments check("reduce_scatter_v", rank, size);
  check.view("input", input);
  check.view("output", output);
  check.same_dtype(input, output);
  const Elems total = check.counts("counts", counts, input.dtype);
  const Elems mine = counts[static_cast<std::size_t>(rank)];
  check.count("input", input.count, total, "the sum of counts");
  check.count("output", output.count, mine, "counts[rank()]");
  check.op(op);
  check_algorithm(options.algorithm, "reduce_scatter_v");
  return bind(make_call(Collective::reduce_scatter, input.dtype, total, counts, op, -1,
                        check.wire(options, input.dtype)),
              bytes_of(total, input.dtype), counts, {&mine, 1}, {input.data, output.data}, options);
}

Prepared Communicator::Impl::gather_v(ConstView input, View output, std::span<const Elems> counts,
                                      int root, CallOptions options) {
  const Arguments check("gather_v", rank, size);
  check.root(root);
  check.view("input", input);
  const Elems total = check.counts("counts", counts, input.dtype);
  const Elems mine = counts[static_cast<std::size_t>(rank)];
  check.count("input", input.count, mine, "counts[rank()]");
  if (rank == root) {
    check.view("output", output);
    check.same_dtype(input, output);
    check.count("output", output.count, total, "the sum of counts, on the root");
  }
  check_algorithm(options.algorithm, "gather_v");
  check.no_wire(options);
  return bind(make_call(Collective::gather, input.dtype, total, counts, ReduceOp::sum, root),
              bytes_of(total, input.dtype), {&mine, 1}, counts,
              {input.data, rank == root ? output.data : nullptr}, options);
}

Prepared Communicator::Impl::scatter_v(ConstView input, View output, std::span<const Elems> counts,
                                       int root, CallOptions options) {
  const Arguments check("scatter_v", rank, size);
  check.root(root);
  check.view("output", output);
  const Elems total = check.counts("counts", counts, output.dtype);
  const Elems mine = counts[static_cast<std::size_t>(rank)];
  check.count("output", output.count, mine, "counts[rank()]");
  if (rank == root) {
    check.view("input", input);
    check.same_dtype(input, output);
    check.count("input", input.count, total, "the sum of counts, on the root");
  }
  check_algorithm(options.algorithm, "scatter_v");
  check.no_wire(options);
  return bind(make_call(Collective::scatter, output.dtype, total, counts, ReduceOp::sum, root),
              bytes_of(total, output.dtype), counts, {&mine, 1},
              {rank == root ? input.data : nullptr, output.data}, options);
}

Prepared Communicator::Impl::all_to_all_v(ConstView input, std::span<const Elems> send_counts,
                                          View output, std::span<const Elems> recv_counts,
                                          CallOptions options) {
  const Arguments check("all_to_all_v", rank, size);
  check.view("input", input);
  check.view("output", output);
  check.same_dtype(input, output);
  const Elems sent = check.counts("send_counts", send_counts, input.dtype);
  const Elems received = check.counts("recv_counts", recv_counts, input.dtype);
  check.count("input", input.count, sent, "the sum of send_counts");
  check.count("output", output.count, received, "the sum of recv_counts");
  const auto self = static_cast<std::size_t>(rank);
  check.count("recv_counts[rank()]", recv_counts[self], send_counts[self], "send_counts[rank()]");
  check.no_overlap(input, output);
  check_algorithm(options.algorithm, "all_to_all_v");
  check.no_wire(options);
  // Counts differ from rank to rank: the lengths of the messages themselves are compared.
  Call call;
  call.collective = Collective::all_to_all;
  call.dtype = input.dtype;
  call.detail = kOwnCounts;
  return bind(call, Bytes(0), send_counts, recv_counts, {input.data, output.data}, options);
}

}  // namespace weft::comm
