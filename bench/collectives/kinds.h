// The collectives as a table: shapes, bus factor, calls, and where each output element comes from.
#pragma once

#include <cstdint>
#include <string_view>

#include "bench/collectives/buffer.h"
#include "bench/collectives/options.h"
#include "comm/communicator.h"

namespace weft::bench {

// Where the value of an output element was before: on which rank, at which index of its input.
struct Origin {
  static constexpr int kEveryRank = -1;  // reduced over all ranks
  int rank = kEveryRank;
  std::int64_t index = 0;
};

struct Place {  // what an origin depends on
  int rank = 0;
  int world_size = 1;
  int root = 0;
  std::int64_t block = 0;  // elements a block
};

struct Kind {
  std::string_view name;
  bool wide_input = false;  // one block a rank
  bool wide_output = false;
  bool reducing = false;
  bool rooted = false;
  bool out_of_place = true;
  bool in_place = true;
  bool output_on_root_only = false;
  // busbw / algbw: the share of S that a link carries (nccl-tests, doc/PERFORMANCE.md).
  double (*bus_factor)(int world_size) = nullptr;
  Origin (*origin)(const Place& place, std::int64_t index) = nullptr;
  void (*run)(Communicator&, comm::ConstView, comm::View, const Options&) = nullptr;
  Work (*start)(Communicator&, comm::ConstView, comm::View, const Options&) = nullptr;
  Work (*queue)(const DeviceCalls&, comm::ConstView, comm::View, const Options&) = nullptr;
};

const Kind& find_kind(std::string_view name);  // one of kCollectives

}  // namespace weft::bench
