// What messages travel through: links, uplinks, core and memory, each serving one message after
// the other in the order in which they set off.
//
// A resource of rate r is busy with B bytes for B / r; the message's last byte leaves it when the
// resource is done and the last byte has come in, whichever is later (cut-through: stages overlap).
// A token bucket lets what was saved up, `burst` bytes at most, pass at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/simulate/network.h"

namespace weft::comm::simulate {

// Times are in microseconds throughout, rates in bytes a microsecond.
struct Resource {
  double rate = 0;   // 0: never limits
  double burst = 0;  // bytes
  double busy_until = 0;
  double busy = 0;  // in all
  double bytes = 0;

  // `first` and `last`: when the first and the last byte come in. Gives when the last one leaves.
  double pass(double first, double last, double size) {
    bytes += size;
    if (rate <= 0) return last;
    const double needed = size / rate;
    busy += needed;
    busy_until = (busy_until > first ? busy_until : first) + needed;
    const double done = busy_until - burst / rate;
    return done > last ? done : last;
  }
};

struct Passage {
  double sent;     // when the last byte has left the sender's host, or been copied
  double arrived;  // when the last byte is at the receiver's
};

class Links {
 public:
  explicit Links(const Network& network);

  // A message of `payload` bytes that is ready at `start`. In order of calls, not of starts.
  Passage pass(std::int32_t from_host, std::int32_t to_host, double start, double payload);
  // Until when less than `buffer` bytes of what is being sent by this host are left.
  double drain_us(std::int32_t host, double buffer) const {
    return buffer / up_[static_cast<std::size_t>(host)].rate;
  }

  struct Use {
    std::string name;  // "host 3 up", "rack 0 down", "core", "host 2 memory"
    double busy_us = 0;
    double bytes = 0;
  };
  // The `count` busiest, busiest first; of equally busy ones those of the first hosts.
  std::vector<Use> busiest(std::size_t count) const;

 private:
  void slow_down();
  void build_racks();
  std::size_t rack_of(std::int32_t host) const {
    return static_cast<std::size_t>(host / network_.rack.hosts);
  }

  const Network& network_;
  std::vector<Resource> up_, down_;  // by host
  std::vector<Resource> rack_up_, rack_down_;
  std::vector<Resource> memory_;  // by host
  Resource core_;
};

}  // namespace weft::comm::simulate
