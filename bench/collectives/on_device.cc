#include "bench/collectives/on_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace weft::bench {

namespace cuda = kernels::cuda;

std::string OnDevice::where(Communicator& communicator) const {
  struct Place {
    std::int32_t device = 0;
    std::array<char, 124> name{};
  };
  Place mine;
  mine.device = cuda_.device();
  const std::string name = cuda::device_info(mine.device).name;
  std::copy_n(name.data(), std::min(name.size(), mine.name.size() - 1), mine.name.data());
  std::vector<Place> all(static_cast<std::size_t>(communicator.size()));
  const Elems each(sizeof(Place));
  communicator.all_gather({&mine, each, DType::u8},
                          {all.data(), each * communicator.size(), DType::u8});
  std::string text;
  for (std::size_t r = 0; r < all.size(); ++r) {
    const bool again = std::any_of(
        all.begin(), all.begin() + static_cast<std::ptrdiff_t>(r),
        [&](const Place& one) { return one.device == all[r].device && one.name == all[r].name; });
    if (again) continue;
    text +=
        fmt::format("{}{} ({}: rank", text.empty() ? "" : ", ", all[r].name.data(), all[r].device);
    for (std::size_t k = r; k < all.size(); ++k) {
      if (all[k].device == all[r].device && all[k].name == all[r].name)
        text += fmt::format(" {}", k);
    }
    text += ")";
  }
  const int lanes = cuda_.lanes();
  return fmt::format("memory of {}, through {}{}", text, cuda_.means(),
                     lanes > 0 ? fmt::format(", {} blocks at most", lanes) : "");
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
