// A schedule made ready to run: steps become nodes with counted dependencies, and for each link the
// list of messages in their order. A plan knows neither counts nor buffers (operation.h binds it);
// it is immutable and shared by the operations that use it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "comm/schedule/schedule.h"

namespace weft::comm {

enum class NodeKind : std::uint8_t { send, recv, recv_reduce, copy, reduce };

inline constexpr std::int32_t kNoSlice = -1;  // an empty frame, or a temporary

struct Node {
  NodeKind kind = NodeKind::copy;
  bool completes = false;
  std::int32_t from = kNoSlice;  // index into Plan::slices
  std::int32_t to = kNoSlice;
  std::int32_t temporary = -1;     // a fused step's value between its receive and its send
  std::int32_t first_operand = 0;  // into slices, too
  std::int32_t operands = 0;
  std::int32_t message = 0;          // k-th of its link and direction
  std::int32_t first_dependent = 0;  // into Plan::dependents
  std::int32_t dependents = 0;
};

// The messages of one link in one direction, in order.
struct MessageList {
  std::int32_t peer = 0;
  std::int32_t lane = 0;
  bool sends = false;
  std::vector<std::int32_t> nodes;
};

struct Plan {
  Schedule schedule;  // steps are dropped: what Layout needs
  std::vector<Node> nodes;
  std::vector<Slice> slices;
  std::vector<std::int32_t> waits;  // dependencies a node starts with
  std::vector<std::int32_t> dependents;
  std::vector<std::int32_t> first_local;  // local nodes without dependencies
  std::vector<MessageList> messages;
  std::int32_t temporaries = 0;
  bool point_to_point = false;
};

// Empty frames between ring neighbours, exchanged at the start of a collective whose own messages
// would not show every disagreement between ranks: along the ring any two different calls meet.
struct RingCheck {
  bool send = false;  // to rank + 1
  bool recv = false;  // from rank - 1
};

// True if the schedule starts with a message to the next rank on lane 0 that waits for nothing:
// then no RingCheck is needed on that link.
bool greets_next_rank(const Schedule& schedule);

Plan make_plan(const Schedule& schedule, RingCheck check);

// One message to or from `peer`, in `segments` frames.
Plan make_point_to_point_plan(bool sends, int peer, int segments);

}  // namespace weft::comm
