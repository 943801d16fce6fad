// A link over several connections: its own one for everything small and for the order of frames,
// and bulk ones that share the payload of large frames between them.
//
//     own    | frame | announced: tag, length | frame | announced ...
//     bulk 0 | segment 0 of 1st | segment 3 of 1st | ...
//     bulk 1 | segment 1 of 1st | segment 2 of 1st | ...
//
// Which connection takes a segment is decided when it goes out (balance.h), so that a slow or
// stalled connection does not bound the others; the receiver puts every segment straight into
// place. Each segment has its own checksum: it is hashed just before it is sent and just after it
// came, while it is in the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "comm/transport/tcp/balance.h"
#include "comm/transport/tcp/bulk.h"
#include "comm/transport/tcp/link.h"
#include "comm/transport/transport.h"

namespace weft::comm::tcp {

inline constexpr std::size_t kWholeBytes = 64 << 10;  // frames up to here are not cut

// Length of every segment but the last: both ends must agree. Enough pieces to balance with, none
// so small that its system calls show.
std::size_t segment_bytes_of(std::size_t frame_bytes, std::size_t connections);

class StripedLink final : public Link {
 public:
  // `bulk` in the same order on both ends; at least one.
  StripedLink(std::unique_ptr<TcpLink> own, std::vector<std::unique_ptr<Bulk>> bulk);

  void start_send(const FrameTag& tag, const void* data, Bytes bytes) override;
  bool poll_send() override;
  void start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) override;
  const void* poll_recv() override;
  void finish_recv() override;
  bool always_views(Bytes bytes) const override { return own_->always_views(bytes); }

  TcpLink& own() { return *own_; }
  Bulk& bulk(std::size_t k) { return *bulk_[k]; }
  std::size_t connections() const { return bulk_.size(); }
  // Payload that each bulk connection has taken so far.
  const std::vector<std::uint64_t>& carried() const { return carried_; }

 private:
  bool push_segments();

  std::unique_ptr<TcpLink> own_;
  std::vector<std::unique_ptr<Bulk>> bulk_;
  Balance balance_;
  std::vector<std::uint64_t> carried_;

  bool sending_ = false;  // an announced frame
  std::uint64_t send_frame_ = 0;
  const std::byte* send_data_ = nullptr;
  std::size_t send_bytes_ = 0;
  std::size_t send_segment_ = 0;
  std::size_t send_next_ = 0;  // offset of the next segment

  bool receiving_ = false;  // an announced frame
  bool announced_ = false;  // and its announcement has come
  Incoming incoming_;
};

}  // namespace weft::comm::tcp
