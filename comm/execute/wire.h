// Messages of a call that compresses (Call::wire): f32 in memory, halves on the way.
//
// Sends encode into the link's staging just before they start, receives decode into place or reduce
// what they decode in f32. So that all ranks end with the same bits, whoever keeps a value that the
// others get encoded rounds its own copy: where an all-reduce completes a chunk (each chunk on one
// rank: Algorithm::completes_once), a rank's own block in an all-gather, the root's buffer in a
// broadcast. Passing a value on changes it no more (kernels/wire.h).
#pragma once

#include "comm/execute/arena.h"
#include "comm/execute/operation.h"
#include "comm/execute/plan.h"

namespace weft::comm {

// Whether what a local step or a receive writes is rounded to what the wire can carry.
bool rounds_result(const Operation& operation, const Node& node);

// What a send of `data` puts on the link: `data` itself, or, if the call compresses, its encoding
// in `staging`.
const std::byte* message_of(const Operation& operation, const Node& node, std::byte* data,
                            Chunk& staging, Arena& arena);

// `chunk`, at least so long.
void reserve(Chunk& chunk, Bytes bytes, Arena& arena);

}  // namespace weft::comm
