#include "comm/select/select.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "comm/algorithms/algorithms.h"
#include "comm/select/across_hosts.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

// Below this a message is not worth cutting: its fixed cost shows.
constexpr double kSmallestTileBytes = 64 << 10;
constexpr int kMaxTiles = 256;  // steps are prepared in advance; more of them hide nothing more
// One-shot gives every rank n operands of scratch; more than this is no small message any more.
constexpr double kOneShotScratchBytes = 64 << 20;

int rounds_of(int n) { return static_cast<int>(std::bit_width(static_cast<unsigned>(n - 1))); }

// What one collective costs: rounds that wait for one another, messages through the busiest rank,
// bytes through it, bytes it folds or copies.
struct Work {
  double rounds;
  double messages;
  double bytes;
  double folded;
};

double seconds(const Work& work, const LinkCosts& costs) {
  return work.rounds * costs.latency + work.messages * 2 * costs.per_message +
         work.bytes * costs.per_byte + work.folded * costs.per_byte_reduce;
}

// A chain of `hops` passes `bytes` on in as many tiles as pay off.
double chain_tiles(double hops, double bytes, const LinkCosts& costs) {
  const double fixed = costs.latency + 2 * costs.per_message;
  const double best = std::sqrt(std::max(0.0, hops - 1) * bytes * costs.per_byte / fixed);
  return std::clamp(best, 1.0, std::max(1.0, bytes / kSmallestTileBytes));
}

Work chain(double hops, double bytes, double folds, const LinkCosts& costs) {
  const double tiles = chain_tiles(hops, bytes, costs);
  const double steps = hops - 1 + tiles;
  return {steps, steps, steps * bytes / tiles, folds * steps * bytes / tiles};
}

Work ring_work(Collective collective, double n, double bytes, const LinkCosts& costs) {
  const double part = bytes * (n - 1) / n;
  switch (collective) {
    case Collective::all_reduce:
      return {2 * (n - 1), 2 * (n - 1), 2 * part, part};
    case Collective::reduce_scatter:
      return {n - 1, n - 1, part, part};
    case Collective::all_gather:
      return {n - 1, n - 1, part, bytes / n};
    case Collective::reduce:
      return chain(n - 1, bytes, 1, costs);
    default:
      return chain(n - 1, bytes, 0, costs);
  }
}

Work tree_work(Collective collective, double n, double bytes, const LinkCosts& costs) {
  const double depth = rounds_of(static_cast<int>(n));
  // Two trees, half the data each; a rank is inside one of them and has two children there.
  const Work down = chain(depth, bytes, 0, costs);
  switch (collective) {
    case Collective::barrier:
      return {2 * depth, 4 * depth, 0, 0};
    case Collective::broadcast:
      return {down.rounds, 3 * down.messages, down.bytes, 0};
    case Collective::reduce:
      return {down.rounds, 3 * down.messages, down.bytes, down.bytes};
    case Collective::all_reduce:
      return {2 * down.rounds, 6 * down.messages, 2 * down.bytes, down.bytes};
    default:  // gather and scatter by one binomial tree; an inner rank keeps up to half of all
      return {depth, depth, bytes * (n - 1) / n, bytes / 2};
  }
}

Work halving_work(Collective collective, double n, double bytes) {
  const double rounds = rounds_of(static_cast<int>(n));
  const double part = bytes * (n - 1) / n;
  // A run of chunks that wraps round the end is two messages, on average in every other round.
  switch (collective) {
    case Collective::all_reduce:
      return {2 * rounds, 3 * rounds, 2 * part, part};
    case Collective::reduce_scatter:
      return {rounds, 1.5 * rounds, part, part};
    case Collective::all_gather:
      return {rounds, 1.5 * rounds, part, bytes / n};
    default:
      return {rounds, rounds, 0, 0};  // barrier
  }
}

Work direct_work(Collective collective, double n, double bytes) {
  const double part = bytes * (n - 1) / n;
  switch (collective) {
    case Collective::all_reduce:
      return {1, n - 1, (n - 1) * bytes, (n - 1) * bytes};
    case Collective::reduce_scatter:
      return {1, n - 1, part, bytes};
    case Collective::broadcast:
      return {1, n - 1, (n - 1) * bytes, 0};
    case Collective::reduce:
      return {1, n - 1, (n - 1) * bytes, (n - 1) * bytes};
    case Collective::barrier:
      return {1, n - 1, 0, 0};
    default:
      return {1, n - 1, part, bytes / n};
  }
}

// Bytes of a typical message, which the tiles are to cut.
double message_bytes(std::string_view algorithm, Collective collective, double n, double bytes) {
  if (algorithm == "tree") {
    return collective == Collective::gather || collective == Collective::scatter ? bytes / n
                                                                                 : bytes / 2;
  }
  if (algorithm == "halving_doubling") return bytes / rounds_of(static_cast<int>(n));
  switch (collective) {
    case Collective::all_reduce:
      return algorithm == "direct" || algorithm == "recursive_doubling" ? bytes : bytes / n;
    case Collective::broadcast:
    case Collective::reduce:
      return bytes;
    default:
      return bytes / n;
  }
}

}  // namespace

double expected_seconds(std::string_view algorithm, const Problem& problem, Bytes bytes,
                        const LinkCosts& link, const LinkCosts& inside) {
  if (algorithm == "hierarchical") return hierarchical_seconds(problem, bytes, link, inside);
  const LinkCosts costs = flat_costs(algorithm, problem, link, inside);
  const double n = problem.world_size;
  const auto size = static_cast<double>(bytes.value);
  if (problem.world_size <= 1) return size * costs.per_byte_reduce;
  const Collective collective = problem.collective;
  if (algorithm == "ring") return seconds(ring_work(collective, n, size, costs), costs);
  if (algorithm == "tree") return seconds(tree_work(collective, n, size, costs), costs);
  if (algorithm == "halving_doubling") return seconds(halving_work(collective, n, size), costs);
  if (algorithm == "two_shot") {
    const double part = size * (n - 1) / n;
    return seconds({2, 2 * (n - 1), 2 * part, size}, costs);
  }
  if (algorithm == "recursive_doubling") {
    const bool power = std::has_single_bit(static_cast<unsigned>(problem.world_size));
    const double rounds = std::bit_width(static_cast<unsigned>(problem.world_size)) - 1;
    const double messages = rounds + (power ? 0 : 2);
    return seconds({messages, messages, messages * size, (rounds + (power ? 0 : 1)) * size}, costs);
  }
  WEFT_ASSERT(algorithm == "direct", "every algorithm has a model");
  return seconds(direct_work(collective, n, size), costs);
}

Choice choose_tiles(std::string_view algorithm, const Problem& problem, Bytes bytes, int lanes,
                    const Tuning& tuning) {
  WEFT_ASSERT(lanes >= 1, "at least one lane");
  const bool hierarchical = algorithm == "hierarchical";
  Choice choice{algorithm, 1, algorithm == "ring" || algorithm == "tree" || hierarchical};
  // all_to_all knows no size that all ranks agree on, and its messages wait for nothing anyway.
  if (problem.world_size <= 1 || problem.collective == Collective::all_to_all ||
      problem.collective == Collective::barrier) {
    return choice;
  }
  const auto size = static_cast<double>(bytes.value);
  const double message =
      hierarchical ? hierarchical_message_bytes(problem, size)
                   : message_bytes(algorithm, problem.collective, problem.world_size, size);
  const double wanted = std::max(std::round(message / tuning.tile_bytes), double(lanes));
  const double most = std::min(std::floor(message / kSmallestTileBytes), double(kMaxTiles));
  choice.tiles = static_cast<int>(std::max(1.0, std::min(wanted, most)));
  return choice;
}

bool fits_scratch(std::string_view algorithm, const Problem& problem, Bytes bytes) {
  const bool one_shot = algorithm == "direct" && (problem.collective == Collective::all_reduce ||
                                                  problem.collective == Collective::reduce);
  const double scratch = static_cast<double>(bytes.value) * problem.world_size;
  return !one_shot || scratch <= kOneShotScratchBytes;
}

Choice choose(const Problem& problem, Bytes bytes, int lanes, Medium medium, const Tuning& tuning,
              bool once) {
  WEFT_ASSERT(bytes >= Bytes(0), "sizes are not negative");
  const Bytes size = problem.collective == Collective::all_to_all ? Bytes(0) : bytes;
  const auto allowed = [&](const Algorithm& algorithm) {
    return algorithm.supports(problem) && (!once || completes_once(algorithm, problem)) &&
           fits_scratch(algorithm.name, problem, size);
  };
  // Of messages through memory nothing is measured: what is measured there is schedules on it.
  const std::string_view measured =
      medium == Medium::memory ? "" : tuning.measured_choice(medium, problem, size);
  if (!measured.empty() && allowed(*find_algorithm(measured))) {
    return choose_tiles(measured, problem, bytes, lanes, tuning);
  }
  std::string_view best;
  double best_seconds = std::numeric_limits<double>::infinity();
  for (const Algorithm& algorithm : algorithms()) {
    if (!allowed(algorithm)) continue;
    const double expected =
        expected_seconds(algorithm.name, problem, size, tuning.costs(medium), tuning.memory);
    if (expected < best_seconds) {
      best_seconds = expected;
      best = algorithm.name;
    }
  }
  WEFT_ASSERT(!best.empty(), "some algorithm supports every collective");
  return choose_tiles(best, problem, bytes, lanes, tuning);
}

}  // namespace weft::comm
