#include "comm/select/tuning.h"

#include <algorithm>
#include <array>

#include "comm/algorithms/algorithms.h"

namespace weft::comm {

namespace {

constexpr std::array<std::string_view, kMediums> kNames = {"shm", "tcp", "network", "cuda"};

}  // namespace

std::string_view name_of(Medium medium) { return kNames[static_cast<std::size_t>(medium)]; }

std::optional<Medium> parse_medium(std::string_view name) {
  const auto at = std::find(kNames.begin(), kNames.end(), name);
  if (at == kNames.end()) return std::nullopt;
  return static_cast<Medium>(at - kNames.begin());
}

const LinkCosts& Tuning::costs(Medium medium) const {
  if (medium == Medium::memory || medium == Medium::cuda) return memory;
  return medium == Medium::tcp ? tcp : network;
}

std::string_view Tuning::measured_choice(Medium medium, const Problem& problem, Bytes bytes) const {
  for (const Measured& table : measured) {
    if (table.medium != medium || table.collective != problem.collective ||
        table.ranks != problem.world_size) {
      continue;
    }
    for (const Measured::Entry& entry : table.entries) {
      if (bytes.value > entry.up_to_bytes) continue;
      return find_algorithm(entry.algorithm)->supports(problem) ? entry.algorithm
                                                                : std::string_view();
    }
  }
  return {};
}

const Tuning& built_in_tuning() {
  static const Tuning built_in;
  return built_in;
}

}  // namespace weft::comm
