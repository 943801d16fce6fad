#include "bench/collectives/on_device.h"

#include <fmt/format.h>

#include <algorithm>

namespace weft::bench {

namespace cuda = kernels::cuda;

std::string OnDevice::where() const {
  return fmt::format("memory of {}, through {}", cuda::device_info(cuda_.device()).name,
                     cuda_.means());
}

int device_of(int rank) { return rank % std::max(cuda::device_count(), 1); }

std::string devices_of(int ranks) {
  std::string list;
  for (int rank = 0; rank < ranks; ++rank) {
    list += fmt::format("{},", device_of(rank));  // a comma at the end is allowed: "0," is a list
  }
  return list;
}

}  // namespace weft::bench
