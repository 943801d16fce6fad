#include "launcher/job/rank_environment.h"

#include <unistd.h>

#include <array>
#include <string_view>

#include "comm/environment.h"
#include "launcher/environment/variables.h"

namespace weft::launcher {
namespace {

// What names a job, a rank in it, or its secret.
constexpr std::array<const char*, 16> kOfOneJob = {
    comm::env::kRank,      comm::env::kTorchRank,    comm::env::kWorldSize,
    comm::env::kLocalRank, comm::env::kStoreAddress, comm::env::kMasterAddress,
    comm::env::kStorePort, comm::env::kMasterPort,   comm::env::kJobId,
    comm::env::kEpoch,     comm::env::kSecretFd,     comm::env::kSecretFile,
    env::kStrategy,        env::kPrecision,          env::kAccelerator,
    env::kCudaDevices,
};

std::string_view name_of_entry(std::string_view entry) { return entry.substr(0, entry.find('=')); }

std::string value_of(const std::vector<std::string>& environment, std::string_view name) {
  for (const auto& entry : environment) {
    if (name_of_entry(entry) == name && entry.size() > name.size()) {
      return entry.substr(name.size() + 1);
    }
  }
  return {};
}

}  // namespace

Variables place_variables(const RankPlace& place, const JobAddress& address, int secret_fd) {
  namespace cenv = comm::env;
  return {
      {cenv::kRank, std::to_string(place.rank)},
      {cenv::kTorchRank, std::to_string(place.rank)},
      {cenv::kWorldSize, std::to_string(place.world_size)},
      {cenv::kLocalRank, std::to_string(place.local_rank)},
      {env::kLocalWorldSize, std::to_string(place.local_world_size)},
      {env::kNodeRank, std::to_string(place.node_rank)},
      {env::kGroupRank, std::to_string(place.node_rank)},
      {env::kNumNodes, std::to_string(place.num_nodes)},
      {cenv::kMasterAddress, address.main_address},
      {cenv::kMasterPort, std::to_string(address.main_port)},
      {cenv::kStoreAddress, address.store_address},
      {cenv::kStorePort, std::to_string(address.store_port)},
      {cenv::kJobId, address.job_id},
      {cenv::kEpoch, std::to_string(address.epoch)},
      {cenv::kSecretFd, std::to_string(secret_fd)},
  };
}

Variables thread_variables(int threads, const std::vector<std::string>& inherited) {
  const std::string ours = value_of(inherited, env::kNumThreads);
  const std::string openmp = value_of(inherited, env::kOmpNumThreads);
  const std::string share = std::to_string(threads);
  Variables variables;
  if (ours.empty()) variables[env::kNumThreads] = openmp.empty() ? share : openmp;
  if (openmp.empty()) variables[env::kOmpNumThreads] = ours.empty() ? share : ours;
  return variables;
}

std::vector<std::string> changed_environment(const std::vector<std::string>& inherited,
                                             const Variables& changes) {
  std::vector<std::string> result;
  for (const auto& entry : inherited) {
    const std::string name(name_of_entry(entry));
    bool dropped = changes.count(name) != 0;
    for (const char* of_one_job : kOfOneJob) dropped |= name == of_one_job;
    if (!dropped) result.push_back(entry);
  }
  for (const auto& [name, value] : changes) result.push_back(name + "=" + value);
  return result;
}

std::vector<std::string> current_environment() {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) entries.emplace_back(*entry);
  return entries;
}

}  // namespace weft::launcher
