#include "comm/tuning_source.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "comm/rendezvous/wire.h"
#include "comm/select/tuning_file.h"
#include "kernels/base/error.h"

namespace weft::comm {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

TuningText read(const std::string& path) {
  TuningText found{fmt::format("{} (of rank 0, {})", path, this_host()), {}, {}};
  try {
    found.text = read_tuning_text(path);
  } catch (const Error& error) {
    found.error = error.what();
  }
  return found;
}

// A file that stays behind when a home directory is shared or moved says nothing about this
// machine. What is damaged counts as ours, so that its owner hears of it.
bool is_of_this_machine(const TuningText& found) {
  try {
    const Tuning tuning = parse_tuning(found.text, found.name);
    return tuning.host == this_host() && tuning.cores == sysconf(_SC_NPROCESSORS_ONLN);
  } catch (const Error&) {
    return true;
  }
}

}  // namespace

std::string default_tuning_path() {
  if (const std::string config = variable("XDG_CONFIG_HOME"); !config.empty()) {
    return config + "/weft/tuning.json";
  }
  if (const std::string home = variable("HOME"); !home.empty()) {
    return home + "/.config/weft/tuning.json";
  }
  return {};
}

TuningText find_tuning(const std::string& option) {
  if (option == "none") return {};
  if (!option.empty()) return read(option);
  const std::string path = default_tuning_path();
  std::error_code error;
  if (path.empty() || !std::filesystem::is_regular_file(path, error)) return {};
  const TuningText found = read(path);
  return found.error.empty() && !is_of_this_machine(found) ? TuningText() : found;
}

std::shared_ptr<const Tuning> make_tuning(const TuningText& text) {
  if (text.name.empty()) return std::make_shared<const Tuning>();
  if (!text.error.empty()) {
    fail<InvalidArgument>("connect: rank 0: {}; WEFT_TUNING=none does without", text.error);
  }
  try {
    return std::make_shared<const Tuning>(parse_tuning(text.text, text.name));
  } catch (const InvalidArgument& error) {
    fail<InvalidArgument>("connect: {}; WEFT_TUNING=none does without", error.what());
  }
}

}  // namespace weft::comm
