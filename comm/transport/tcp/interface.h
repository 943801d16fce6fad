// Which address to listen on.
#pragma once

#include <string>

namespace weft::comm::tcp {

// A literal address for `wish`: the name of an interface ("eth0"), a literal address, or empty for
// `route`, the address that the route to the rest of the job takes. Of an interface with several
// addresses the one of route's family is taken, IPv4 before IPv6 otherwise. Never a wildcard.
// Throws InvalidArgument listing the interfaces there are.
std::string choose_address(const std::string& wish, const std::string& route);

bool is_loopback(const std::string& address);

}  // namespace weft::comm::tcp
