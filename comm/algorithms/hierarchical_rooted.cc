// The hierarchical collectives that one rank a host speaks for: the root for its own host, the
// leader (the first of the map's list) for the others.
//
//   broadcast, root E of hosts A B C and D E F and G H:
//
//         E ------> A          across: the double tree over E A G
//         | `-----> G
//        D,F    B,C   H        inside: a chain (or a tree) from E, A, G; as a tile comes, it goes
//        on
//
//   reduce, gather     the other way round
//   scatter            as broadcast, with the blocks of a host's ranks as one
//   barrier            to the leader, dissemination among leaders, and back
#include "comm/algorithms/common.h"
#include "comm/algorithms/hierarchical.h"

namespace weft::comm::hierarchical {

namespace {

// Who speaks for which host.
class Speakers {
 public:
  Speakers(const Place& place, std::int32_t root) : place_(place), root_(root) {}

  std::int32_t of(std::int32_t host) const {
    return host == root_host() ? root_ : place_.rank_at(host, 0);
  }
  std::int32_t root_host() const { return place_.host_of(root_); }
  std::int32_t mine() const { return of(place_.host()); }
  std::int32_t my_index() const { return place_.index_of(mine()); }  // of the speaker, in the host
  std::function<std::int32_t(std::int32_t)> across() const {
    return [this](std::int32_t host) { return of(host); };
  }

 private:
  const Place& place_;
  std::int32_t root_;
};

constexpr std::int32_t kHalves = 2;  // of the double tree across

// An inner block of `parts` chunks is the whole of two.
Stretches halves(std::int32_t chunk, std::int32_t parts) {
  return part_of({{0, 1}, {1, 1}}, chunk, parts);
}

std::function<Stretches(std::int32_t)> halves_of(const Schedule& inner) {
  return [parts = inner.chunks_per_block](std::int32_t chunk) { return halves(chunk, parts); };
}

// The blocks of a host's ranks, in the order of ranks, those that touch as one.
Stretches host_blocks(const Place& place, std::int32_t host) {
  std::vector<std::int32_t> ranks;
  for (std::int32_t i = 0; i < place.ranks(host); ++i) ranks.push_back(place.rank_at(host, i));
  std::sort(ranks.begin(), ranks.end());
  Stretches blocks;
  for (const std::int32_t rank : ranks) {
    if (!blocks.empty() && blocks.back().end() == rank) {
      ++blocks.back().count;
    } else {
      blocks.push_back({rank, 1});
    }
  }
  return blocks;
}

// Scratch of a speaker other than the root for its host's blocks, if it has any but its own.
Shelf host_shelf(Builder& b, const Place& place, bool needed) {
  std::vector<std::int32_t> ranks;
  for (std::int32_t i = 0; needed && i < place.ranks(); ++i) {
    ranks.push_back(place.rank_at(place.host(), i));
  }
  return Shelf(b, std::move(ranks));
}

}  // namespace

Schedule broadcast(const Problem& problem) {
  const Place place(problem);
  const Speakers speakers(place, problem.root);
  Builder b(problem, kName, kHalves);
  const Home output = [&](Stretch s) { return b.output(s.chunk, s.count); };
  if (problem.rank == speakers.mine()) {
    const Schedule inner =
        emit_tree({Collective::broadcast, place.host(), place.hosts(), speakers.root_host()});
    embed(b, inner, {speakers.across(), halves_of(inner), output, output});
  }
  if (place.ranks() > 1) {
    const Schedule inner =
        emit_inner(Collective::broadcast, place.index(), place.ranks(), speakers.my_index());
    embed(b, inner, {place.inside(), halves_of(inner), output, output});
  }
  return b.finish();
}

Schedule reduce(const Problem& problem) {
  const Place place(problem);
  const Speakers speakers(place, problem.root);
  Builder b(problem, kName, kHalves);
  const bool speaks = problem.rank == speakers.mine();
  const bool root = problem.rank == problem.root;
  const Home input = [&](Stretch s) { return b.input(s.chunk, s.count); };
  const Home output = [&](Stretch s) { return b.output(s.chunk, s.count); };
  const Shelf shelf(b, speaks && !root && place.ranks() > 1 ? std::vector<std::int32_t>{0, 1}
                                                            : std::vector<std::int32_t>{});
  const Home sum = root ? output : Home([&](Stretch s) { return shelf.at(s); });
  if (place.ranks() > 1) {
    const Schedule inner =
        emit_inner(Collective::reduce, place.index(), place.ranks(), speakers.my_index());
    embed(b, inner, {place.inside(), halves_of(inner), input, sum});
  }
  if (speaks) {
    const Schedule inner =
        emit_tree({Collective::reduce, place.host(), place.hosts(), speakers.root_host()});
    Embedding e{speakers.across(), halves_of(inner), place.ranks() > 1 ? sum : input, output};
    e.completes = true;
    embed(b, inner, e);
  }
  return b.finish();
}

Schedule gather(const Problem& problem) {
  const Place place(problem);
  const Speakers speakers(place, problem.root);
  Builder b(problem, kName, 1);
  const bool speaks = problem.rank == speakers.mine();
  const bool root = problem.rank == problem.root;
  const bool alone = place.ranks() == 1;
  const Shelf shelf = host_shelf(b, place, speaks && !root && !alone);
  const Home input = [&](Stretch) { return b.input(0); };
  const Home output = [&](Stretch s) { return b.output(s.chunk, s.count); };
  const Home held = root ? output : Home([&](Stretch s) { return shelf.at(s); });
  if (!alone) {
    const Schedule inner =
        emit_direct({Collective::gather, place.index(), place.ranks(), speakers.my_index()});
    embed(b, inner,
          {place.inside(),
           [&](std::int32_t i) {
             return Stretches{{place.rank_at(place.host(), i), 1}};
           },
           input, held});
  }
  if (speaks) {
    const Schedule inner =
        emit_tree({Collective::gather, place.host(), place.hosts(), speakers.root_host()});
    embed(b, inner,
          {speakers.across(), [&](std::int32_t host) { return host_blocks(place, host); },
           alone ? input : held, output});
  }
  return b.finish();
}

Schedule scatter(const Problem& problem) {
  const Place place(problem);
  const Speakers speakers(place, problem.root);
  Builder b(problem, kName, 1);
  const bool speaks = problem.rank == speakers.mine();
  const bool root = problem.rank == problem.root;
  const bool alone = place.ranks() == 1;
  const Shelf shelf = host_shelf(b, place, speaks && !root && !alone);
  const Home input = [&](Stretch s) { return b.input(s.chunk, s.count); };
  const Home output = [&](Stretch) { return b.output(0); };
  const Home held = root ? input : Home([&](Stretch s) { return shelf.at(s); });
  if (speaks) {
    const Schedule inner =
        emit_tree({Collective::scatter, place.host(), place.hosts(), speakers.root_host()});
    embed(b, inner,
          {speakers.across(), [&](std::int32_t host) { return host_blocks(place, host); }, input,
           alone ? output : held});
  }
  if (!alone) {
    const Schedule inner =
        emit_direct({Collective::scatter, place.index(), place.ranks(), speakers.my_index()});
    embed(b, inner,
          {place.inside(),
           [&](std::int32_t i) {
             return Stretches{{place.rank_at(place.host(), i), 1}};
           },
           held, output});
  }
  return b.finish();
}

Schedule barrier(const Problem& problem) {
  const Place place(problem);
  const Speakers leaders(place, place.rank_at(0, 0));
  Builder b(problem, kName, 1);
  const bool leads = place.index() == 0;
  const bool alone = place.ranks() == 1;
  const auto token = [](std::int32_t) { return Stretches{{0, 1}}; };
  const Shelf shelf(b,
                    leads && !alone ? std::vector<std::int32_t>{0} : std::vector<std::int32_t>{});
  const Home input = [&](Stretch) { return b.input(0); };
  const Home output = [&](Stretch) { return b.output(0); };
  const Home heard = [&](Stretch s) { return shelf.at(s); };
  if (!alone) {
    embed(b, emit_direct({Collective::reduce, place.index(), place.ranks(), 0}),
          {place.inside(), token, input, heard});
  }
  if (leads) {
    embed(b, emit_halving_doubling({Collective::barrier, place.host(), place.hosts(), 0}),
          {leaders.across(), token, alone ? input : heard, output});
  }
  if (!alone) {
    embed(b, emit_direct({Collective::broadcast, place.index(), place.ranks(), 0}),
          {place.inside(), token, output, output});
  }
  return b.finish();
}

}  // namespace weft::comm::hierarchical
