// The environment of a rank.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace weft::launcher {

// A rank's place in the job.
struct RankPlace {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_world_size = 1;
  int node_rank = 0;
  int num_nodes = 1;
};

// Where the job meets.
struct JobAddress {
  std::string main_address = "127.0.0.1";  // MASTER_ADDR, MASTER_PORT
  int main_port = 0;
  std::string store_address = "127.0.0.1";
  int store_port = 0;
  std::string job_id;
  std::uint32_t epoch = 0;
};

using Variables = std::map<std::string, std::string>;

Variables place_variables(const RankPlace& place, const JobAddress& address, int secret_fd);

// WEFT_NUM_THREADS and OMP_NUM_THREADS, as far as the user has not set them.
Variables thread_variables(int threads, const std::vector<std::string>& inherited);

// `inherited` with `changes` made; a variable of an outer job that says how to join it is dropped.
std::vector<std::string> changed_environment(const std::vector<std::string>& inherited,
                                             const Variables& changes);

std::vector<std::string> current_environment();

}  // namespace weft::launcher
