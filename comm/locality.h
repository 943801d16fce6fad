// Who is near whom: what each rank says of the place where it runs, and the map of hosts that all
// ranks make of it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "comm/schedule/host_map.h"

namespace weft::comm {

struct Locality {
  // Processes with the same key are on one host: see this_locality().
  std::string key;
  std::string host;  // the machine's name, for people
  // The package, NUMA node and last-level cache that all CPUs this process may use belong to, by
  // hwloc's logical numbers; -1 where there are several of them, or nothing is known.
  int package = -1;
  int numa = -1;
  int l3 = -1;
  // CPUs of this machine that processes of this container may use, whatever this one is bound to;
  // -1: unknown. Of ranks that were not bound yet these are the cores they share.
  int cpus = -1;
  bool operator==(const Locality&) const = default;
};

// Where this process runs, now; some milliseconds for hwloc's look at the machine. The key is
// $WEFT_HOST_KEY if that is set and not empty, for tests and for containers of which the user knows
// better; else that of memory_space.h, which tells apart
//   - machines, by their boot ids, whatever their names; the name stands in if there is no boot id;
//   - PID namespaces: memory is opened, and processes are watched, by pid;
//   - network namespaces: who is given a network of its own is to be a host of its own;
//   - users: one may not open another's memory.
// Ranks with the same key are of one host for schedules, and try to share memory: a key that is set
// must not join what cannot. What cannot be read counts as equal: where one rank cannot read it,
// none of its neighbours can. Never throws.
Locality this_locality();

// For messages among ranks. Reading takes what is there: a field that is missing, or of the wrong
// type, is left as if nothing were known.
void to_json(nlohmann::json& json, const Locality& locality);
void from_json(const nlohmann::json& json, Locality& locality);

// The hosts of ranks 0..n-1, of which localities[r] is rank r's: the same on every rank that has
// the same localities. Hosts come in the order of their lowest ranks. Within a host ranks of one
// package stay together, within it those of one NUMA node, within it those of one last-level cache,
// each of these groups in the order of its lowest rank; so the host's lowest rank leads, and the
// ring crosses from package to package as rarely as it can. Where nothing is known that is the
// order of ranks. A rank without a key is with those that have none either and whose host is called
// the same; without a name, too, it is alone.
HostMap make_host_map(std::span<const Locality> localities);

}  // namespace weft::comm
