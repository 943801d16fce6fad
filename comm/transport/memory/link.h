// A link between two ranks that can address each other's memory. Short frames lie beside their
// flag; frames from buffers that the receiver can address are read, or reduced from, where they
// are; others are staged piece by piece, so that sender and receiver work at the same time.
#pragma once

#include <array>
#include <cstdint>

#include "comm/transport/memory/group.h"
#include "comm/transport/transport.h"

namespace weft::comm::memory {

class MemoryLink final : public Link {
 public:
  // `peer`: a member of the group.
  MemoryLink(const Group& group, int peer, int lane, std::uint64_t& bytes_moved);

  void start_send(const FrameTag& tag, const void* data, Bytes bytes) override;
  bool poll_send() override;
  void start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) override;
  const void* poll_recv() override;
  void finish_recv() override;
  bool always_views(Bytes bytes) const override {
    return group_.book().reaches_all() || bytes.size() <= kPieceBytes;
  }

  // Takes back what the peer has not read, and waits while it reads.
  void sever();

 private:
  enum class SendPhase : std::uint8_t { idle, pushing, posted };
  void push();
  bool push_one();
  bool is_sent();
  bool staging_free(std::size_t k) const;
  Slot& out_slot() const { return out_.slots[tail_ % kSlots]; }
  Slot& in_slot() const { return in_.slots[head_ % kSlots]; }
  bool take_slot(Slot& slot);
  struct Piece {
    const std::byte* data;
    std::size_t bytes;
  };
  Piece piece_of(const Slot& slot) const;
  void give_slot_back();

  const Group& group_;
  int peer_;
  int lane_;
  Pipe& out_;
  Pipe& in_;
  std::uint64_t& bytes_moved_;

  SendPhase send_phase_ = SendPhase::idle;
  std::size_t tail_ = 0;
  FrameTag send_tag_;
  const std::byte* send_data_ = nullptr;
  std::size_t send_bytes_ = 0;
  std::size_t pushed_ = 0;
  Posted send_posted_;
  std::size_t staged_ = 0;                        // pieces, ever
  std::array<std::size_t, kPieces> staged_at_{};  // tail_ of a staging buffer's last piece, plus 1

  bool receiving_ = false;
  bool view_allowed_ = false;
  bool holding_ = false;  // a slot, until finish_recv()
  const void* arrived_ = nullptr;
  std::size_t head_ = 0;
  FrameTag recv_tag_;
  std::byte* into_ = nullptr;
  std::size_t recv_bytes_ = 0;
  std::size_t received_ = 0;
};

}  // namespace weft::comm::memory
