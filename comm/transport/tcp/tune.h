// What a data socket is told before it connects or listens.
#pragma once

#include <asio/ip/address.hpp>

namespace weft::comm::tcp {

// Takes a loopback connection out of the hands of a pacing congestion control. Where BBR is the
// system's default it spreads packets over time by the rate that it has measured so far, which on
// loopback costs some 75 us a small message and holds large ones to a tenth of what memory allows.
// There is no congestion to control between two processes of one host; Reno, which every Linux has
// and lets everybody choose, does not pace. Must be called before connect() or listen(): a socket
// that has once been paced stays so. Other addresses keep the system's choice.
void tune(int fd, const asio::ip::address& address);

}  // namespace weft::comm::tcp
