// What `weft tune` was asked.
#pragma once

#include <string>

#include "comm/schedule/schedule.h"
#include "kernels/base/units.h"

namespace weft::bench {

struct TuneOptions {
  int devices = 2;
  bool on_cuda = false;
  std::string transport = "auto";
  std::string output;  // empty: the user's own file
  bool quick = false;
  // --show
  bool show = false;
  std::string file;  // empty: WEFT_TUNING, or the user's own
  comm::Collective collective = comm::Collective::all_reduce;
  Bytes bytes{1 << 20};
  int ranks = 2;
  int ranks_per_host = 0;  // 0: all of them
};

// Exits on --help (0) and on a bad option (2).
TuneOptions parse_tune_options(int argc, char** argv);

}  // namespace weft::bench
