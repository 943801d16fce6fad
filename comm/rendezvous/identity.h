// Who is who in a job, and the secret that proves it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace weft::comm {

using Secret = std::array<std::uint8_t, 32>;

// The job a connection belongs to; part of every handshake, so that jobs, and restarts of one job,
// never mix.
struct JobIdentity {
  std::string job_id;       // at most 64 bytes
  std::uint32_t epoch = 0;  // counts restarts
  Secret secret{};
};

// One end of a connection. Agents (the launchers' ends of the store) use rank -1 - node_rank.
struct PeerIdentity {
  std::int32_t rank = 0;
  std::int32_t world_size = 1;
};

}  // namespace weft::comm
