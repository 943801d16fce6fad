// Runs the schedules of all ranks on a modelled network, event by event, as the executor would
// (comm/execute): for each pair of ranks, lane and direction a queue whose head alone is in
// progress, once its dependencies are done; one core a rank that does one thing at a time; links
// that serve one message after the other. docs/simulate.md describes the model and its error.
//
// Deterministic. Not thread-safe, one call one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comm/schedule/schedule.h"
#include "comm/simulate/network.h"
#include "comm/simulate/timeline.h"
#include "kernels/base/units.h"

namespace weft::comm::simulate {

// More messages than this are refused: they would take minutes, whatever their size.
inline constexpr std::int64_t kMessagesMax = 400'000'000;

struct Task {
  Collective collective = Collective::all_reduce;
  std::int32_t root = 0;
  std::string_view algorithm = "ring";
  int tiles = 1;
  int lanes = 1;
  bool fused = true;
  // Of the larger of the two buffers, as nccl-tests and `weft bench` count; cut to whole elements
  // (4 bytes) and equal blocks.
  Bytes bytes{0};
};

struct LinkUse {
  std::string name;  // "host 3 up"
  double share = 0;  // of the time that it was busy
  Bytes bytes{0};    // headers and frames included
};

struct Result {
  double seconds = 0;  // from the start until the last rank is done
  double algorithm_gbyte_s = 0;
  double bus_gbyte_s = 0;  // nccl-tests' definition, doc/PERFORMANCE.md
  Bytes bytes{0};          // what was really cut into blocks
  std::int64_t messages = 0;
  std::int64_t events = 0;
  std::vector<LinkUse> busiest;  // at most 10
  double cpu_mean_share = 0;     // of the time that a rank's core was busy
  double cpu_max_share = 0;
  std::int32_t last_rank = 0;  // who was done last
};

// Throws InvalidArgument for a task the algorithm does not do, Unsupported for more messages than
// kMessagesMax. `timeline` may be null.
Result run(const Task& task, const Network& network, Timeline* timeline = nullptr);

// Of given schedules, already tiled and fused, of one lane: what tests compare with.
Result run(const std::vector<Schedule>& world, Bytes bytes, const Network& network);

// How much of S a link carries: busbw / algbw of nccl-tests.
double bus_factor(Collective collective, std::int32_t world_size);

}  // namespace weft::comm::simulate
