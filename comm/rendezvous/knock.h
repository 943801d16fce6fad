// The server's side of a connection until it is authenticated: fixed-size frames, a few hundred
// bytes of memory, and then either a peer or a closed socket.
#pragma once

#include <asio/ip/tcp.hpp>
#include <functional>
#include <memory>

#include "comm/rendezvous/handshake.h"
#include "comm/rendezvous/wire.h"

namespace weft::comm {

class Knock : public std::enable_shared_from_this<Knock> {
 public:
  using OnPeer = std::function<void(asio::ip::tcp::socket, PeerIdentity)>;
  using OnGone = std::function<void(const std::string& why)>;  // closed, refused, or a stranger

  Knock(asio::ip::tcp::socket socket, const JobIdentity& job, std::int32_t world_size);
  // One of the two is called, once, unless close() comes first.
  void start(OnPeer on_peer, OnGone on_gone);
  void close();

 private:
  void read_more();
  void on_read();
  void write(std::vector<std::uint8_t> bytes, std::function<void()> then);
  void gone(const std::string& why);

  asio::ip::tcp::socket socket_;
  ServerHandshake handshake_;
  OnPeer on_peer_;
  OnGone on_gone_;
  Blob incoming_;
  Blob outgoing_;
  bool closed_ = false;
};

}  // namespace weft::comm
