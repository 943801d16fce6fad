#include "comm/rendezvous/frame_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <asio/post.hpp>
#include <asio/write.hpp>
#include <exception>

namespace weft::comm {
namespace {

constexpr std::size_t kFramesPerWrite = 64;
// A large body's memory grows with what really arrives, not with what its header claims.
constexpr std::size_t kGrowBytes = std::size_t{1} << 20;

}  // namespace

FrameStream::FrameStream(asio::ip::tcp::socket socket, std::size_t body_max)
    : socket_(std::move(socket)), body_max_(body_max) {
  mark_heard();
}

void FrameStream::start(OnFrame on_frame, OnClosed on_closed) {
  on_frame_ = std::move(on_frame);
  on_closed_ = std::move(on_closed);
  incoming_.resize(FrameHeader::kBytes);
  read_more();
}

void FrameStream::read_more() {
  socket_.async_read_some(
      asio::buffer(incoming_.data() + filled_, incoming_.size() - filled_),
      [self = shared_from_this()](const asio::error_code& error, std::size_t bytes) {
        if (self->closed_) return;
        if (error) {
          self->lost(error == asio::error::eof ? "connection closed" : error.message());
        } else {
          self->on_read(bytes);
        }
      });
}

void FrameStream::on_read(std::size_t bytes) {
  mark_heard();
  filled_ += bytes;
  if (filled_ < incoming_.size()) return read_more();
  try {
    if (!in_body_) {
      header_ = decode_header(incoming_, body_max_);
      incoming_.clear();
      in_body_ = true;
      filled_ = 0;
    }
    if (filled_ < header_.body_bytes) {
      incoming_.resize(std::min<std::size_t>(header_.body_bytes, filled_ + kGrowBytes));
      return read_more();
    }
    Blob body = std::move(incoming_);
    incoming_ = Blob(FrameHeader::kBytes);
    in_body_ = false;
    filled_ = 0;
    on_frame_(header_, std::move(body));
  } catch (const std::exception& error) {
    return lost(fmt::format("broke the protocol: {}", error.what()));
  }
  if (!closed_) read_more();
}

void FrameStream::send(Frame frame) {
  if (closed_ || write_failed_ || finish_) return;
  queue_.push_back({encode(frame.header), std::move(frame.body)});
  queued_bytes_ += queue_.back().bytes();
  if (queued_bytes_ > kQueuedBytesMax || queue_.size() > kQueuedFramesMax) {
    // Later, for whoever sends may be walking over all connections.
    write_failed_ = true;
    asio::post(socket_.get_executor(), [self = shared_from_this(), bytes = queued_bytes_] {
      self->lost(fmt::format("does not read what it is sent: {} bytes are waiting", bytes));
    });
    return;
  }
  if (in_flight_.empty()) write_more();
}

void FrameStream::write_more() {
  std::vector<asio::const_buffer> buffers;
  while (!queue_.empty() && in_flight_.size() < kFramesPerWrite) {
    in_flight_.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  for (const Outgoing& out : in_flight_) {
    buffers.emplace_back(out.head.data(), out.head.size());
    if (out.body) buffers.emplace_back(out.body->data(), out.body->size());
  }
  asio::async_write(socket_, buffers,
                    [self = shared_from_this()](const asio::error_code& error, std::size_t) {
                      for (const Outgoing& out : self->in_flight_) {
                        self->queued_bytes_ -= out.bytes();
                      }
                      self->in_flight_.clear();
                      if (error) {
                        // What the peer said before it went is still to be read; reading will
                        // find the end.
                        self->write_failed_ = true;
                        self->queue_.clear();
                        self->queued_bytes_ = 0;
                      }
                      if (!self->queue_.empty()) return self->write_more();
                      self->drained();
                    });
}

void FrameStream::drained() {
  if (finish_ && !closed_) {
    asio::error_code ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  }
  if (on_all_sent_) on_all_sent_();
}

void FrameStream::finish_sending() {
  if (finish_) return;
  finish_ = true;
  if (all_sent()) drained();
}

void FrameStream::close() {
  if (closed_) return;
  closed_ = true;
  asio::error_code ignored;
  socket_.close(ignored);
}

void FrameStream::lost(const std::string& what) {
  if (closed_) return;
  close();
  // The callbacks may hold whoever holds us.
  const auto keep = shared_from_this();
  const OnClosed on_closed = std::move(on_closed_);
  if (on_closed) on_closed(what);
}

}  // namespace weft::comm
