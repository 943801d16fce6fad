// Kernels of several parties: what ranks that address each other's device memory run together.
//
// Parties are the members of a group, each with an arena in device memory that all members have
// mapped: a Lobby where others announce themselves, slots for small messages, scratch, and slots
// for messages between two members. A call is one kernel a member. Its blocks are lanes: each takes
// a part of every block of data through the whole program, and waits for the same lane of the other
// members alone.
//
// Order. A member's calls are numbered by epochs, kept in its own device memory and raised by the
// kernel itself, so that a call can be captured into a graph and replayed. Lobbies hold what is
// said of two epochs: whoever enters an epoch has first seen everybody enter the one before, which
// tells that they have finished the one before that. Calls of one member must not overlap.
//
// Failure. A kernel that waits looks at its Desk, in host memory: the host may tell it to stop, or
// which members are gone. What goes wrong is written there; kernels then end, with their buffers
// undefined.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/reduce.h"

namespace weft::kernels::cuda {

inline constexpr int kMembersMax = 64;
inline constexpr int kLanesMax = 64;
// Threads of a lane: a multiple of 32; members need not agree.
inline constexpr int kLaneThreadsMin = kMembersMax;
inline constexpr int kLaneThreadsMax = 512;
// Progress is epoch << kPositionBits | how far the lane is in the program.
inline constexpr int kPositionBits = 28;

// --- Shared by all members, in device memory, zeroed at first.

struct Arrival {  // of a member in an epoch
  std::uint64_t progress;
  std::uint64_t fingerprint;  // of the call; written before
};

// What a member says of its call, so that errors can name it and others find its buffers.
struct Visit {
  std::uint64_t tag[4];
  std::uint64_t input;  // a Post
  std::uint64_t output;
  std::uint64_t unused[2];
};

struct Lobby {
  // By parity of the epoch and member; it writes. Whichever of its lanes begins first announces it.
  Arrival arrivals[2][kMembersMax];
  std::uint64_t progress[2][kMembersMax][kLanesMax];
  Visit visits[2][kMembersMax];
  // Messages: pieces put into this member's slots, by sender; and of this member's taken by others.
  std::uint64_t filled[kMembersMax][kLanesMax];
  std::uint64_t taken[kMembersMax][kLanesMax];
  std::uint64_t message_tags[2][kMembersMax][4];  // by parity of the message
  std::uint64_t closed[kMembersMax];              // members that have unmapped this arena
};

// Where a buffer lies: segment << 48 | offset. Segment 0: nowhere that others see.
inline constexpr std::uint64_t kPostOrdinary = 0;
inline constexpr std::uint64_t kPostAbsent = ~std::uint64_t{0};
inline constexpr int kPostOffsetBits = 48;
inline constexpr std::uint64_t kPostOffsetMask = (std::uint64_t{1} << kPostOffsetBits) - 1;
// The address space itself, among threads of a process.
inline constexpr std::uint64_t kPostAddress = std::uint64_t{0xfffe} << kPostOffsetBits;
inline constexpr int kSegmentsMax = 256;

// --- A member's own.

struct Ledger {  // device memory, zeroed at first
  std::uint64_t epoch;
  std::uint64_t fingerprints[2];
  std::uint32_t lanes_begun;
  std::uint32_t lanes_done;
  std::uint32_t failed;
  std::uint32_t unused;
  std::uint64_t sent[kMembersMax][kLanesMax];  // pieces
  std::uint64_t received[kMembersMax][kLanesMax];
  std::uint64_t messages_sent[kMembersMax];
  std::uint64_t messages_received[kMembersMax];
  std::uint32_t sending_lanes_done[kMembersMax];
  std::uint32_t receiving_lanes_done[kMembersMax];
};

enum class Trouble : std::uint32_t { none, aborted, gone, mismatch, damaged };

struct Desk {  // pinned host memory that the device has mapped
  // The host's word.
  std::uint32_t abort;
  std::uint32_t unused;
  std::uint64_t gone;  // bit m: member m takes part no more
  // The kernels' word.
  std::uint32_t trouble;  // a Trouble; written last
  std::int32_t peer;
  std::uint64_t epoch;      // of the call that failed (of the message, counted per pair)
  std::uint64_t ours[4];    // tags
  std::uint64_t theirs[4];  // of a mismatch
  std::uint64_t entered;    // epochs
  std::uint64_t finished;
};

// The same in every call of a member; copied into the kernel's arguments.
struct Party {
  std::int32_t self;
  std::int32_t size;
  std::byte* arenas[kMembersMax];  // as this member addresses them
  std::uint64_t small_offset;      // in an arena
  std::uint64_t small_bytes;       // of payload, of a member and parity
  std::uint64_t scratch_offset;
  std::uint64_t scratch_bytes;  // of a lane and a round; there are two of them a lane
  std::uint64_t slots_offset;
  std::uint64_t slot_bytes;  // of a piece of a message; kSlots of them a member and lane
  std::int32_t message_lanes;
  std::byte* const* segments;  // [segment * kMembersMax + member], in device memory
  Ledger* ledger;
  Desk* desk;  // as the device has it
};
inline constexpr int kSlots = 2;
// Payload travels as 4 bytes beside a 4-byte flag.
inline constexpr std::uint64_t small_slots_bytes(int members, std::uint64_t small_bytes) {
  return 2 * static_cast<std::uint64_t>(members) * small_bytes * 2;
}

// --- Programs: memory schedules as devices read them (comm/execute/cuda_program.h).

enum class Do : std::uint8_t { publish, await, move };
enum class At : std::uint8_t { input, output, scratch };

struct Instruction {
  Do kind;
  bool completes;        // of move: avg divides here
  std::uint8_t sources;  // of move
  std::uint8_t targets;
  std::int32_t first;  // into operands; await: `value` of them
  std::int32_t value;  // publish: the stage; move: which chunk of its block; await: how many
};
static_assert(sizeof(Instruction) == 12);

struct Operand {  // of a move: a chunk; of an await: `chunk` is the stage of `member`
  std::uint8_t member;
  At at;
  std::uint16_t unused;
  std::int32_t chunk;
};
static_assert(sizeof(Operand) == 8);
inline constexpr int kOperandsMax = kMembersMax + kMembersMax;  // of a move

struct Program {
  const Instruction* instructions;  // device memory
  const Operand* operands;
  std::int32_t count;
  std::int32_t stages;  // more than any member's last stage
  std::int32_t chunks_per_block;
  std::int32_t scratch_chunks;  // most that any member has
  std::uint64_t part;           // elements of every block that a lane takes at a time
};

// Where a call says that it is over: *word = value, in mapped host memory, with kFinishedBadly if
// the member has failed. No word: nowhere, as is right for calls that are captured.
struct Finish {
  std::uint64_t* word;
  std::uint64_t value;
};
inline constexpr std::uint64_t kFinishedBadly = std::uint64_t{1} << 63;

// One call. Buffers are blocks of `block` elements each.
struct CollectiveCall {
  Program by_scratch;
  Program everywhere;
  bool chooses;  // between both, by where all members' buffers are; else by_scratch
  DType dtype;
  ReduceOp op;
  std::int32_t divisor;
  std::int32_t lanes;
  std::int32_t threads;
  std::uint64_t block;
  const void* input;
  void* output;
  std::uint64_t input_post;
  std::uint64_t output_post;
  std::uint64_t tag[4];
  std::uint64_t fingerprint;
  Finish finish;
};

// Small ones: everybody writes its input into everybody's slots, the flag beside the data.
enum class Small : std::uint8_t { fold, gather, broadcast, barrier };
struct SmallCall {
  Small kind;
  DType dtype;
  ReduceOp op;
  std::int32_t divisor;
  std::int32_t root;
  std::int32_t lanes;
  std::int32_t threads;
  std::uint64_t bytes;  // of a member's contribution, at most Party::small_bytes
  const void* input;
  void* output;
  std::uint64_t tag[4];
  std::uint64_t fingerprint;
  Finish finish;
};

struct MessageCall {
  std::int32_t peer;
  std::int32_t lanes;
  std::int32_t threads;
  std::uint64_t bytes;
  void* data;
  std::uint64_t tag[4];
  Finish finish;
};

// Each queues one kernel on `stream`, on the current device.
void run_collective(const Party& party, const CollectiveCall& call, void* stream);
void run_small(const Party& party, const SmallCall& call, void* stream);
void send_message(const Party& party, const MessageCall& call, void* stream);
void receive_message(const Party& party, const MessageCall& call, void* stream);
// *word = value, in mapped host memory.
void write_host(std::uint64_t* word, std::uint64_t value, void* stream);
// Holds the stream until *word, in mapped host memory, is at least `value`, or desk->abort is set.
void await_host(const std::uint64_t* word, std::uint64_t value, const Desk* desk, void* stream);
// Tells the owner of `lobby` that `member` has unmapped its arena but for this.
void say_closed(Lobby* lobby, int member, void* stream);

// Blocks of the collective kernels of `dtype` that the current device runs at the same time.
int collective_blocks_max(DType dtype);

}  // namespace weft::kernels::cuda
