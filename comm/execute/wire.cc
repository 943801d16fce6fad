#include "comm/execute/wire.h"

#include <utility>

#include "kernels/wire.h"

namespace weft::comm {

bool rounds_result(const Operation& operation, const Node& node) {
  if (!operation.call.wire) return false;
  switch (operation.call.collective) {
    case Collective::all_reduce:
      return node.completes;
    case Collective::all_gather:
      return node.kind == NodeKind::copy && operation.buffer(node.to) == Buffer::output;
    default:
      return false;
  }
}

const std::byte* message_of(const Operation& operation, const Node& node, std::byte* data,
                            Chunk& staging, Arena& arena) {
  const Elems count = operation.count(node.from);
  if (!operation.call.wire || count.value == 0) return data;
  reserve(staging, operation.wire_bytes(node.from), arena);
  const DType wire = *operation.call.wire;
  const Problem& problem = operation.plan->schedule.problem;
  if (problem.collective == Collective::broadcast && problem.rank == problem.root) {
    kernels::wire_encode_and_round(staging.data(), wire, data, count);
  } else {
    kernels::wire_encode(staging.data(), wire, data, count);
  }
  return staging.data();
}

void reserve(Chunk& chunk, Bytes bytes, Arena& arena) {
  if (chunk.capacity() >= bytes.size()) return;
  arena.give(std::move(chunk));
  chunk = arena.take(bytes);
}

}  // namespace weft::comm
