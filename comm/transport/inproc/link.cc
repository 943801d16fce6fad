#include "comm/transport/inproc/link.h"

#include <cstring>
#include <thread>

#include "kernels/base/check.h"

namespace weft::comm::inproc {

InprocLink::InprocLink(World& world, int rank, int peer, int lane, std::uint64_t& bytes_moved)
    : world_(world),
      peer_(peer),
      out_(world.pipe(rank, peer, lane)),
      in_(world.pipe(peer, rank, lane)),
      bytes_moved_(bytes_moved) {}

void InprocLink::start_send(const FrameTag& tag, const void* data, Bytes bytes) {
  WEFT_ASSERT(send_phase_ == SendPhase::idle, "one send at a time");
  send_tag_ = tag;
  send_data_ = data;
  send_bytes_ = bytes;
  send_phase_ = SendPhase::waiting;
  post();
}

void InprocLink::post() {
  Slot& slot = out_.slots[tail_ % kSlots];
  if (slot.state.load(std::memory_order_acquire) != Slot::empty) return;
  slot.tag = send_tag_;
  slot.bytes = send_bytes_;
  slot.eager = send_bytes_.size() <= kEagerBytes;
  if (slot.eager) {
    if (send_bytes_.value > 0) {
      std::memcpy(slot.inline_data.data(), send_data_, send_bytes_.size());
    }
    slot.data = slot.inline_data.data();
    ++tail_;
    send_phase_ = SendPhase::idle;
  } else {
    slot.data = send_data_;
    send_phase_ = SendPhase::posted;
  }
  bytes_moved_ += send_bytes_.size() + 1;
  slot.state.store(Slot::posted, std::memory_order_release);
  world_.mailbox(peer_).notify();
}

bool InprocLink::poll_send() {
  if (send_phase_ == SendPhase::waiting) post();
  if (send_phase_ == SendPhase::posted) {
    if (out_.slots[tail_ % kSlots].state.load(std::memory_order_acquire) == Slot::empty) {
      ++tail_;
      send_phase_ = SendPhase::idle;
    }
  }
  if (send_phase_ == SendPhase::idle) return true;
  check_peer("takes no more data");
  return false;
}

void InprocLink::start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) {
  WEFT_ASSERT(!receiving_, "one receive at a time");
  receiving_ = true;
  recv_tag_ = tag;
  into_ = into;
  recv_bytes_ = bytes;
  view_allowed_ = view_allowed;
  arrived_ = nullptr;
}

const void* InprocLink::poll_recv() {
  if (arrived_ != nullptr) return arrived_;
  Slot& slot = in_.slots[head_ % kSlots];
  if (slot.state.load(std::memory_order_acquire) != Slot::posted) {
    // The peer may have posted just before it left: look again once it is known to be gone.
    if (world_.presence(peer_) == Presence::here) return nullptr;
    if (slot.state.load(std::memory_order_acquire) != Slot::posted)
      check_peer("sends no more data");
  }
  int expected = Slot::posted;
  if (!slot.state.compare_exchange_strong(expected, Slot::reading)) {
    check_peer("took its data back");
    return nullptr;
  }
  if (!(slot.tag == recv_tag_) || slot.bytes != recv_bytes_) {
    const FrameMismatch mismatch(peer_, recv_tag_, recv_bytes_, slot.tag, slot.bytes);
    slot.state.store(Slot::posted);  // so that its sender can take it back
    throw mismatch;
  }
  bytes_moved_ += recv_bytes_.size() + 1;
  if (!view_allowed_ && recv_bytes_.value > 0) std::memcpy(into_, slot.data, recv_bytes_.size());
  arrived_ = view_allowed_ || recv_bytes_.value == 0 ? slot.data : into_;
  return arrived_;
}

void InprocLink::finish_recv() {
  WEFT_ASSERT(arrived_ != nullptr, "nothing has arrived");
  Slot& slot = in_.slots[head_ % kSlots];
  const bool sender_waits = !slot.eager;
  slot.state.store(Slot::empty, std::memory_order_release);
  ++head_;
  receiving_ = false;
  arrived_ = nullptr;
  // The sender of an eager frame waits only when all slots were full.
  if (sender_waits || head_ % (kSlots / 2) == 0) world_.mailbox(peer_).notify();
}

void InprocLink::check_peer(const char* doing) const {
  switch (world_.presence(peer_)) {
    case Presence::here:
      return;
    case Presence::left:
      throw LinkLost(peer_, fmt::format("rank {} has left (its communicator was destroyed) and {}",
                                        peer_, doing));
    case Presence::severed:
      throw LinkLost(peer_, fmt::format("rank {} dropped its links and {}", peer_, doing));
  }
}

void InprocLink::sever() {
  if (arrived_ != nullptr) {  // let the sender have its memory back
    in_.slots[head_ % kSlots].state.store(Slot::empty, std::memory_order_release);
    arrived_ = nullptr;
  }
  receiving_ = false;
  if (send_phase_ != SendPhase::posted) {
    send_phase_ = SendPhase::idle;
    return;
  }
  Slot& slot = out_.slots[tail_ % kSlots];
  for (;;) {
    int state = Slot::posted;
    if (slot.state.compare_exchange_strong(state, Slot::empty) || state == Slot::empty) break;
    std::this_thread::yield();  // the peer is in the middle of a copy or a reduction
  }
  send_phase_ = SendPhase::idle;
}

}  // namespace weft::comm::inproc
