// What the hierarchical schedules share: where a rank stands among hosts, and what happens inside.
#pragma once

#include <cstdint>
#include <functional>

#include "comm/algorithms/compose.h"
#include "comm/schedule/schedule.h"

namespace weft::comm::hierarchical {

inline constexpr const char* kName = "hierarchical";

// Up to so many ranks a ring (or a chain), whose neighbours are near and whose fused steps keep no
// copies; beyond, logarithmically many rounds. Each round costs a latency, of which the ring's
// 2(n-1) stay below halving's 2 log2(n) messages (about 1.5 a round) plus their wrapped runs up to
// 8 ranks.
inline constexpr std::int32_t kRingMax = 8;
// Beyond so many hosts the all-reduce across is a double tree, of 2 chunks instead of one a host:
// its schedule stays short, and its chunks of a size worth sending.
inline constexpr std::int32_t kHalvingHostsMax = 512;
// A part of an all-reduce is moved inside the host in so many pieces at most, so that the first is
// on its way across while the others are still being summed.
inline constexpr std::int32_t kPiecesMax = 8;

// One rank among hosts. Host h's rank number i, in the order of the map, is its i-th local rank.
class Place {
 public:
  explicit Place(const Problem& problem);

  std::int32_t host() const { return host_; }
  std::int32_t index() const { return index_; }
  std::int32_t hosts() const { return static_cast<std::int32_t>(map_.hosts.size()); }
  std::int32_t ranks(std::int32_t host) const {
    return static_cast<std::int32_t>(map_.hosts[static_cast<std::size_t>(host)].size());
  }
  std::int32_t ranks() const { return ranks(host_); }  // of this rank's host
  std::int32_t rank_at(std::int32_t host, std::int32_t index) const {
    return map_.hosts[static_cast<std::size_t>(host)][static_cast<std::size_t>(index)];
  }
  std::int32_t host_of(std::int32_t rank) const {
    return map_.host_of[static_cast<std::size_t>(rank)];
  }
  std::int32_t index_of(std::int32_t rank) const { return index_in_host(map_, rank); }
  // Channels across hosts: as many as the smallest host has ranks. Channel i connects the i-th
  // local ranks of all hosts.
  std::int32_t channels() const { return channels_; }
  bool carries() const { return index_ < channels(); }

  // Ranks of an inner schedule among the ranks of this host; among those of this rank's channel.
  std::function<std::int32_t(std::int32_t)> inside() const;
  std::function<std::int32_t(std::int32_t)> across() const;

 private:
  const HostMap& map_;
  std::int32_t host_;
  std::int32_t index_;
  std::int32_t channels_;
};

// reduce_scatter, all_gather, all_reduce, for n >= 2 ranks.
Schedule emit_inner(Collective collective, std::int32_t rank, std::int32_t n);
// reduce and broadcast among the ranks of a host.
Schedule emit_inner(Collective collective, std::int32_t rank, std::int32_t n, std::int32_t root);

// The stretches a channel carries, in the order in which they had best be moved.
using Carried = std::function<Stretches(std::int32_t channel)>;

// Inside the host: sums what each channel carries at the rank that carries it. `from` holds a
// rank's own contribution, `to` gets the sum (on the carrier), `way` holds what passes through.
void collect(Builder& b, const Place& place, const Carried& carried, const Home& from,
             const Home& to, const Home& way);
// Inside the host: gives what each carrier has in `home` to all others, there.
void spread(Builder& b, const Place& place, const Carried& carried, const Home& home);

// hierarchical_rooted.cc
Schedule broadcast(const Problem& problem);
Schedule reduce(const Problem& problem);
Schedule gather(const Problem& problem);
Schedule scatter(const Problem& problem);
Schedule barrier(const Problem& problem);

}  // namespace weft::comm::hierarchical
