// What a rank shows to the ranks that can address its memory: one area a rank, in a memfd that the
// others map (shm) or on the heap (inproc). It holds no pointers, only numbers that mean the same
// to everybody.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "comm/transport/transport.h"
#include "kernels/base/units.h"

namespace weft::comm::memory {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
                  std::atomic<std::uint32_t>::is_always_lock_free,
              "atomics between processes must not hide a lock");

// Where a buffer lies: a segment that all ranks have mapped, and an offset into it. Segment 0:
// none.
struct Posted {
  std::uint64_t value = 0;  // segment << 48 | offset
  bool operator==(const Posted&) const = default;
};
inline constexpr Posted kOrdinary{0};                // a buffer that only its owner can address
inline constexpr Posted kAbsent{~std::uint64_t{0}};  // no buffer at all
inline constexpr int kOffsetBits = 48;

// How a rank enters a collective, and how far it is in it (schedule/memory_schedule.h): the counter
// is epoch << kStageBits | stage. Two of them take turns. The inline bytes are scratch for messages
// so short that they travel in the cache line of their flag.
inline constexpr int kStageBits = 20;
inline constexpr std::size_t kInlineBytes = 48;

struct alignas(64) Entry {
  std::atomic<std::uint64_t> progress{0};
  std::uint64_t fingerprint = 0;  // of the tag: what is compared in passing
  std::array<std::byte, kInlineBytes> inline_data{};
  FrameTag tag;
  Posted input;
  Posted output;
};
static_assert(sizeof(Entry) == 128);

enum class Presence : std::uint32_t { here, left, severed };

// How the owner of an area waits, and so how it is woken.
enum class Sleep : std::uint32_t { awake, on_futex, on_pipe };

struct alignas(64) Bell {
  std::atomic<std::uint32_t> rings{0};  // a futex word
  std::atomic<Sleep> sleep{Sleep::awake};
};

// --- Links (link.h): frames between two ranks.

inline constexpr std::size_t kEagerBytes = 448;  // up to here a frame lies beside its flag
inline constexpr std::size_t kSlots = 8;         // frames, or pieces of frames, that a pipe holds
inline constexpr std::size_t kPieceBytes = std::size_t{128} << 10;  // of frames that are staged
inline constexpr std::size_t kPieces = 2;                           // staging buffers a pipe has

// A rank's scratch, and the most of it that one round of a collective uses. Rounds take it in turn
// all the way round (execute/memory_run.h): a line that the others have read lately is slow to
// write, since their copies must go first; by the time it is used again it has left their own
// caches for the shared one.
inline constexpr std::size_t kScratchBytes = std::size_t{4} << 20;
inline constexpr std::size_t kRoundBytes = std::size_t{1} << 20;

enum class Where : std::uint32_t { eager, staged, posted };

// A frame, or a piece of one, on its way. The sender fills it in and marks it posted; the receiver
// marks it as being read before it touches the sender's memory, so that a sender who gives up can
// wait until the reader is done.
struct alignas(64) Slot {
  enum State : std::uint32_t { empty, posted, reading };
  std::atomic<std::uint32_t> state{empty};
  Where where = Where::eager;
  FrameTag tag;
  std::uint64_t frame_bytes = 0;
  std::uint64_t piece_offset = 0;
  std::uint32_t piece_bytes = 0;
  std::uint32_t staging = 0;  // which staging buffer of the pipe
  Posted data;
  std::array<std::byte, kEagerBytes> eager{};
};

struct Pipe {
  std::array<Slot, kSlots> slots;
};

// --- The area: this header, then pipes to each rank, then their staging, then scratch.

struct AreaHeader {
  std::uint64_t magic = 0;
  std::uint64_t nonce = 0;  // the job's own, so that no other memory is taken for this
  std::uint64_t bytes = 0;
  alignas(64) Bell bell;
  alignas(64) std::atomic<Presence> presence{Presence::here};
  // Set by others: some rank has severed, look at all presences.
  alignas(64) std::atomic<std::uint32_t> alarm{0};
  // Set by the owner while it reads or writes other ranks' buffers.
  alignas(64) std::atomic<std::uint32_t> abroad{0};
  alignas(128) std::array<Entry, 2> entries;
};

inline constexpr std::uint64_t kAreaMagic = 0x3165726174666577;  // "weftare1"

// Where things are in an area; the same for all ranks of a group.
class AreaLayout {
 public:
  AreaLayout() = default;
  // staged: whether links need staging buffers, because some buffers are not mapped by all.
  AreaLayout(int size, int lanes, std::size_t scratch_bytes, bool staged);

  std::size_t bytes() const { return bytes_; }
  std::size_t scratch_bytes() const { return scratch_bytes_; }
  std::size_t pipe(int to, int lane) const { return pipes_ + pipe_index(to, lane) * sizeof(Pipe); }
  std::size_t staging(int to, int lane, std::size_t k) const {
    return staging_ + (pipe_index(to, lane) * kPieces + k) * kPieceBytes;
  }
  std::size_t scratch() const { return scratch_; }

 private:
  std::size_t pipe_index(int to, int lane) const {
    return static_cast<std::size_t>(to) * lanes_ + static_cast<std::size_t>(lane + 1);
  }
  std::size_t lanes_ = 0;  // the point-to-point lane included
  std::size_t scratch_bytes_ = 0;
  std::size_t pipes_ = 0;
  std::size_t staging_ = 0;
  std::size_t scratch_ = 0;
  std::size_t bytes_ = 0;
};

// Makes an area of zeroed memory. Pipes start as zeros, so that those never used cost no memory.
AreaHeader* make_area(void* memory, const AreaLayout& layout, std::uint64_t nonce);

}  // namespace weft::comm::memory
