// A link between two threads: frames are pointers into the sender's memory, which the receiver
// reads, or reduces from, in place.
#pragma once

#include <cstdint>
#include <memory>

#include "comm/transport/inproc/world.h"
#include "comm/transport/transport.h"

namespace weft::comm::inproc {

class InprocLink final : public Link {
 public:
  InprocLink(World& world, int rank, int peer, int lane, std::uint64_t& bytes_moved);

  void start_send(const FrameTag& tag, const void* data, Bytes bytes) override;
  bool poll_send() override;
  void start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) override;
  const void* poll_recv() override;
  void finish_recv() override;
  bool always_views(Bytes) const override { return true; }

  // Takes back what the peer has not read, and waits while it reads.
  void sever();

 private:
  enum class SendPhase : std::uint8_t { idle, waiting, posted };
  void post();
  void check_peer(const char* doing) const;

  World& world_;
  int peer_;
  Pipe& out_;
  Pipe& in_;
  std::uint64_t& bytes_moved_;

  SendPhase send_phase_ = SendPhase::idle;
  std::size_t tail_ = 0;
  FrameTag send_tag_;
  const void* send_data_ = nullptr;
  Bytes send_bytes_;

  bool receiving_ = false;
  bool view_allowed_ = false;
  const void* arrived_ = nullptr;
  std::size_t head_ = 0;
  FrameTag recv_tag_;
  void* into_ = nullptr;
  Bytes recv_bytes_;
};

}  // namespace weft::comm::inproc
