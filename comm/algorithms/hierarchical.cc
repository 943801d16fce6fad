// Hierarchical: first inside each host, where talking is cheap, then across hosts, each of which
// sends no more than it must. Put together from the other algorithms (compose.h).
//
// All-reduce of 2 hosts of 3 ranks (A B C on one, D E F on the other):
//
//   inside    A B C         D E F       reduce-scatter: A has the host's sum of part 0, B of part 1
//             |-|-|         |-|-|
//   across    A <---------> D           all-reduce of part 0, and beside it of part 1 by B and E,
//               B <---------> E         of part 2 by C and F: every rank and every link is busy,
//                 C <---------> F       and 1/3 of the data crosses on each
//   inside    A B C         D E F       all-gather
//
// All-gather: blocks go across on their rank's channel (the i-th ranks of all hosts), and each
// channel's are then gathered inside. Reduce-scatter is the same backwards.
//
// Channels are as many as the smallest host has ranks. A larger host has ranks left over that carry
// nothing across: inside it, every channel's part is reduced to its carrier by a chain (or tree),
// and broadcast by another. A single rank on some host makes it a matter of leaders. Ranks may be
// on hosts in any order, and hosts list their ranks in that of nearness, which rings follow.
//
// Rooted collectives and the barrier go by one rank a host: hierarchical_rooted.cc.
// Sources: Karonis et al., "Exploiting hierarchy in parallel computer networks to optimize
// collective operation performance", IPDPS 2000; for channels side by side, Cho, Finkler, Serrano,
// Kung and Hunter, "BlueConnect: decomposing all-reduce for deep learning on heterogeneous network
// hierarchy", IBM Journal of R&D 63 (2019).
#include "comm/algorithms/hierarchical.h"

#include <algorithm>

#include "comm/algorithms/common.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace hierarchical {

Place::Place(const Problem& problem)
    : map_(*problem.hosts),
      host_(map_.host_of[static_cast<std::size_t>(problem.rank)]),
      index_(index_in_host(map_, problem.rank)),
      channels_(host_sizes(map_).smallest) {
  WEFT_ASSERT(channels_ >= 1, "every host has ranks");
}

std::function<std::int32_t(std::int32_t)> Place::inside() const {
  return [this](std::int32_t inner) { return rank_at(host_, inner); };
}

std::function<std::int32_t(std::int32_t)> Place::across() const {
  return [this](std::int32_t inner) { return rank_at(inner, index_); };
}

Schedule emit_inner(Collective collective, std::int32_t rank, std::int32_t n) {
  const Problem inner{collective, rank, n, 0};
  if (n <= kRingMax) return emit_ring(inner);
  const bool many = collective == Collective::all_reduce && n > kHalvingHostsMax;
  return many ? emit_tree(inner) : emit_halving_doubling(inner);
}

Schedule emit_inner(Collective collective, std::int32_t rank, std::int32_t n, std::int32_t root) {
  const Problem inner{collective, rank, n, root};
  return n <= kRingMax ? emit_ring(inner) : emit_tree(inner);
}

void collect(Builder& b, const Place& place, const Carried& carried, const Home& from,
             const Home& to, const Home& way) {
  const std::int32_t n = place.ranks();
  if (n == 1) return;
  Embedding e{place.inside(), {}, from, to, way};
  if (n == place.channels()) {
    e.chunk_of = carried;
    embed(b, emit_inner(Collective::reduce_scatter, place.index(), n), e);
    return;
  }
  for (std::int32_t channel = 0; channel < place.channels(); ++channel) {
    const Schedule inner = emit_inner(Collective::reduce, place.index(), n, channel);
    e.chunk_of = [&](std::int32_t chunk) {
      return part_of(carried(channel), chunk, inner.chunks_per_block);
    };
    embed(b, inner, e);
  }
}

void spread(Builder& b, const Place& place, const Carried& carried, const Home& home) {
  const std::int32_t n = place.ranks();
  if (n == 1) return;
  Embedding e{place.inside(), {}, home, home};
  if (n == place.channels()) {
    e.chunk_of = carried;
    embed(b, emit_inner(Collective::all_gather, place.index(), n), e);
    return;
  }
  for (std::int32_t channel = 0; channel < place.channels(); ++channel) {
    const Schedule inner = emit_inner(Collective::broadcast, place.index(), n, channel);
    e.chunk_of = [&](std::int32_t chunk) {
      return part_of(carried(channel), chunk, inner.chunks_per_block);
    };
    embed(b, inner, e);
  }
}

namespace {

// The blocks of a host's ranks that a channel carries: every channels()-th of them.
Stretches blocks_of(const Place& place, std::int32_t host, std::int32_t channel) {
  Stretches blocks;
  for (std::int32_t i = channel; i < place.ranks(host); i += place.channels()) {
    blocks.push_back({place.rank_at(host, i), 1});
  }
  return blocks;
}

// Those of all hosts, from `host` on down, as the ring across sends (or brings) them.
Stretches blocks_downwards(const Place& place, std::int32_t host, std::int32_t channel) {
  Stretches all;
  for (std::int32_t k = 0; k < place.hosts(); ++k) {
    const Stretches blocks = blocks_of(place, ring_rank(host, -k, place.hosts()), channel);
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  return all;
}

// A channel's part of an all-reduce, in so many pieces, from number `first` on down.
Stretches pieces_downwards(std::int32_t chunk, std::int32_t count, std::int32_t pieces,
                           std::int32_t first) {
  Stretches all;
  for (std::int32_t k = 0; k < pieces; ++k) {
    const std::int32_t piece = ring_rank(first % pieces, -k, pieces);
    const std::int32_t begin = piece * count / pieces;
    all.push_back({chunk + begin, (piece + 1) * count / pieces - begin});
  }
  return all;
}

Schedule all_reduce(const Problem& problem) {
  const Place place(problem);
  const std::int32_t hosts = place.hosts();
  const std::int32_t part = hosts <= kHalvingHostsMax ? hosts : 2;  // chunks
  Builder b(problem, kName, place.channels() * part);
  const Home input = [&](Stretch s) { return b.input(s.chunk, s.count); };
  const Home output = [&](Stretch s) { return b.output(s.chunk, s.count); };
  // The ring across sends a host's left neighbour's chunk first, and last gets its right one's.
  // Halving inside moves many parts in one message, for which they must be whole.
  const bool halves = place.ranks() == place.channels() && place.ranks() > kRingMax;
  const std::int32_t pieces = halves ? 1 : std::min(part, kPiecesMax);
  const auto pieces_from = [part, pieces](std::int32_t first) {
    return
        [=](std::int32_t channel) { return pieces_downwards(channel * part, part, pieces, first); };
  };
  collect(b, place, pieces_from(ring_rank(place.host(), -1, hosts)), input, output, output);
  if (place.carries()) {
    const Schedule inner = emit_inner(Collective::all_reduce, place.host(), hosts);
    WEFT_ASSERT(inner.chunks_per_block == part, "a part is cut as the algorithm across needs it");
    const std::int32_t first = place.index() * part;
    Embedding e{place.across(),
                [first](std::int32_t chunk) {
                  return Stretches{{first + chunk, 1}};
                },
                place.ranks() > 1 ? output : input, output};
    e.completes = true;
    embed(b, inner, e);
  }
  spread(b, place, pieces_from(place.host()), output);
  return b.finish();
}

Schedule all_gather(const Problem& problem) {
  const Place place(problem);
  const std::int32_t channels = place.channels();
  Builder b(problem, kName, 1);
  const Home output = [&](Stretch s) { return b.output(s.chunk, s.count); };
  if (place.carries()) {
    for (std::int32_t i = place.index() + channels; i < place.ranks(); i += channels) {
      const std::int32_t rank = place.rank_at(place.host(), i);
      b.recv(rank, b.output(rank));
    }
    const Home own = [&](Stretch s) {
      return s.chunk == problem.rank ? b.input(0) : b.output(s.chunk, s.count);
    };
    const Embedding e{place.across(),
                      [&](std::int32_t host) { return blocks_of(place, host, place.index()); }, own,
                      output};
    embed(b, emit_inner(Collective::all_gather, place.host(), place.hosts()), e);
  } else {
    b.send(place.rank_at(place.host(), place.index() % channels), b.input(0));
  }
  spread(
      b, place,
      [&](std::int32_t channel) { return blocks_downwards(place, place.host(), channel); }, output);
  return b.finish();
}

Schedule reduce_scatter(const Problem& problem) {
  const Place place(problem);
  const std::int32_t channels = place.channels();
  const Carried carried = [&](std::int32_t channel) {
    return blocks_downwards(place, ring_rank(place.host(), -1, place.hosts()), channel);
  };
  Builder b(problem, kName, 1);
  const Home input = [&](Stretch s) { return b.input(s.chunk, s.count); };
  const Shelf sums(b, [&] {
    std::vector<std::int32_t> blocks;
    if (!place.carries() || place.ranks() == 1) return blocks;
    for (const Stretch& block : carried(place.index())) blocks.push_back(block.chunk);
    return blocks;
  }());
  const Home sum = [&](Stretch s) { return sums.at(s); };
  collect(b, place, carried, input, sum, nullptr);
  if (place.carries()) {
    const Home result = [&](Stretch s) {
      return s.chunk == problem.rank ? b.output(0) : sums.at(s);
    };
    Embedding e{place.across(),
                [&](std::int32_t host) { return blocks_of(place, host, place.index()); },
                place.ranks() > 1 ? sum : input, result};
    e.completes = true;
    embed(b, emit_inner(Collective::reduce_scatter, place.host(), place.hosts()), e);
    for (std::int32_t i = place.index() + channels; i < place.ranks(); i += channels) {
      const std::int32_t rank = place.rank_at(place.host(), i);
      b.send(rank, sums.at({rank, 1}));
    }
  } else {
    b.recv(place.rank_at(place.host(), place.index() % channels), b.output(0));
  }
  return b.finish();
}

}  // namespace

}  // namespace hierarchical

bool hierarchical_supports(const Problem& problem) {
  if (!problem.hosts || problem.collective == Collective::all_to_all ||
      static_cast<int>(problem.collective) >= kScheduledCollectives) {
    return false;
  }
  const HostMap& map = *problem.hosts;
  return map.host_of.size() == static_cast<std::size_t>(problem.world_size) &&
         map.hosts.size() >= 2 && map.hosts.size() < map.host_of.size();
}

Schedule emit_hierarchical(const Problem& problem) {
  WEFT_ASSERT(hierarchical_supports(problem), "hierarchical is asked for what it supports");
  switch (problem.collective) {
    case Collective::all_reduce:
      return hierarchical::all_reduce(problem);
    case Collective::all_gather:
      return hierarchical::all_gather(problem);
    case Collective::reduce_scatter:
      return hierarchical::reduce_scatter(problem);
    case Collective::broadcast:
      return hierarchical::broadcast(problem);
    case Collective::reduce:
      return hierarchical::reduce(problem);
    case Collective::gather:
      return hierarchical::gather(problem);
    case Collective::scatter:
      return hierarchical::scatter(problem);
    default:
      return hierarchical::barrier(problem);
  }
}

}  // namespace weft::comm
