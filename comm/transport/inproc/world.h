// The memory that ranks of one process share: a pipe for each (sender, receiver, lane), and a
// mailbox for each rank that says "something of yours moved".
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "comm/transport/transport.h"

namespace weft::comm::inproc {

inline constexpr std::size_t kEagerBytes = 448;  // up to here a frame is copied, the sender goes on
inline constexpr std::size_t kSlots = 8;         // eager frames a pipe holds

// A frame on its way. The sender fills it and posts it; the receiver marks it as being read before
// it touches the sender's memory, so that a sender that gives up can wait for the reader to be
// done.
struct alignas(64) Slot {
  enum State : int { empty, posted, reading };
  std::atomic<int> state{empty};
  bool eager = false;
  FrameTag tag;
  const void* data = nullptr;
  Bytes bytes;
  std::array<std::byte, kEagerBytes> inline_data{};
};

struct Pipe {
  std::array<Slot, kSlots> slots;
};

struct alignas(64) Mailbox {
  std::atomic<std::uint64_t> events{0};
  std::atomic<bool> sleeping{false};
  std::mutex mutex;
  std::condition_variable moved;

  void notify();
  // Until events != seen, or the time is up.
  void sleep(std::uint64_t seen, std::chrono::milliseconds timeout);
};

enum class Presence : int { here, left, severed };

class World {
 public:
  World(int size, int lanes);

  int size() const { return size_; }
  int lanes() const { return lanes_; }
  Pipe& pipe(int from, int to, int lane);
  Mailbox& mailbox(int rank) { return mailboxes_[static_cast<std::size_t>(rank)]; }
  Presence presence(int rank) const {
    return presence_[static_cast<std::size_t>(rank)].load(std::memory_order_acquire);
  }
  void set_presence(int rank, Presence presence);

 private:
  int size_;
  int lanes_;
  std::vector<std::unique_ptr<Pipe>> pipes_;
  std::vector<Mailbox> mailboxes_;
  std::vector<std::atomic<Presence>> presence_;
};

}  // namespace weft::comm::inproc
