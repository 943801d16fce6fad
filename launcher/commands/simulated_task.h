// What `weft simulate` and `weft plan` share: a collective as the library would run it on a
// network, and where results go.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "comm/simulate/network.h"
#include "comm/simulate/simulator.h"

namespace weft::launcher {

struct TaskWish {
  comm::Collective collective = comm::Collective::all_reduce;
  Bytes bytes{0};
  std::string algorithm = "auto";  // as the library would choose
  int tiles = 0;                   // 0: likewise
  int lanes = 1;
  int root = 0;
  std::int64_t quick_messages = 14'000'000;  // with more, fewer tiles: less than a minute's work
};

struct ChosenTask {
  comm::simulate::Task task;
  int chosen_tiles = 1;  // by the selector; task.tiles may be fewer
};
ChosenTask choose_task(const TaskWish& wish, const comm::simulate::Network& network);

// The network that a file describes, or the default one. `ranks_per_host` 0: as the file says, or
// 1. A file that is not there is a bad option: LaunchError.
comm::simulate::Network network_of(const std::string& file, int ranks, int ranks_per_host);

// "12.50 us", "3.125 ms", "1.500 s"
std::string time_text(double seconds);

// A result that cannot be kept is better refused before the work than after it. IoError.
void check_writable(const std::string& path, const char* option);
void write_json(const std::string& path, const nlohmann::json& document);

}  // namespace weft::launcher
