// Networks whose costs are zero but for what a test looks at, so that times can be worked out by
// hand.
#pragma once

#include "comm/simulate/network.h"
#include "comm/simulate/simulator.h"

namespace weft::comm::simulate {

// Links of 8 Gbit/s are 1000 bytes a microsecond; computing costs nothing.
inline Network plain(std::int32_t ranks, std::int32_t ranks_per_host = 1) {
  Network network = default_network(ranks, ranks_per_host);
  network.link = {.up_gbit_s = 8,
                  .down_gbit_s = 8,
                  .latency_us = 0,
                  .payload_share = 1,
                  .frame_bytes = 0,
                  .burst_bytes = 0,
                  .send_buffer_bytes = 0};
  network.memory = {.latency_us = 0, .message_us = 0, .copy_gbyte_s = 1e6, .host_gbyte_s = 0};
  network.cpu = {.send_us = 0,
                 .receive_us = 0,
                 .send_gbyte_s = 1e6,
                 .receive_gbyte_s = 1e6,
                 .reduce_gbyte_s = 1e6,
                 .copy_gbyte_s = 1e6,
                 .wake_us = 0,
                 .spin_us = 60,
                 .cores_per_host = 0,
                 .cores_of_all_hosts = 0};
  return network;
}

inline constexpr double kLinkBytesPerUs = 1000;

inline Task task(Collective collective, std::string_view algorithm, std::int64_t bytes,
                 int tiles = 1) {
  Task result;
  result.collective = collective;
  result.algorithm = algorithm;
  result.bytes = Bytes(bytes);
  result.tiles = tiles;
  result.fused = algorithm == "ring" || algorithm == "tree";
  return result;
}

inline double us(const Result& result) { return result.seconds * 1e6; }

}  // namespace weft::comm::simulate
