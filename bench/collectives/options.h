// What `weft bench COLLECTIVE` can be asked: nccl-tests' options, and where and how to run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"
#include "kernels/reduce.h"

namespace weft::bench {

struct Options {
  std::string collective = "all_reduce";
  // Sizes, as nccl-tests counts them: of the larger of the two buffers. step 0: multiply by factor.
  Bytes min_bytes{8};
  Bytes max_bytes{std::int64_t{32} << 20};
  std::int64_t factor = 2;
  Bytes step_bytes{0};
  int iterations = 20;
  int warmup = 5;
  bool check = true;
  bool blocking = true;    // wait for each operation; else issue all, then wait
  int graph_launches = 0;  // > 0: of a CUDA graph with all iterations
  DType dtype = DType::f32;
  ReduceOp op = ReduceOp::sum;
  std::optional<DType> wire;  // what f32 travels as
  int root = 0;
  int devices = 2;
  bool on_cuda = false;
  std::string transport = "auto";
  bool registered = false;  // buffers in symmetric memory
  std::string algorithm = "auto";
  std::string interface;
  int lanes = 1;
  std::string json_file;
};

inline const std::vector<std::string> kCollectives = {
    "all_reduce", "reduce",  "broadcast",  "all_gather", "reduce_scatter",
    "gather",     "scatter", "all_to_all", "send_recv",  "barrier"};

// Exits the process on --help (0) and on a bad option (2), as command lines do.
Options parse_options(int argc, char** argv);

}  // namespace weft::bench
