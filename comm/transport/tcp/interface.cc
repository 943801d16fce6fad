#include "comm/transport/tcp/interface.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <sys/socket.h>

#include <asio/ip/address.hpp>
#include <memory>
#include <set>
#include <vector>

#include "kernels/base/error.h"

namespace weft::comm::tcp {

namespace {

struct Candidate {
  std::string interface;
  asio::ip::address address;
};

std::vector<Candidate> addresses_here() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  std::vector<Candidate> found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    char host[NI_MAXHOST] = {};
    const socklen_t length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (getnameinfo(entry->ifa_addr, length, host, sizeof host, nullptr, 0, NI_NUMERICHOST) != 0) {
      continue;
    }
    asio::error_code error;
    const asio::ip::address address = asio::ip::make_address(host, error);
    if (!error) found.push_back({entry->ifa_name, address});
  }
  return found;
}

bool is_link_local(const asio::ip::address& address) {
  return address.is_v6() && address.to_v6().is_link_local();
}

// Larger is better.
int preference(const asio::ip::address& address, bool route_is_v6) {
  if (is_link_local(address)) return 0;
  return address.is_v6() == route_is_v6 ? 2 : 1;
}

}  // namespace

std::string choose_address(const std::string& wish, const std::string& route) {
  asio::error_code error;
  const asio::ip::address literal = asio::ip::make_address(wish.empty() ? route : wish, error);
  if (!error) {
    if (literal.is_unspecified()) {
      fail<InvalidArgument>(
          "interface '{}' means every interface, which would let strangers in; give the name or "
          "address of one",
          wish.empty() ? route : wish);
    }
    return literal.to_string();
  }
  const asio::ip::address route_address = asio::ip::make_address(route, error);
  const bool route_is_v6 = !error && route_address.is_v6();
  const std::vector<Candidate> candidates = addresses_here();
  const Candidate* best = nullptr;
  std::set<std::string> names;
  for (const Candidate& candidate : candidates) {
    names.insert(candidate.interface);
    if (candidate.interface != wish) continue;
    if (best == nullptr ||
        preference(candidate.address, route_is_v6) > preference(best->address, route_is_v6)) {
      best = &candidate;
    }
  }
  if (best != nullptr) return best->address.to_string();
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  fail<InvalidArgument>(
      "interface '{}' is neither an address nor an interface with one; there are: {}", wish, list);
}

bool is_loopback(const std::string& address) {
  asio::error_code error;
  const asio::ip::address parsed = asio::ip::make_address(address, error);
  return !error && parsed.is_loopback();
}

}  // namespace weft::comm::tcp
