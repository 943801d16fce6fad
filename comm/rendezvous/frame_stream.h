// One connection of the store's protocol after the handshake, seen from either end: frames in,
// frames out, both bounded. Everything happens on the io_context's one thread.
#pragma once

#include <asio/ip/tcp.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/rendezvous/wire.h"

namespace weft::comm {

class FrameStream : public std::enable_shared_from_this<FrameStream> {
 public:
  static constexpr std::size_t kQueuedBytesMax = std::size_t{1} << 30;
  static constexpr std::size_t kQueuedFramesMax = 65'536;
  using OnFrame = std::function<void(const FrameHeader&, Blob body)>;
  // What happened, for people: "connection closed", "Connection reset by peer", ... Called at most
  // once, and not after close().
  using OnClosed = std::function<void(const std::string& what)>;

  FrameStream(asio::ip::tcp::socket socket, std::size_t body_max);
  void start(OnFrame on_frame, OnClosed on_closed);
  void allow_bodies(std::size_t body_max) { body_max_ = body_max; }

  // Queues; a peer that does not read what it asked for is closed.
  void send(Frame frame);
  bool all_sent() const { return queue_.empty() && in_flight_.empty(); }
  void on_all_sent(std::function<void()> callback) { on_all_sent_ = std::move(callback); }
  // Sends what is queued, then tells the peer that no more comes; reading goes on.
  void finish_sending();
  void close();

  // When bytes last came: even a part of a large frame is a sign of life.
  std::chrono::steady_clock::time_point last_heard() const { return last_heard_; }
  void mark_heard() { last_heard_ = std::chrono::steady_clock::now(); }

 private:
  struct Outgoing {
    std::array<std::uint8_t, FrameHeader::kBytes> head;
    SharedBlob body;
    std::size_t bytes() const { return head.size() + (body ? body->size() : 0); }
  };
  void read_more();
  void on_read(std::size_t bytes);
  void write_more();
  void drained();
  void lost(const std::string& what);

  asio::ip::tcp::socket socket_;
  std::size_t body_max_;
  OnFrame on_frame_;
  OnClosed on_closed_;
  std::function<void()> on_all_sent_;
  std::chrono::steady_clock::time_point last_heard_;
  Blob incoming_;
  std::size_t filled_ = 0;
  FrameHeader header_;
  bool in_body_ = false;
  std::deque<Outgoing> queue_;
  std::vector<Outgoing> in_flight_;
  std::size_t queued_bytes_ = 0;
  bool finish_ = false;
  bool write_failed_ = false;
  bool closed_ = false;
};

}  // namespace weft::comm
