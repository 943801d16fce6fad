// Two ends of a link over socket pairs, driven by the test itself.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "comm/transport/tcp/bulk.h"
#include "comm/transport/tcp/link.h"
#include "comm/transport/tcp/striped.h"

namespace weft::comm::tcp {

inline std::pair<int, int> socket_pair() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  return {ends[0], ends[1]};
}

inline std::vector<std::byte> payload_of(std::size_t bytes, unsigned seed = 1) {
  std::vector<std::byte> payload(bytes);
  std::uint32_t state = seed * 2654435761u + 1;
  for (std::byte& byte : payload) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  return payload;
}

// One end: a link over sockets whose other ends are elsewhere.
struct End {
  std::uint64_t moved = 0;
  std::unique_ptr<StripedLink> link;

  explicit End(const std::vector<int>& sockets, int peer = 1) {
    auto own = std::make_unique<TcpLink>(peer, sockets[0], "rank 1 (test)", moved);
    std::vector<std::unique_ptr<Bulk>> bulk;
    for (std::size_t k = 1; k < sockets.size(); ++k) {
      bulk.push_back(std::make_unique<Bulk>(peer, sockets[k], "rank 1 (test)", moved));
    }
    link = std::make_unique<StripedLink>(std::move(own), std::move(bulk));
  }
  // As a mesh does before each round.
  void refresh() {
    link->own().set_ready(true, true);
    for (std::size_t k = 0; k < link->connections(); ++k) link->bulk(k).set_ready(true, true);
  }
};

struct LinkPair {
  std::unique_ptr<End> a;
  std::unique_ptr<End> b;

  explicit LinkPair(int connections) {
    std::vector<int> left, right;
    for (int k = 0; k <= connections; ++k) {
      const auto [one, other] = socket_pair();
      left.push_back(one);
      right.push_back(other);
    }
    a = std::make_unique<End>(left);
    b = std::make_unique<End>(right);
  }
};

}  // namespace weft::comm::tcp
