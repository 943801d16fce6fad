#include "comm/rendezvous/listen.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <asio/ip/v6_only.hpp>
#include <cerrno>
#include <optional>

#include "kernels/base/system_error.h"

namespace weft::comm {
namespace {

using Tcp = asio::ip::tcp;
constexpr int kPortTries = 32;

asio::ip::address parse_address(const std::string& text) {
  asio::error_code error;
  const auto address = asio::ip::make_address(text, error);
  if (error) {
    fail<InvalidArgument>("'{}' is no IPv4 or IPv6 address the store could listen on", text);
  }
  if (address.is_unspecified()) {
    fail<InvalidArgument>(
        "the store does not listen on the wildcard address '{}': name the address of the "
        "interface that the other hosts reach (127.0.0.1 when there are none)",
        text);
  }
  return address;
}

[[noreturn]] void cannot_listen(const Tcp::endpoint& where, const asio::error_code& error) {
  const std::string place = host_and_port(where.address().to_string(), where.port());
  if (error == asio::error::address_in_use) {
    fail<IoError>(
        "cannot listen on {}: port {} is in use. Another job or program holds it: choose another "
        "port (--main-port), or see who it is with `ss -ltnp 'sport = :{}'`",
        place, where.port(), where.port());
  }
  if (error == asio::error::access_denied) {
    fail<IoError>("cannot listen on {}: port {} needs privileges, choose one above 1023", place,
                  where.port());
  }
  if (error.value() == EADDRNOTAVAIL) {
    fail<IoError>("cannot listen on {}: no interface of this machine has that address", place);
  }
  fail<IoError>("cannot listen on {}: {}", place, text_of_system_error(error));
}

Tcp::acceptor listen_at(asio::io_context& io, const Tcp::endpoint& where, asio::error_code& error) {
  Tcp::acceptor acceptor(io);
  const int fd =
      ::socket(where.protocol().family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
  if (fd < 0) {
    error.assign(errno, asio::error::get_system_category());
    return acceptor;
  }
  acceptor.assign(where.protocol(), fd);
  acceptor.non_blocking(true);
  acceptor.set_option(Tcp::acceptor::reuse_address(true));
  if (where.protocol() == Tcp::v6()) acceptor.set_option(asio::ip::v6_only(true));
  acceptor.bind(where, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  return acceptor;
}

// Empty when `port` was 0 and the port that came is in use on a later address.
std::vector<Tcp::acceptor> try_port(asio::io_context& io,
                                    const std::vector<asio::ip::address>& addresses,
                                    std::uint16_t port) {
  std::vector<Tcp::acceptor> acceptors;
  std::uint16_t chosen = port;
  for (const auto& address : addresses) {
    const Tcp::endpoint where(address, chosen);
    asio::error_code error;
    acceptors.push_back(listen_at(io, where, error));
    if (error) {
      const bool unlucky = port == 0 && chosen != 0 && error == asio::error::address_in_use;
      if (unlucky) return {};
      cannot_listen(where, error);
    }
    chosen = acceptors.back().local_endpoint().port();
  }
  return acceptors;
}

}  // namespace

std::vector<Tcp::acceptor> listen_on(asio::io_context& io,
                                     const std::vector<std::string>& addresses,
                                     std::uint16_t port) {
  if (addresses.empty()) fail<InvalidArgument>("the store was given no address to listen on");
  std::vector<asio::ip::address> parsed;
  parsed.reserve(addresses.size());
  for (const auto& text : addresses) {
    const auto address = parse_address(text);
    const bool known = std::find(parsed.begin(), parsed.end(), address) != parsed.end();
    if (!known) parsed.push_back(address);
  }
  for (int attempt = 0; attempt < kPortTries; ++attempt) {
    auto acceptors = try_port(io, parsed, port);
    if (!acceptors.empty()) return acceptors;
  }
  fail<IoError>("found no port that is free on all of {}: give one (--main-port)",
                fmt::join(addresses, ", "));
}

Tcp::socket accept_from(Tcp::acceptor& acceptor, asio::error_code& error) {
  Tcp::socket socket(acceptor.get_executor());
  const int fd =
      ::accept4(acceptor.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    error.assign(errno, asio::error::get_system_category());
    return socket;
  }
  socket.assign(acceptor.local_endpoint().protocol(), fd, error);
  if (!error) tune(socket);
  return socket;
}

void tune(Tcp::socket& socket) {
  asio::error_code ignored;  // a connection without them still works
  socket.set_option(Tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
}

std::string host_and_port(const std::string& host, std::uint16_t port) {
  const bool bracket = host.find(':') != std::string::npos;
  return bracket ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

}  // namespace weft::comm
