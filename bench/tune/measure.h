// Times every algorithm, and makes a Tuning of it.
#pragma once

#include <vector>

#include "bench/collectives/buffer.h"
#include "bench/tune/options.h"
#include "comm/communicator.h"
#include "comm/select/fit.h"

namespace weft::bench {

struct TuneResult {
  comm::Tuning tuning;
  comm::FitError before;
  comm::FitError after;
  std::vector<comm::Sample> samples;
};

// Collective; the same result on every rank. `device`: of Medium::cuda.
TuneResult tune(const TuneOptions& options, Communicator& communicator, comm::Medium medium,
                bool crowded, const comm::Tuning& start, const DeviceCalls* device);

}  // namespace weft::bench
