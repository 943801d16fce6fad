// Runs the table: every size, out of place and in place, checked.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "bench/collectives/buffer.h"
#include "bench/collectives/options.h"
#include "comm/communicator.h"

namespace weft::bench {

struct Timing {
  double microseconds = 0;    // the slowest rank's, median over iterations (mean with -z 0)
  double algorithm_gbps = 0;  // S / t, 1e9 bytes a second
  double bus_gbps = 0;
  std::int64_t wrong = -1;  // elements, over all ranks; -1: not checked
};

struct Row {
  Bytes size;
  Elems count;
  std::optional<Timing> out_of_place;
  std::optional<Timing> in_place;
};

// Collective. `on_row` is called on rank 0 as rows come; gives all rows on every rank. `device`: on
// its memory.
std::vector<Row> measure(const Options& options, Communicator& communicator,
                         const std::function<void(const Row&)>& on_row,
                         const DeviceCalls* device = nullptr);

}  // namespace weft::bench
