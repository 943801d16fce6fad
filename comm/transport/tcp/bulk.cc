#include "comm/transport/tcp/bulk.h"

#include <algorithm>
#include <cstring>

#include "comm/transport/transport.h"
#include "kernels/base/check.h"
#include "kernels/base/error.h"

namespace weft::comm::tcp {

void Bulk::begin(std::uint64_t frame, std::size_t offset, const std::byte* data,
                 std::size_t bytes) {
  WEFT_ASSERT(idle(), "one segment at a time");
  send_header_ = make_segment(frame, offset, data, bytes);
  send_data_ = data;
  sent_ = 0;
  socket_.set_ready(socket_.readable(), true);
  push();
}

void Bulk::push() {
  if (idle() || !socket_.writable()) return;
  iovec parts[2];
  std::size_t count = 0;
  if (sent_ < kHeader) {
    parts[count++] = {reinterpret_cast<std::byte*>(&send_header_) + sent_, kHeader - sent_};
  }
  const std::size_t payload_sent = sent_ > kHeader ? sent_ - kHeader : 0;
  parts[count++] = {const_cast<std::byte*>(send_data_) + payload_sent,
                    send_header_.bytes - payload_sent};
  int broken = 0;
  const long n = socket_.send(parts, count, broken);
  if (broken != 0) {
    socket_.lost(fmt::format("cannot be reached any more ({})", std::strerror(broken)));
  }
  if (n < 0) return;
  sent_ += static_cast<std::size_t>(n);
  if (sent_ == kHeader + send_header_.bytes) send_data_ = nullptr;
}

void Bulk::pull(Incoming& incoming) {
  while (incoming.missing > 0 && socket_.readable()) {
    if (header_got_ == kHeader && !header_open_) {
      open_header(incoming);
      if (parked_) return;
    }
    SegmentHeader next;
    std::size_t left = 0;
    long n = 0;
    if (header_open_) {  // the rest of this segment, and of what follows as much as a header
      left = header_.bytes - received_;
      const iovec parts[2] = {{incoming.into + header_.offset + received_, left}, {&next, kHeader}};
      n = socket_.receive(parts, 2);
    } else {
      const iovec part{reinterpret_cast<std::byte*>(&header_) + header_got_, kHeader - header_got_};
      n = socket_.receive(&part, 1);
    }
    if (n == 0) {
      hangup_known_ = ended_ = true;
      const bool inside = header_open_ || header_got_ > 0;
      if (inside) socket_.lost("closed a connection in the middle of a frame");
      return;  // the rest may have come on the others: a peer that is done closes them all
    }
    if (n < 0) return;
    const std::size_t of_payload = std::min(static_cast<std::size_t>(n), left);
    const std::size_t of_header = static_cast<std::size_t>(n) - of_payload;
    received_ += of_payload;
    if (!header_open_) {
      header_got_ += of_header;
    } else if (received_ == header_.bytes) {
      close_segment(incoming);
      header_ = next;
      header_got_ = of_header;
    }
  }
}

void Bulk::open_header(Incoming& incoming) {
  const auto refuse = [&](const char* what) {
    fail<Corrupt>("{}: a segment of {} bytes at {} of frame {} {}: bytes changed on the way",
                  socket_.name(), header_.bytes, header_.offset, header_.frame, what);
  };
  if (!is_sound(header_)) {
    fail<Corrupt>("{}: what came is no segment header: bytes changed on the way", socket_.name());
  }
  if (header_.frame > incoming.frame) {
    parked_ = true;
    return;
  }
  if (header_.frame < incoming.frame) refuse("comes late");
  const bool inside = header_.offset < incoming.bytes &&
                      header_.offset % incoming.segment_bytes == 0 &&
                      header_.bytes == std::min<std::uint64_t>(incoming.segment_bytes,
                                                               incoming.bytes - header_.offset);
  if (!inside) refuse("is not one of its pieces");
  if (incoming.has[header_.offset / incoming.segment_bytes]) refuse("comes twice");
  header_open_ = true;
  received_ = 0;
}

void Bulk::close_segment(Incoming& incoming) {
  if (hash_of(incoming.into + header_.offset, header_.bytes) != header_.payload_hash) {
    fail<Corrupt>(
        "{}: the checksum of a segment of {} bytes is wrong: bytes changed on the way; check "
        "memory and network of both hosts",
        socket_.name(), header_.bytes);
  }
  incoming.has[header_.offset / incoming.segment_bytes] = true;
  --incoming.missing;
  header_open_ = false;
}

void Bulk::sever() {
  send_data_ = nullptr;
  reading_ = false;
  socket_.close_now();
}

}  // namespace weft::comm::tcp
