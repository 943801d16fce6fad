// What a choice is made from: the costs of each transport, and what was measured. Built in, or
// fitted to the machines by `weft tune` (docs/tuning.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "comm/schedule/schedule.h"
#include "kernels/base/units.h"

namespace weft::comm {

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

// What a collective costs where all ranks address each other's memory, in seconds.
struct SharedCosts {
  double wait;             // until all have come, each rank on a core of its own
  double wait_crowded;     // the same where ranks share cores
  double per_byte_stage;   // of an ordinary buffer: to copy it where the others see it
  double per_byte_copy;    // out of another rank's memory
  double per_byte_reduce;  // of one operand in another rank's memory
};

// The waits are those at which one-shot and two-shot cost the same at 8 KiB a rank for two ranks
// with cores of their own, and at 32 KiB for four ranks that share cores.
inline constexpr SharedCosts kSharedCosts{0.82e-6, 9.0e-6, 1.0 / 10e9, 1.0 / 10e9, 1.0 / 10e9};

// Ranks that address each other's CUDA memory, on one H100 or several joined by NVLink: a flag is
// seen after some microseconds, and memory moves at hundreds of GB/s. Guesses, until measured.
inline constexpr SharedCosts kCudaCosts{2.5e-6, 2.5e-6, 1.0 / 1.2e12, 1.0 / 300e9, 1.0 / 300e9};

// What carries the messages: memory of one host, sockets inside a host, sockets between hosts, or
// CUDA memory of one host.
enum class Medium : std::uint8_t { memory, tcp, network, cuda };
inline constexpr int kMediums = 4;
std::string_view name_of(Medium medium);  // "shm", "tcp", "network", "cuda", as in files
std::optional<Medium> parse_medium(std::string_view name);

// Which algorithm was the fastest up to which size; the sizes rise. Beyond the last the model
// decides.
struct Measured {
  struct Entry {
    std::int64_t up_to_bytes;
    std::string_view algorithm;  // a name of algorithms()
    bool operator==(const Entry&) const = default;
  };
  Medium medium = Medium::tcp;
  Collective collective = Collective::all_reduce;
  std::int32_t ranks = 0;
  std::vector<Entry> entries;
  bool operator==(const Measured&) const = default;
};

struct Tuning {
  std::string source = "built in";  // or the file's path
  // Where and when it was measured; empty and 0: built in.
  std::string host;
  std::string date;
  std::int32_t cores = 0;
  std::int32_t ranks = 0;

  SharedCosts shared = kSharedCosts;
  LinkCosts memory = kMemoryCosts;  // of messages through memory
  LinkCosts tcp = kSocketCosts;
  LinkCosts network = kNetworkCosts;
  SharedCosts cuda = kCudaCosts;
  // A rank's contribution up to here is sent to everybody at once, its flag beside the data.
  double cuda_small_bytes = 16 << 10;
  // A message this long costs little more than its bytes, and two of them still fit a core's cache.
  double tile_bytes = 512 << 10;
  std::vector<Measured> measured;

  const LinkCosts& costs(Medium medium) const;
  // What was measured for this problem and size; empty: nothing.
  std::string_view measured_choice(Medium medium, const Problem& problem, Bytes bytes) const;
};

const Tuning& built_in_tuning();

}  // namespace weft::comm
