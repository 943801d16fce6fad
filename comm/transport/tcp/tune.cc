#include "comm/transport/tcp/tune.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <string_view>

namespace weft::comm::tcp {

void tune(int fd, const asio::ip::address& address) {
  if (!address.is_loopback()) return;
  constexpr std::string_view kUnpaced = "reno";
  // A system that refuses is merely slower.
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kUnpaced.data(), kUnpaced.size());
}

}  // namespace weft::comm::tcp
