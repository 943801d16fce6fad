// Checks and binds the collectives whose blocks are equally long, and messages between two ranks.
#include "comm/arguments.h"
#include "comm/impl.h"

namespace weft::comm {

namespace {

Call make_call(Collective collective, DType dtype, Elems count, ReduceOp op = ReduceOp::sum,
               int root = -1, std::optional<DType> wire = {}) {
  Call call;
  call.collective = collective;
  call.dtype = dtype;
  call.op = op;
  call.root = root;
  call.count = count;
  call.wire = wire;
  return call;
}

}  // namespace

Planned Communicator::Impl::plan_of(Call& call, Bytes wide_bytes, std::string_view algorithm,
                                    Way way) {
  const Bytes travelling = call.wire ? Bytes(wide_bytes.value / 2) : wide_bytes;
  const Planned planned = planner.plan(call.collective, call.root, travelling, algorithm,
                                       call.wire ? Way::compressed : way);
  call.algorithm = planned.algorithm;
  return planned;
}

// Data that only leave the root are copied in by it and out by the others at the same time, round
// by round; where ranks wait long for one another, fewer rounds are better.
Bytes Communicator::Impl::round_bytes(Collective collective) const {
  const bool one_way = collective == Collective::broadcast || collective == Collective::scatter;
  return one_way && !settings.engine.crowded ? settings.scratch / 4 : settings.scratch;
}

Prepared Communicator::Impl::bind(const Request& request) {
  Call call = request.call;
  const Planned planned = plan_of(call, request.wide_bytes, request.algorithm, Way::any);
  if (!planned.plan) {
    Prepared prepared{engine->acquire(planned.memory.by_scratch.get()), request.buffers};
    prepared.operation->bind_memory_uniform(planned.memory, call, request.input_block,
                                            request.output_block, round_bytes(call.collective),
                                            planned.chooses);
    return prepared;
  }
  Prepared prepared{engine->acquire(planned.plan.get()), request.buffers};
  prepared.operation->bind_uniform(planned.plan, call, request.input_block, request.output_block);
  return prepared;
}

// Most calls repeat the last one of their kind.
void Communicator::Impl::run(const Request& request) {
  refuse_in_child();
  const bool may_repeat = request.algorithm.empty();
  if (may_repeat &&
      engine->repeat(request.call, request.input_block, request.output_block, request.buffers)) {
    return;
  }
  Prepared prepared = bind(request);
  auto operation = engine->run(std::move(prepared.operation), prepared.buffers);
  if (may_repeat) {
    engine->keep(std::move(operation));
  } else {
    engine->release(std::move(operation));
  }
}

Request Communicator::Impl::all_reduce(ConstView input, View output, ReduceOp op,
                                       CallOptions options) {
  const Arguments check("all_reduce", rank, size);
  check.view("input", input);
  check.view("output", output);
  check.same_dtype(input, output);
  check.count("output", output.count, input.count, "input.count");
  check.op(op);
  check_algorithm(options.algorithm, "all_reduce");
  return {make_call(Collective::all_reduce, input.dtype, input.count, op, -1,
                    check.wire(options, input.dtype)),
          bytes_of(input.count, input.dtype),
          input.count,
          output.count,
          {input.data, output.data},
          options.algorithm};
}

Request Communicator::Impl::reduce(ConstView input, View output, int root, ReduceOp op,
                                   CallOptions options) {
  const Arguments check("reduce", rank, size);
  check.root(root);
  check.view("input", input);
  if (rank == root) {
    check.view("output", output);
    check.same_dtype(input, output);
    check.count("output", output.count, input.count, "input.count, on the root");
  }
  check.op(op);
  check_algorithm(options.algorithm, "reduce");
  return {make_call(Collective::reduce, input.dtype, input.count, op, root,
                    check.wire(options, input.dtype)),
          bytes_of(input.count, input.dtype),
          input.count,
          input.count,
          {input.data, rank == root ? output.data : nullptr},
          options.algorithm};
}

Request Communicator::Impl::broadcast(View buffer, int root, CallOptions options) {
  const Arguments check("broadcast", rank, size);
  check.root(root);
  check.view("buffer", buffer);
  check_algorithm(options.algorithm, "broadcast");
  return {make_call(Collective::broadcast, buffer.dtype, buffer.count, ReduceOp::sum, root,
                    check.wire(options, buffer.dtype)),
          bytes_of(buffer.count, buffer.dtype),
          buffer.count,
          buffer.count,
          {buffer.data, buffer.data},
          options.algorithm};
}

Request Communicator::Impl::all_gather(ConstView input, View output, CallOptions options) {
  const Arguments check("all_gather", rank, size);
  check.view("input", input);
  check.view("output", output);
  check.same_dtype(input, output);
  check.count("output", output.count, input.count * size, "size() * input.count");
  check_algorithm(options.algorithm, "all_gather");
  return {make_call(Collective::all_gather, input.dtype, input.count, ReduceOp::sum, -1,
                    check.wire(options, input.dtype)),
          bytes_of(output.count, output.dtype),
          input.count,
          input.count,
          {input.data, output.data},
          options.algorithm};
}

Request Communicator::Impl::reduce_scatter(ConstView input, View output, ReduceOp op,
                                           CallOptions options) {
  const Arguments check("reduce_scatter", rank, size);
  check.view("input", input);
  check.view("output", output);
  check.same_dtype(input, output);
  check.count("input", input.count, output.count * size, "size() * output.count");
  check.op(op);
  check_algorithm(options.algorithm, "reduce_scatter");
  return {make_call(Collective::reduce_scatter, input.dtype, output.count, op, -1,
                    check.wire(options, input.dtype)),
          bytes_of(input.count, input.dtype),
          output.count,
          output.count,
          {input.data, output.data},
          options.algorithm};
}

Request Communicator::Impl::gather(ConstView input, View output, int root, CallOptions options) {
  const Arguments check("gather", rank, size);
  check.root(root);
  check.view("input", input);
  if (rank == root) {
    check.view("output", output);
    check.same_dtype(input, output);
    check.count("output", output.count, input.count * size, "size() * input.count, on the root");
  }
  check_algorithm(options.algorithm, "gather");
  check.no_wire(options);
  return {make_call(Collective::gather, input.dtype, input.count, ReduceOp::sum, root),
          bytes_of(input.count, input.dtype) * size,
          input.count,
          input.count,
          {input.data, rank == root ? output.data : nullptr},
          options.algorithm};
}

Request Communicator::Impl::scatter(ConstView input, View output, int root, CallOptions options) {
  const Arguments check("scatter", rank, size);
  check.root(root);
  check.view("output", output);
  if (rank == root) {
    check.view("input", input);
    check.same_dtype(input, output);
    check.count("input", input.count, output.count * size, "size() * output.count, on the root");
  }
  check_algorithm(options.algorithm, "scatter");
  check.no_wire(options);
  return {make_call(Collective::scatter, output.dtype, output.count, ReduceOp::sum, root),
          bytes_of(output.count, output.dtype) * size,
          output.count,
          output.count,
          {rank == root ? input.data : nullptr, output.data},
          options.algorithm};
}

Request Communicator::Impl::all_to_all(ConstView input, View output, CallOptions options) {
  const Arguments check("all_to_all", rank, size);
  check.view("input", input);
  check.view("output", output);
  check.same_dtype(input, output);
  check.count("output", output.count, input.count, "input.count");
  const Elems block = input.count / size;
  check.count("input", input.count, block * size, "a multiple of size(): one block a rank");
  check.no_overlap(input, output);
  check_algorithm(options.algorithm, "all_to_all");
  check.no_wire(options);
  return {make_call(Collective::all_to_all, input.dtype, block),
          bytes_of(input.count, input.dtype),
          block,
          block,
          {input.data, output.data},
          options.algorithm};
}

Request Communicator::Impl::barrier(CallOptions options) {
  check_algorithm(options.algorithm, "barrier");
  Arguments("barrier", rank, size).no_wire(options);
  return {make_call(Collective::barrier, DType::u8, Elems(0)),
          Bytes(0),
          Elems(0),
          Elems(0),
          {},
          options.algorithm};
}

Prepared Communicator::Impl::message(bool sends, const void* input, void* output, Elems count,
                                     DType dtype, int peer) {
  const Arguments check(sends ? "send" : "recv", rank, size);
  check.peer(peer);
  check.view("buffer", sends ? input : output, count, dtype);
  const Call call =
      make_call(sends ? Collective::send : Collective::recv, dtype, count, ReduceOp::sum, peer);
  const auto plan = planner.message(sends, peer, bytes_of(count, dtype));
  Prepared prepared{engine->acquire(plan.get()), {input, output}};
  prepared.operation->bind_message(plan, call);
  return prepared;
}

}  // namespace weft::comm
