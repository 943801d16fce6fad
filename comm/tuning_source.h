// Where a job's tuning comes from: the file its rank 0 found, the same for all ranks.
#pragma once

#include <memory>
#include <string>

#include "comm/select/tuning.h"

namespace weft::comm {

// $XDG_CONFIG_HOME/weft/tuning.json, or ~/.config/weft/tuning.json; empty where neither is known.
std::string default_tuning_path();

// A tuning file as rank 0 tells the others of it.
struct TuningText {
  std::string name;  // "/path (of rank 0, node7)"; empty: built in
  std::string text;
  std::string error;  // why it could not be read
};

// `option`: a path, "none" for what is built in, or empty: the file at the default path if there is
// one that was made on this host with as many cores. Never throws on account of the file.
TuningText find_tuning(const std::string& option);

// InvalidArgument, prefixed by "connect: ", for a file that is damaged or cannot be read.
std::shared_ptr<const Tuning> make_tuning(const TuningText& text);

}  // namespace weft::comm
