// How a client reaches the store: resolve, connect, authenticate, join; again and again with
// growing pauses until it is there or the time is up.
#pragma once

#include <asio/ip/tcp.hpp>

#include "comm/rendezvous/wire.h"

namespace weft::comm {

struct Dialled {
  asio::ip::tcp::socket socket;
  WelcomeBody welcome;
};

// Blocks, running `io` itself: nobody else may run it meanwhile. Timeout when the store could not
// be reached; Unauthorized, Mismatch or Corrupt at once when it, or who is there instead, refuses.
Dialled dial(asio::io_context& io, const StoreClientOptions& options);

}  // namespace weft::comm
