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
// blocks in rank order. Scratch chunk i is as long as the chunk of the wide buffer (wide_buffer())
// that it stands for, Schedule::scratch[i]; scratch chunks lie one behind the other without gaps.
// All slices of one step are equally long, chunk by chunk.
//
// Order. For each (sender, receiver, lane) messages are delivered first in, first out: the k-th
// send matches the k-th receive, counted in the order of step ids, and their slices must be equally
// long. Apart from that a step may run as soon as every step in `after` is complete; the executor
// runs steps in any order that respects both. A send is complete when its data may be overwritten.
//
// Fused steps have two halves. The receiving half runs like a recv or recv_reduce, and must not
// wait for the send link: other ranks may be waiting for it before they empty that link. What it
// made is kept in `to`, or, where to.count == 0, in memory of the executor's. The sending half then
// takes its turn on the send link. The step is complete when both halves are.
//
// Aliasing. In-place use makes input and output share memory: chunk i of both (one block each), or
// the rank's own block of the wide side and the narrow side. A schedule must be right with and
// without that; dependencies respect it. all_to_all is never in place. A copy whose two slices are
// the same memory does nothing.
//
// Who may touch what. No step writes `input`. A reduce or gather leaves `output` alone but on the
// root, a scatter leaves `input` alone but on the root. A broadcast has one buffer, `output`; the
// root's holds the data from the start, and nobody touches `input`. A barrier is a reduction of
// empty tokens: one block of zero elements each side, messages of zero bytes that must be sent all
// the same.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/schedule/host_map.h"

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
  // Who shares a host with whom; null where nothing is known. The same on all ranks.
  std::shared_ptr<const HostMap> hosts = nullptr;
};

struct Schedule {
  Problem problem;
  std::string algorithm;
  std::int32_t chunks_per_block = 1;
  std::int32_t lanes = 1;
  std::vector<std::int32_t> scratch;  // the chunk of the wide buffer each scratch chunk stands for
  std::vector<Step> steps;
};

inline bool receives(StepKind kind) {
  return kind == StepKind::recv || kind == StepKind::recv_reduce || kind == StepKind::recv_send ||
         kind == StepKind::recv_reduce_send;
}
inline bool is_fused(StepKind kind) {
  return kind == StepKind::recv_send || kind == StepKind::recv_reduce_send;
}
inline bool sends(StepKind kind) { return kind == StepKind::send || is_fused(kind); }
inline bool reads_from(StepKind kind) {  // uses Step::from
  return kind == StepKind::send || kind == StepKind::recv_reduce || kind == StepKind::copy ||
         kind == StepKind::recv_reduce_send;
}
// Where a step that sends() sends to.
inline std::int32_t target_of(const Step& step) {
  return is_fused(step.kind) ? step.send_peer : step.peer;
}
inline std::int32_t target_lane_of(const Step& step) {
  return is_fused(step.kind) ? step.send_lane : step.lane;
}

// Blocks of a buffer: 1 or world_size (see above). The wide buffer is the one scratch mirrors:
// output where it has one block a rank or where both sides have one, else input. A rank without a
// side (a gather's output exists on the root alone) still has its layout.
std::int32_t block_count(const Problem& problem, Buffer buffer);
Buffer wide_buffer(Collective collective);
std::int32_t chunk_count(const Schedule& schedule, Buffer buffer);

// One line a step, "12 recv_reduce <2.0 in[3] -> out[3] after 7 9"; for people, logs and
// counterexamples.
std::string print(const Schedule& schedule);
std::string print(const Step& step, StepId id);  // one such line
std::string print(Slice slice);                  // "out[3..5]"

}  // namespace weft::comm
