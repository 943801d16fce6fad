#include "comm/select/across_hosts.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "comm/algorithms/hierarchical.h"

namespace weft::comm {

namespace {

// The most ranks of any one host that have a neighbour in rank order on another host: they are the
// ones that a flat ring, and nearly so a tree, makes talk across.
double ranks_at_the_border(const HostMap& map) {
  std::vector<std::int32_t> border(map.hosts.size());
  const std::size_t n = map.host_of.size();
  for (std::size_t r = 0; r < n; ++r) {
    const auto host = static_cast<std::size_t>(map.host_of[r]);
    border[host] += map.host_of[r] != map.host_of[(r + 1) % n] ? 1 : 0;
  }
  return *std::max_element(border.begin(), border.end());
}

LinkCosts shared_by(LinkCosts costs, double ranks) {
  costs.per_byte *= ranks;
  return costs;
}

// Costs of rounds of which this proportion goes across.
LinkCosts mix(const LinkCosts& inside, const LinkCosts& across, double proportion) {
  const auto at = [&](double a, double b) { return a + (b - a) * proportion; };
  return {at(inside.latency, across.latency), at(inside.per_message, across.per_message),
          at(inside.per_byte, across.per_byte), at(inside.per_byte_reduce, across.per_byte_reduce)};
}

// Of a tree over ranks of which those of a host follow one another, only the topmost levels cross.
double tree_rounds_across(const HostMap& map, double border) {
  if (border > 1) return 1;
  return std::log2(static_cast<double>(map.hosts.size())) /
         std::log2(static_cast<double>(map.host_of.size()));
}

// Rounds of recursive doubling in which some pair of ranks is not on one host.
double doubling_rounds_across(const HostMap& map) {
  const std::size_t core = std::bit_floor(map.host_of.size());
  double rounds = 0;
  double crossing = 0;
  for (std::size_t bit = 1; bit < core; bit *= 2, ++rounds) {
    std::size_t r = 0;
    while (r < core && map.host_of[r] == map.host_of[r ^ bit]) ++r;
    crossing += r < core ? 1 : 0;
  }
  return rounds > 0 ? crossing / rounds : 1;
}

Bytes fraction(Bytes bytes, double of) {
  return Bytes(static_cast<std::int64_t>(static_cast<double>(bytes.value) / of));
}

std::string_view name_inside(std::int32_t n, bool rooted) {
  if (n <= hierarchical::kRingMax) return "ring";
  return rooted ? "tree" : "halving_doubling";
}

// Moves everything between the ranks of the largest host and those that carry it across.
double scatter_or_gather_inside(const HostMap& map, Collective collective, Bytes bytes,
                                const LinkCosts& inside) {
  const auto [smallest, n] = host_sizes(map);
  const bool gathers = collective == Collective::all_gather;
  if (n == smallest) {
    return expected_seconds(name_inside(n, false), {collective, 0, n, 0}, bytes, inside);
  }
  const Collective rooted = gathers ? Collective::broadcast : Collective::reduce;
  return expected_seconds(name_inside(n, true), {rooted, 0, n, 0}, bytes, inside);
}

// Two phases through which the tiles of a message go one after the other.
double pipeline(double one, double other, double tiles) {
  return std::max(one, other) + std::min(one, other) / tiles;
}

}  // namespace

LinkCosts flat_costs(std::string_view algorithm, const Problem& problem, const LinkCosts& across,
                     const LinkCosts& inside) {
  if (!problem.hosts || problem.hosts->hosts.size() < 2) return across;
  const HostMap& map = *problem.hosts;
  const double border = ranks_at_the_border(map);
  if (algorithm == "ring") return shared_by(across, border);
  if (algorithm == "tree") {  // a pipeline: as wide as its narrowest link
    LinkCosts costs = shared_by(across, border);
    costs.latency = mix(inside, across, tree_rounds_across(map, border)).latency;
    return costs;
  }
  const LinkCosts shared = shared_by(across, host_sizes(map).largest);
  return algorithm == "recursive_doubling" ? mix(inside, shared, doubling_rounds_across(map))
                                           : shared;
}

double hierarchical_seconds(const Problem& problem, Bytes bytes, const LinkCosts& across,
                            const LinkCosts& inside) {
  const HostMap& map = *problem.hosts;
  const auto hosts = static_cast<std::int32_t>(map.hosts.size());
  const HostSizes sizes = host_sizes(map);
  const double channels = sizes.smallest;
  const LinkCosts channel = shared_by(across, channels);
  const auto side_by_side = [&](std::string_view algorithm, Collective collective) {
    return expected_seconds(algorithm, {collective, 0, hosts, 0}, fraction(bytes, channels),
                            channel);
  };
  const auto by_speakers = [&](std::string_view algorithm, Collective collective) {
    return expected_seconds(algorithm, {collective, 0, hosts, 0}, bytes, across);
  };
  const auto in_host = [&](std::string_view algorithm, Collective collective, Bytes size) {
    return expected_seconds(algorithm, {collective, 0, sizes.largest, 0}, size, inside);
  };
  const std::string_view inner = name_inside(sizes.largest, true);
  const std::string_view outer = name_inside(hosts, false);
  const Bytes host_bytes = fraction(bytes, double(problem.world_size) / sizes.largest);
  switch (problem.collective) {
    case Collective::all_reduce:
      return scatter_or_gather_inside(map, Collective::reduce_scatter, bytes, inside) +
             side_by_side(hosts > hierarchical::kHalvingHostsMax ? "tree" : outer,
                          Collective::all_reduce) +
             scatter_or_gather_inside(map, Collective::all_gather, bytes, inside);
    case Collective::all_gather:
    case Collective::reduce_scatter:
      return scatter_or_gather_inside(map, problem.collective, bytes, inside) +
             side_by_side(outer, problem.collective);
    case Collective::broadcast:
    case Collective::reduce:
      return pipeline(by_speakers("tree", problem.collective),
                      in_host(inner, problem.collective, bytes),
                      choose_tiles("hierarchical", problem, bytes).tiles);
    case Collective::gather:
    case Collective::scatter:
      return by_speakers("tree", problem.collective) +
             in_host("direct", problem.collective, host_bytes);
    default:  // barrier
      return by_speakers("halving_doubling", Collective::barrier) +
             2 * in_host("direct", Collective::barrier, Bytes(0));
  }
}

double hierarchical_message_bytes(const Problem& problem, double bytes) {
  const HostMap& map = *problem.hosts;
  const auto hosts = static_cast<std::int32_t>(map.hosts.size());
  switch (problem.collective) {
    case Collective::all_reduce: {
      const bool many = hosts > hierarchical::kHalvingHostsMax;
      return bytes / host_sizes(map).smallest /
             (many ? 2 : std::min(hosts, hierarchical::kPiecesMax));
    }
    case Collective::broadcast:
    case Collective::reduce:
      return bytes / 2;
    default:
      return bytes / problem.world_size;
  }
}

}  // namespace weft::comm
