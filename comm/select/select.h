// Which algorithm for which size, when nobody said: a cost model of latency and bandwidth.
//
// A pure function of its arguments, none of which depends on the rank, so all ranks agree.
#pragma once

#include <string_view>

#include "comm/schedule/schedule.h"
#include "kernels/base/units.h"

namespace weft::comm {

struct Choice {
  std::string_view algorithm;  // a name of algorithms()
  int tiles = 1;               // for tile()
  bool fused = false;          // whether to fuse()
};

// What a message and a byte cost, in seconds. A message costs the rank that sends and the one that
// receives `per_message` each, and arrives `latency` later.
struct LinkCosts {
  double latency;
  double per_message;
  double per_byte;         // through one rank, each direction
  double per_byte_reduce;  // of one operand of a reduction, or of a copy
};

// Sockets on loopback: a message about 5-8 us, 5-10 GB/s a core.
inline constexpr LinkCosts kSocketCosts{6e-6, 3e-6, 1.0 / 6e9, 1.0 / 10e9};
// Between hosts of which nothing is known: 10 Gbit/s Ethernet, one host's link.
inline constexpr LinkCosts kNetworkCosts{30e-6, 5e-6, 1.0 / 1.25e9, 1.0 / 10e9};
// Threads of one process: a flag is seen within a microsecond, memory moves at memory speed.
inline constexpr LinkCosts kMemoryCosts{1e-6, 3e-7, 1.0 / 10e9, 1.0 / 10e9};

// `bytes`: of the wide buffer (wide_buffer()) as a whole; of all_to_all, which knows only its own
// side, it is ignored. `problem.rank` is ignored. `once`: only among completes_once().
// Where problem.hosts tells of several hosts, `costs` are those of one host's link to the others,
// shared by its ranks, and `inside` those between two ranks of one host.
Choice choose(const Problem& problem, Bytes bytes, int lanes = 1,
              const LinkCosts& costs = kSocketCosts, bool once = false,
              const LinkCosts& inside = kMemoryCosts);

// Where all ranks can address each other's memory; `bytes` as in choose(). crowded: ranks share
// cores, so that waiting for one another takes microseconds.
std::string_view choose_on_memory(const Problem& problem, Bytes bytes, bool crowded);

// How an algorithm named by the user is to be cut for this size.
Choice choose_tiles(std::string_view algorithm, const Problem& problem, Bytes bytes, int lanes = 1);

// Seconds the model expects; for tests and for `weft bench`'s reports.
double expected_seconds(std::string_view algorithm, const Problem& problem, Bytes bytes,
                        const LinkCosts& costs, const LinkCosts& inside = kMemoryCosts);

}  // namespace weft::comm
