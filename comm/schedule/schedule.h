// The step language: what an algorithm says, and what the executor, the verifier and the simulator
// read.
//
// A schedule is one rank's part of one collective: a list of steps over *chunks*. It knows no
// bytes, so one schedule serves every size; Layout (layout.h) turns a slice into a range of
// elements when an operation is bound to buffers.
//
// Blocks and chunks. `input` and `output` are made of blocks: one block holding everything
// (all_reduce, broadcast, reduce, and the unsplit side of the others), or one block a rank (the
// input of reduce_scatter, scatter and all_to_all; the output of all_gather, gather and
// all_to_all). Each block is cut evenly into `chunks_per_block` chunks; chunk ids run through the
// blocks in rank order. `scratch` consists of `scratch_shadows` copies of the layout of the
// collective's wide buffer (wide_buffer()), so a scratch chunk is as long as the chunk it stands
// for.
//
// Order. For each (sender, receiver, lane) messages are delivered first in, first out: the k-th
// send matches the k-th receive, and their slices must be equally long. Apart from that a step may
// run as soon as every step in `after` is complete; the executor runs steps in any order that
// respects both.
//
// Aliasing. In-place use makes input and output share memory: chunk i of both (one block each), or
// the rank's own block of the wide side and the narrow side. A schedule must be right with and
// without that; dependencies respect it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft::comm {

enum class Collective : std::uint8_t {
  all_reduce,
  reduce,
  broadcast,
  all_gather,
  reduce_scatter,
  gather,
  scatter,
  all_to_all,
  barrier,
  send,
  recv,  // point to point: no schedule, but they carry fingerprints and names like the rest
};
inline constexpr int kScheduledCollectives = 9;  // the first nine

const char* name_of(Collective collective);
bool is_rooted(Collective collective);    // reduce, broadcast, gather, scatter
bool is_reducing(Collective collective);  // all_reduce, reduce, reduce_scatter

enum class Buffer : std::uint8_t { input, output, scratch };

struct Slice {
  Buffer buffer = Buffer::input;
  std::int32_t chunk = 0;
  std::int32_t count = 0;  // consecutive chunks; 0: no slice
  bool operator==(const Slice&) const = default;
};

enum class StepKind : std::uint8_t {
  send,              // from -> peer
  recv,              // peer -> to
  recv_reduce,       // to = peer's message op from
  copy,              // to = from
  reduce,            // to = operands[0] op operands[1] op ..., folded left to right
  recv_send,         // fused: peer -> to, and on to send_peer
  recv_reduce_send,  // fused: (peer's message op from) -> send_peer, and -> to unless to.count == 0
};
const char* name_of(StepKind kind);

using StepId = std::int32_t;

struct Step {
  StepKind kind = StepKind::copy;
  bool completes =
      false;  // the value written (or sent on) holds every rank's contribution; avg divides here
  std::int32_t peer = -1;       // of send: the receiver; of everything that receives: the sender
  std::int32_t send_peer = -1;  // of fused steps: the receiver
  std::int32_t lane = 0;
  std::int32_t send_lane = 0;
  Slice from;
  Slice to;
  std::vector<Slice> operands;  // of reduce only
  std::vector<StepId> after;    // earlier steps (smaller ids), each once
};

// What is to be done, seen from one rank.
struct Problem {
  Collective collective = Collective::all_reduce;
  std::int32_t rank = 0;
  std::int32_t world_size = 1;
  std::int32_t root = 0;  // of rooted collectives
};

struct Schedule {
  Problem problem;
  std::string algorithm;
  std::int32_t chunks_per_block = 1;
  std::int32_t scratch_shadows = 0;
  std::int32_t lanes = 1;
  std::vector<Step> steps;
};

// Blocks of a buffer: 1 or world_size (see above). The wide buffer is the one scratch mirrors:
// output where it has one block a rank or where both sides have one, else input. A rank without a
// side (the input of a broadcast's non-root stays unused; a gather's output exists on the root
// alone) still has its layout.
std::int32_t block_count(const Problem& problem, Buffer buffer);
Buffer wide_buffer(Collective collective);
std::int32_t chunk_count(const Schedule& schedule, Buffer buffer);

// One line a step, "12 recv_reduce <2.0 in[3] -> out[3] after 7 9"; for people, logs and
// counterexamples.
std::string print(const Schedule& schedule);

}  // namespace weft::comm
