#include "comm/transport/memory/link.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "kernels/base/check.h"

namespace weft::comm::memory {

namespace {
const std::byte kNothing{};  // where empty frames "are"
}

MemoryLink::MemoryLink(const Group& group, int peer, int lane, std::uint64_t& bytes_moved)
    : group_(group),
      peer_(peer),
      lane_(lane),
      out_(group.pipe(group.self(), peer, lane)),
      in_(group.pipe(peer, group.self(), lane)),
      bytes_moved_(bytes_moved) {}

// --- Sending.

void MemoryLink::start_send(const FrameTag& tag, const void* data, Bytes bytes) {
  WEFT_ASSERT(send_phase_ == SendPhase::idle, "one send at a time");
  send_tag_ = tag;
  send_data_ = static_cast<const std::byte*>(data);
  send_bytes_ = bytes.size();
  pushed_ = 0;
  send_posted_ = send_bytes_ <= kEagerBytes ? kOrdinary : group_.book().post(data, bytes);
  send_phase_ = SendPhase::pushing;
  push();
}

bool MemoryLink::staging_free(std::size_t k) const {
  const std::size_t at = staged_at_[k];
  if (at == 0 || tail_ + 1 > at + kSlots - 1) return true;  // its slot has been used again since
  return out_.slots[(at - 1) % kSlots].state.load(std::memory_order_acquire) == Slot::empty;
}

void MemoryLink::push() {
  bool pushed = false;
  while (send_phase_ == SendPhase::pushing && push_one()) pushed = true;
  if (pushed) group_.notify(peer_);
}

// One slot. False if there is none free, or no staging.
bool MemoryLink::push_one() {
  Slot& slot = out_slot();
  if (slot.state.load(std::memory_order_acquire) != Slot::empty) return false;
  std::size_t piece = send_bytes_;
  if (send_bytes_ <= kEagerBytes) {
    slot.where = Where::eager;
    if (piece > 0) std::memcpy(slot.eager.data(), send_data_, piece);
  } else if (send_posted_ != kOrdinary) {
    slot.where = Where::posted;
    slot.data = send_posted_;
  } else {
    const std::size_t k = staged_ % kPieces;
    if (!staging_free(k)) return false;
    piece = std::min(kPieceBytes, send_bytes_ - pushed_);
    std::memcpy(group_.base(group_.self()) + group_.layout().staging(peer_, lane_, k),
                send_data_ + pushed_, piece);
    slot.where = Where::staged;
    slot.staging = static_cast<std::uint32_t>(k);
    staged_at_[k] = tail_ + 1;
    ++staged_;
  }
  slot.tag = send_tag_;
  slot.frame_bytes = send_bytes_;
  slot.piece_offset = pushed_;
  slot.piece_bytes = static_cast<std::uint32_t>(std::min(piece, kPieceBytes));
  pushed_ += piece;
  bytes_moved_ += piece + 1;
  const bool posted = slot.where == Where::posted;
  slot.state.store(Slot::posted, std::memory_order_release);
  if (posted) {
    send_phase_ = SendPhase::posted;  // complete when the receiver has emptied the slot
  } else {
    ++tail_;
    if (pushed_ == send_bytes_) send_phase_ = SendPhase::idle;
  }
  return true;
}

bool MemoryLink::is_sent() {
  if (send_phase_ == SendPhase::posted &&
      out_slot().state.load(std::memory_order_acquire) == Slot::empty) {
    ++tail_;
    send_phase_ = SendPhase::idle;
  }
  return send_phase_ == SendPhase::idle;
}

bool MemoryLink::poll_send() {
  if (send_phase_ == SendPhase::pushing) push();
  if (is_sent()) return true;
  if (group_.is_here(peer_)) return false;
  // The peer may have read the last of it just before it left: look again now that it is gone.
  if (is_sent()) return true;
  group_.check(peer_, "takes no more data");
  return false;
}

// --- Receiving.

void MemoryLink::start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) {
  WEFT_ASSERT(!receiving_, "one receive at a time");
  receiving_ = true;
  recv_tag_ = tag;
  into_ = static_cast<std::byte*>(into);
  recv_bytes_ = bytes.size();
  received_ = 0;
  view_allowed_ = view_allowed;
  arrived_ = nullptr;
}

// Marks the slot as being read. False if nothing is there yet.
bool MemoryLink::take_slot(Slot& slot) {
  if (slot.state.load(std::memory_order_acquire) != Slot::posted) {
    // The peer may have posted just before it left: look again once it is known to be gone.
    if (group_.is_here(peer_)) return false;
    if (slot.state.load(std::memory_order_acquire) != Slot::posted) {
      group_.check(peer_, "sends no more data");
    }
  }
  std::uint32_t expected = Slot::posted;
  if (!slot.state.compare_exchange_strong(expected, Slot::reading)) {
    group_.check(peer_, "took its data back");
    return false;
  }
  if (!(slot.tag == recv_tag_) || slot.frame_bytes != recv_bytes_) {
    const FrameMismatch mismatch(group_.rank_of(peer_), recv_tag_,
                                 Bytes(static_cast<std::int64_t>(recv_bytes_)), slot.tag,
                                 Bytes(static_cast<std::int64_t>(slot.frame_bytes)));
    slot.state.store(Slot::posted);  // so that its sender can take it back
    throw mismatch;
  }
  return true;
}

// What a slot holds. How much that must be is known here, whatever the slot says: a damaged one
// gives an error, and never a byte from elsewhere.
MemoryLink::Piece MemoryLink::piece_of(const Slot& slot) const {
  Piece piece{nullptr, recv_bytes_};
  const Where where = slot.where;
  const std::uint32_t k = slot.staging;
  if (where == Where::staged) {
    piece.bytes = std::min(kPieceBytes, recv_bytes_ - received_);
    if (k < kPieces && slot.piece_offset == received_ && slot.piece_bytes == piece.bytes) {
      piece.data = group_.base(peer_) + group_.layout().staging(group_.self(), lane_, k);
    }
  } else if (received_ == 0 && where == Where::eager && recv_bytes_ <= kEagerBytes) {
    piece.data = slot.eager.data();
  } else if (received_ == 0 && where == Where::posted) {
    piece.data =
        group_.book().locate(peer_, slot.data, Bytes(static_cast<std::int64_t>(recv_bytes_)));
  }
  if (piece.data == nullptr) {
    fail<Corrupt>("rank {} points to memory that is not shared: its area is damaged",
                  group_.rank_of(peer_));
  }
  return piece;
}

const void* MemoryLink::poll_recv() {
  while (arrived_ == nullptr) {
    Slot& slot = in_slot();
    if (!take_slot(slot)) return nullptr;
    holding_ = true;
    const auto [data, piece] = piece_of(slot);
    bytes_moved_ += piece + 1;
    if (view_allowed_ && piece == recv_bytes_) {
      arrived_ = data;
    } else {
      WEFT_ASSERT(into_ != nullptr || recv_bytes_ == 0, "a frame in pieces needs a place");
      if (piece > 0) std::memcpy(into_ + received_, data, piece);
      received_ += piece;
      if (received_ == recv_bytes_) arrived_ = into_;
      if (arrived_ == nullptr && recv_bytes_ > 0) give_slot_back();
    }
    if (recv_bytes_ == 0) arrived_ = &kNothing;
  }
  return arrived_;
}

void MemoryLink::give_slot_back() {
  Slot& slot = in_slot();
  const bool sender_waits = slot.where != Where::eager;
  slot.state.store(Slot::empty, std::memory_order_release);
  ++head_;
  holding_ = false;
  // The sender of eager frames waits only when all slots were full.
  if (sender_waits || head_ % (kSlots / 2) == 0) group_.notify(peer_);
}

void MemoryLink::finish_recv() {
  WEFT_ASSERT(arrived_ != nullptr, "nothing has arrived");
  if (holding_) give_slot_back();
  receiving_ = false;
  arrived_ = nullptr;
}

void MemoryLink::sever() {
  if (holding_) {  // let the sender have its memory back
    in_slot().state.store(Slot::empty, std::memory_order_release);
    holding_ = false;
  }
  receiving_ = false;
  arrived_ = nullptr;
  if (send_phase_ == SendPhase::posted) {
    Slot& slot = out_slot();
    const auto patience = group_.book().patience();
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
      std::uint32_t state = Slot::posted;
      if (slot.state.compare_exchange_strong(state, Slot::empty) || state == Slot::empty) break;
      // The peer is in the middle of a copy or a reduction; a process may have died there.
      if (patience.count() > 0 && std::chrono::steady_clock::now() > until) break;
      std::this_thread::yield();
    }
  }
  send_phase_ = SendPhase::idle;
}

}  // namespace weft::comm::memory
