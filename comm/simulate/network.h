// The modelled network: hosts joined by links to switches, ranks on the hosts, and what else they
// compute and carry. Read from a small JSON file (docs/simulate.md has every field); what a file
// leaves out is as below.
//
//        rack uplink   core   rack uplink            a message of one host to another passes the
//      ,------[ ]------[ ]------[ ]------.           sender's link up, both racks' uplinks and the
//      | up                              | down      core where there are any, and the receiver's
//   [host 0]  [host 1]                [host 2]       link down
//   ranks 0 1    2 3                     4 5         ranks of one host share its memory instead
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/schedule/host_map.h"

namespace weft::comm::simulate {

// Of every host. Rates are 10^9 bits a second, one direction.
struct LinkModel {
  double up_gbit_s = 100;
  double down_gbit_s = 100;
  double latency_us = 10;        // from the last byte sent to the last byte received
  double payload_share = 0.95;   // of the rate; the rest is packet headers
  double frame_bytes = 56;       // in front of every message
  double burst_bytes = 0;        // pass at once before the rate holds, as a token bucket's do
  double send_buffer_bytes = 0;  // a send is complete when no more than this is left of it
};

// Groups of neighbouring hosts below one switch. hosts 0: all below one switch that never limits.
struct RackModel {
  std::int32_t hosts = 0;
  double oversubscription = 1;  // the hosts' links together to the uplink
  double latency_us = 0;        // more, for what leaves the rack
};

// The switch above the racks (or hosts), carrying everything that crosses it. 0: never limits.
struct CoreModel {
  double gbit_s = 0;
};

// Messages between ranks of one host. Rates are 10^9 bytes a second.
struct MemoryModel {
  double latency_us = 1;
  double message_us = 0.3;   // each, of the sender's and of the receiver's time
  double copy_gbyte_s = 10;  // of a rank that copies from another's memory
  double host_gbyte_s = 0;   // of all ranks of a host together; 0: never limits
};

// One rank computes on one core, one thing at a time.
struct CpuModel {
  double send_us = 3;  // a message over the network
  double receive_us = 3;
  double send_gbyte_s = 6;     // into the socket, checksum included
  double receive_gbyte_s = 6;  // out of it, checksum included
  double reduce_gbyte_s = 10;  // of each operand
  double copy_gbyte_s = 10;
  double wake_us = 0;  // until a rank that waited longer than spin_us goes on
  double spin_us = 60;
  std::int32_t cores_per_host = 0;      // that its ranks share; 0: one each
  std::int32_t cores_of_all_hosts = 0;  // hosts that are namespaces of one machine; 0: not shared
};

// Who is slow. Of a host: all its ranks, and its link.
struct Straggler {
  std::int32_t rank = -1;  // one of the two is given
  std::int32_t host = -1;
  double cpu_slowdown = 1;   // computing takes so many times as long
  double link_slowdown = 1;  // of a host only
  double delay_us = 0;       // enters the collective so much later
};

// What others use of a link. host -1: of every host.
struct Background {
  std::int32_t host = -1;
  double up_share = 0;
  double down_share = 0;
};

struct Network {
  std::vector<std::int32_t> ranks_on_hosts;  // host by host; ranks are numbered through them
  LinkModel link;
  RackModel rack;
  CoreModel core;
  MemoryModel memory;
  CpuModel cpu;
  std::vector<Straggler> stragglers;
  std::vector<Background> background;

  std::int32_t ranks() const;
  std::int32_t hosts() const { return static_cast<std::int32_t>(ranks_on_hosts.size()); }
};

// What nobody said anything about: `ranks` on hosts of `ranks_per_host` (the last may have fewer).
Network default_network(std::int32_t ranks, std::int32_t ranks_per_host);

// The network that a file describes, for so many ranks. `ranks_per_host` 0: what the file says, or
// one rank a host. Throws IoError if the file cannot be read; InvalidArgument, naming file, line
// and field, for what is no JSON, unknown, given twice, of the wrong type, or out of range.
Network read_network(const std::string& path, std::int32_t ranks, std::int32_t ranks_per_host);

// The same from text; `name` stands for the file in messages.
Network parse_network(const std::string& text, const std::string& name, std::int32_t ranks,
                      std::int32_t ranks_per_host);

std::shared_ptr<const HostMap> host_map(const Network& network);

}  // namespace weft::comm::simulate
