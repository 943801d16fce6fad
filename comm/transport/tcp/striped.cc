#include "comm/transport/tcp/striped.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/base/check.h"

namespace weft::comm::tcp {

namespace {
constexpr std::size_t kSegmentMin = 32 << 10;
constexpr std::size_t kSegmentMax = 256 << 10;
constexpr std::size_t kPiecesEach = 4;  // of a frame, for each connection
constexpr std::size_t kPage = 4096;
}  // namespace

std::size_t segment_bytes_of(std::size_t frame_bytes, std::size_t connections) {
  const std::size_t wished = frame_bytes / (connections * kPiecesEach);
  return std::clamp((wished + kPage - 1) / kPage * kPage, kSegmentMin, kSegmentMax);
}

StripedLink::StripedLink(std::unique_ptr<TcpLink> own, std::vector<std::unique_ptr<Bulk>> bulk)
    : own_(std::move(own)),
      bulk_(std::move(bulk)),
      balance_(bulk_.size()),
      carried_(bulk_.size(), 0) {
  WEFT_ASSERT(!bulk_.empty(), "a striped link needs bulk connections");
}

// --- Sending.

void StripedLink::start_send(const FrameTag& tag, const void* data, Bytes bytes) {
  WEFT_ASSERT(!sending_, "one send at a time");
  if (bytes.size() <= kWholeBytes) return own_->start_send(tag, data, bytes);
  own_->start_announce(tag, bytes);
  sending_ = true;
  send_data_ = static_cast<const std::byte*>(data);
  send_bytes_ = bytes.size();
  send_segment_ = segment_bytes_of(send_bytes_, bulk_.size());
  send_next_ = 0;
  if (push_segments() && own_->poll_send()) {
    sending_ = false;
    ++send_frame_;
  }
}

bool StripedLink::poll_send() {
  const bool own_done = own_->poll_send();
  if (!sending_) return own_done;
  if (!push_segments() || !own_done) return false;
  sending_ = false;
  ++send_frame_;
  return true;
}

// True once the kernel has every segment.
bool StripedLink::push_segments() {
  bool all_idle = true;
  for (const auto& bulk : bulk_) {
    bulk->push();
    all_idle &= bulk->idle();
  }
  while (send_next_ < send_bytes_) {
    const auto now = std::chrono::steady_clock::now();
    for (std::size_t k = 0; k < bulk_.size(); ++k) {
      balance_.saw(k, bulk_[k]->unsent() + bulk_[k]->unacknowledged(), now);
    }
    const std::size_t bytes = std::min(send_segment_, send_bytes_ - send_next_);
    const std::size_t chosen = balance_.best(bytes);
    // One that is busy and still the earliest is waited for.
    if (!bulk_[chosen]->idle()) return false;
    balance_.gave(chosen, sizeof(SegmentHeader) + bytes);
    carried_[chosen] += bytes;
    bulk_[chosen]->begin(send_frame_, send_next_, send_data_ + send_next_, bytes);
    send_next_ += bytes;
    all_idle &= bulk_[chosen]->idle();
  }
  return all_idle;
}

// --- Receiving.

void StripedLink::start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) {
  WEFT_ASSERT(!receiving_, "one receive at a time");
  if (bytes.size() <= kWholeBytes) return own_->start_recv(tag, into, bytes, view_allowed);
  WEFT_ASSERT(into != nullptr, "large frames need a place");
  own_->start_recv_announced(tag, bytes);
  receiving_ = true;
  announced_ = false;
  incoming_.into = static_cast<std::byte*>(into);
  incoming_.bytes = bytes.size();
  incoming_.segment_bytes = segment_bytes_of(bytes.size(), bulk_.size());
  incoming_.missing = (bytes.size() + incoming_.segment_bytes - 1) / incoming_.segment_bytes;
  incoming_.has.assign(incoming_.missing, false);
}

const void* StripedLink::poll_recv() {
  if (!receiving_) return own_->poll_recv();
  if (!announced_) {
    if (own_->poll_recv() == nullptr) return nullptr;
    own_->finish_recv();
    announced_ = true;
    for (const auto& bulk : bulk_) bulk->set_reading(true);
  }
  bool all_ended = true;
  for (const auto& bulk : bulk_) {
    bulk->pull(incoming_);
    all_ended &= bulk->ended();
  }
  if (incoming_.missing == 0) return incoming_.into;
  if (all_ended) bulk_.front()->lost();
  return nullptr;
}

void StripedLink::finish_recv() {
  if (!receiving_) return own_->finish_recv();
  WEFT_ASSERT(announced_ && incoming_.missing == 0, "nothing has arrived");
  for (const auto& bulk : bulk_) bulk->set_reading(false);
  receiving_ = false;
  ++incoming_.frame;
}

}  // namespace weft::comm::tcp
