// The schedules of all ranks, in little memory: steps become nodes that stand for all their tiles,
// and ranks whose schedules are one another's rotations share one copy.
//
// passes/tile.h cuts every step into neighbours, so a link carries message m's tiles 0 .. T-1 and
// then message m + 1's: what is on a link, and what a tile waits for, follows from the untiled
// schedule by arithmetic. A tile waits for those tiles of an earlier step that touch the same part
// of memory, exactly as in the tiled schedule (tests/simulate compares the two).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "comm/algorithms/algorithms.h"
#include "comm/schedule/schedule.h"
#include "comm/simulate/big_vector.h"

namespace weft::comm::simulate {

enum class NodeKind : std::uint8_t { send, recv, recv_reduce, copy, reduce };

// Waits for tiles of `node` that overlap: in chunks, both slices begin `shift` apart (mine minus
// theirs) and are `mine` and `theirs` long.
struct Wait {
  std::int32_t node;
  std::int32_t shift;
  std::int32_t mine;
  std::int32_t theirs;
  std::int32_t link = -1;  // as the node's, so that it need not be looked at
  std::int32_t index = 0;
};

// A node that waits for another, and its link (-1: it is a local step).
struct Dependent {
  std::int32_t node;
  std::int32_t link;
};

// A step, or one half of a fused one.
struct Node {
  NodeKind kind = NodeKind::copy;
  bool moves_nothing = false;  // a copy of memory onto itself
  std::int32_t link = -1;      // of messages: among the rank's links
  std::int32_t index = 0;      // of messages: on their link; of local steps: among the rank's
  // Length: these chunks of a block; or pieces[chunk ...] (chunk, count) where they do not follow
  // one another, count of them.
  std::int32_t chunk = 0;
  std::int32_t chunks = 0;
  std::int32_t pieces = 0;
  std::int32_t operands = 1;  // of reduce
  std::int32_t first_wait = 0;
  std::int32_t waits = 0;
  std::int32_t first_dependent = 0;
  std::int32_t dependents = 0;
};

// The messages of one pair of ranks in one direction, in order.
struct LinkList {
  std::int32_t peer = 0;   // less this rank (modulo n) where the program is shared
  std::int32_t first = 0;  // into Programs::order
  std::int32_t messages = 0;
  bool sends = false;
};

// One rank's part of Programs' lists.
struct RankProgram {
  std::int32_t first_node = 0;
  std::int32_t nodes = 0;
  std::int32_t first_link = 0;
  std::int32_t links = 0;
  std::int32_t locals = 0;
  bool greets_next = false;  // its first message to rank + 1 waits for nothing (see RingCheck)
};

struct Piece {
  std::int32_t chunk;
  std::int32_t count;
};

struct Programs {
  std::int32_t world_size = 1;
  std::int32_t blocks = 1;            // of the wide side
  std::int32_t chunks_per_block = 1;  // untiled
  bool rotates = false;  // one program for all: peers and chunks are relative to the rank
  BigVector<Node> nodes;
  BigVector<Wait> waits;
  BigVector<Dependent> dependents;
  BigVector<LinkList> links;
  BigVector<std::int32_t> order;  // nodes of links
  std::vector<Piece> pieces;
  BigVector<RankProgram> ranks;  // one where `rotates`

  const RankProgram& of(std::int32_t rank) const {
    return ranks[rotates ? 0 : static_cast<std::size_t>(rank)];
  }
};

// Of a problem (whose rank is ignored), fused or not. Throws Unsupported if it has more messages
// than `messages_max` with so many tiles, which is looked at before memory is taken.
Programs make_programs(const Algorithm& algorithm, const Problem& problem, bool fused, int tiles,
                       std::int64_t messages_max);

// From schedules as they are, one a rank: what tests compare tiling by arithmetic with.
Programs make_programs(const std::vector<Schedule>& world);

// Messages sent by all ranks, untiled: estimated from a few ranks where their schedules are long.
std::int64_t count_messages(const Algorithm& algorithm, const Problem& problem);

}  // namespace weft::comm::simulate
