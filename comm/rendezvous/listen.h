// Listening sockets of the store.
#pragma once

#include <asio/ip/tcp.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace weft::comm {

// One acceptor an address, all on one port (0: any that is free on all of them). Close-on-exec, so
// that ranks the launcher starts do not keep the port. InvalidArgument: not a literal address, or a
// wildcard. IoError: the port is in use, may not be used, or no interface has the address.
std::vector<asio::ip::tcp::acceptor> listen_on(asio::io_context& io,
                                               const std::vector<std::string>& addresses,
                                               std::uint16_t port);

// The next connection that waits, close-on-exec and non-blocking. error: would_block when none
// does.
asio::ip::tcp::socket accept_from(asio::ip::tcp::acceptor& acceptor, asio::error_code& error);

// What every socket of the control plane gets: no delay, keep-alive.
void tune(asio::ip::tcp::socket& socket);

// "10.0.0.1:29400", "[::1]:29400".
std::string host_and_port(const std::string& host, std::uint16_t port);

}  // namespace weft::comm
