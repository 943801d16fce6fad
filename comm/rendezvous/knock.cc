#include "comm/rendezvous/knock.h"

#include <spdlog/spdlog.h>

#include <asio/read.hpp>
#include <asio/write.hpp>
#include <exception>

namespace weft::comm {

Knock::Knock(asio::ip::tcp::socket socket, const JobIdentity& job, std::int32_t world_size)
    : socket_(std::move(socket)),
      handshake_(job, PeerIdentity{kStoreRank, world_size}, ChannelKind::store) {}

void Knock::start(OnPeer on_peer, OnGone on_gone) {
  on_peer_ = std::move(on_peer);
  on_gone_ = std::move(on_gone);
  read_more();
}

void Knock::close() {
  if (closed_) return;
  closed_ = true;
  asio::error_code ignored;
  socket_.close(ignored);
  on_peer_ = nullptr;
  on_gone_ = nullptr;
}

void Knock::gone(const std::string& why) {
  if (closed_) return;
  const OnGone on_gone = std::move(on_gone_);
  close();
  on_gone(why);
}

void Knock::read_more() {
  incoming_.resize(handshake_.bytes_wanted());
  asio::async_read(socket_, asio::buffer(incoming_),
                   [self = shared_from_this()](const asio::error_code& error, std::size_t) {
                     if (self->closed_) return;
                     if (error) return self->gone(error.message());
                     self->on_read();
                   });
}

void Knock::on_read() {
  try {
    std::vector<std::uint8_t> answer = handshake_.feed(incoming_);
    if (answer.empty()) return read_more();
    const bool finished = handshake_.finished();
    write(std::move(answer), [this, finished] {
      if (!finished) return read_more();
      const OnPeer on_peer = std::move(on_peer_);
      closed_ = true;
      on_peer(std::move(socket_), handshake_.peer());
    });
  } catch (const std::exception& error) {
    const std::string why = error.what();
    std::vector<std::uint8_t> refusal = handshake_.refusal();
    if (refusal.empty()) return gone(why);
    spdlog::warn("store: refused a connection: {}", why);  // it knows the secret: one of ours
    write(std::move(refusal), [this, why] { gone(why); });
  }
}

// `then` runs while this object lives and is open.
void Knock::write(std::vector<std::uint8_t> bytes, std::function<void()> then) {
  outgoing_ = std::move(bytes);
  asio::async_write(socket_, asio::buffer(outgoing_),
                    [self = shared_from_this(), then = std::move(then)](
                        const asio::error_code& error, std::size_t) {
                      if (self->closed_) return;
                      if (error) return self->gone(error.message());
                      then();
                    });
}

}  // namespace weft::comm
