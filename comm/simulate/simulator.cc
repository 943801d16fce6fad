#include "comm/simulate/simulator.h"

#include <algorithm>

#include "comm/algorithms/algorithms.h"
#include "comm/simulate/program.h"
#include "comm/simulate/run_ranks.h"
#include "kernels/base/check.h"
#include "kernels/base/error.h"

namespace weft::comm::simulate {

namespace {

constexpr std::int64_t kElement = 4;  // bytes
constexpr std::size_t kBusiest = 10;

std::int64_t block_bytes(const Programs& programs, Bytes bytes) {
  return bytes.value / programs.blocks / kElement * kElement;
}

Result finish(const Programs& programs, RankRun& ranks, Collective collective, Bytes bytes) {
  ranks.run();
  Result result;
  double last = -1;
  double busy = 0;
  double busiest = 0;
  for (std::int32_t rank = 0; rank < programs.world_size; ++rank) {
    if (ranks.finished_us(rank) > last) {
      last = ranks.finished_us(rank);
      result.last_rank = rank;
    }
    busy += ranks.busy_us(rank);
    busiest = std::max(busiest, ranks.busy_us(rank));
  }
  result.seconds = last * 1e-6;
  result.bytes = bytes;
  result.messages = ranks.messages();
  result.events = ranks.events();
  if (last <= 0) return result;
  result.algorithm_gbyte_s = static_cast<double>(bytes.value) / last * 1e-3;
  result.bus_gbyte_s = result.algorithm_gbyte_s * bus_factor(collective, programs.world_size);
  result.cpu_mean_share = busy / programs.world_size / last;
  result.cpu_max_share = busiest / last;
  for (const Links::Use& use : ranks.links().busiest(kBusiest)) {
    result.busiest.push_back(
        {use.name, std::min(1.0, use.busy_us / last), Bytes(static_cast<std::int64_t>(use.bytes))});
  }
  return result;
}

}  // namespace

double bus_factor(Collective collective, std::int32_t world_size) {
  const double share = static_cast<double>(world_size - 1) / world_size;
  switch (collective) {
    case Collective::all_reduce:
      return 2 * share;
    case Collective::all_gather:
    case Collective::reduce_scatter:
    case Collective::gather:
    case Collective::scatter:
    case Collective::all_to_all:
      return share;
    default:
      return 1;
  }
}

Result run(const Task& task, const Network& network, Timeline* timeline) {
  WEFT_ASSERT(task.tiles >= 1 && task.lanes >= 1, "at least one tile and one lane");
  Problem problem;
  problem.collective = task.collective;
  problem.world_size = network.ranks();
  problem.root = task.root;
  problem.hosts = host_map(network);
  if (problem.root < 0 || problem.root >= problem.world_size) {
    fail<InvalidArgument>("root {}: there are only ranks 0..{}", problem.root,
                          problem.world_size - 1);
  }
  const Algorithm* algorithm = find_algorithm(task.algorithm);
  if (algorithm == nullptr || !algorithm->supports(problem)) {
    std::string names;
    for (const Algorithm& other : algorithms()) {
      if (other.supports(problem)) names += (names.empty() ? "" : ", ") + std::string(other.name);
    }
    fail<InvalidArgument>("algorithm '{}' does not do {} on {} ranks; these do: {}", task.algorithm,
                          name_of(task.collective), problem.world_size, names);
  }
  const Programs programs =
      make_programs(*algorithm, problem, task.fused, task.tiles, kMessagesMax);
  const bool barrier = task.collective == Collective::barrier;
  const std::int64_t block = barrier ? 0 : block_bytes(programs, task.bytes);
  RankRun ranks(programs, network, block, task.tiles, task.lanes, timeline);
  return finish(programs, ranks, task.collective, Bytes(block * programs.blocks));
}

Result run(const std::vector<Schedule>& world, Bytes bytes, const Network& network) {
  const Programs programs = make_programs(world);
  const std::int64_t block = block_bytes(programs, bytes);
  RankRun ranks(programs, network, block, 1, 1, nullptr);
  return finish(programs, ranks, world.front().problem.collective, Bytes(block * programs.blocks));
}

}  // namespace weft::comm::simulate
