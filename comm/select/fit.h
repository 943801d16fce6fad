// Fits the model's constants to times that were measured.
#pragma once

#include <span>
#include <string_view>

#include "comm/select/select.h"

namespace weft::comm {

struct Sample {
  std::string_view algorithm;
  Problem problem;
  Bytes bytes;
  double seconds = 0;
  bool registered = false;  // on memory: the buffers are mapped by the others
};

struct FitError {
  double median = 0;  // of |expected / measured - 1|
  double worst = 0;
};

// Least squares of log(expected / measured), Levenberg and Marquardt, samples that are off by more
// than 20% counting less and less (Huber); constants that the samples do not tell apart stay near
// `start`. Of no samples: start.
LinkCosts fit_links(std::span<const Sample> samples, const LinkCosts& start);
// Fits the wait that belongs to `crowded`.
SharedCosts fit_shared(std::span<const Sample> samples, bool crowded, const SharedCosts& start);

FitError error_of(std::span<const Sample> samples, const LinkCosts& costs);
FitError error_of(std::span<const Sample> samples, bool crowded, const SharedCosts& costs);

}  // namespace weft::comm
