#include "tensor/checkpoint/steps.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <system_error>

#include "kernels/base/error.h"
#include "tensor/checkpoint/atomic_file.h"
#include "tensor/checkpoint/source.h"

namespace weft::checkpoint {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPrefix = "step-";

// "step-12", with "step-" -> 12
std::optional<std::int64_t> number_of(const fs::path& path, std::string_view prefix) {
  const auto name = path.filename().string();
  if (!name.starts_with(prefix)) return {};
  std::int64_t number = -1;
  const auto* end = name.data() + name.size();
  const auto result = std::from_chars(name.data() + prefix.size(), end, number);
  if (result.ec != std::errc() || result.ptr != end || number < 0) return {};
  return number;
}

// Complete ones called PREFIX and a number, by number.
std::vector<fs::path> numbered(const fs::path& directory, std::string_view prefix) {
  std::vector<fs::path> found;
  std::error_code error;
  fs::directory_iterator it(directory, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    std::error_code unreadable;
    const auto path = it->path();
    if (!number_of(path, prefix)) continue;
    if (fs::exists(path / kStateFile, unreadable) || fs::exists(path / kManifestFile, unreadable)) {
      found.push_back(path);
    }
  }
  std::sort(found.begin(), found.end(), [&](const fs::path& a, const fs::path& b) {
    return *number_of(a, prefix) < *number_of(b, prefix);
  });
  return found;
}

}  // namespace

fs::path training_step(const fs::path& out, std::int64_t iteration) {
  return out / fmt::format("{}{}", kPrefix, iteration);
}

void prepare_directory(const fs::path& out) {
  std::error_code error;
  fs::create_directories(out, error);
  if (error) fail<IoError>("{}: cannot create the directory: {}", out.string(), error.message());
  remove_leftovers(out);
}

void check_keep(const fs::path& path, int keep) {
  const auto name = path.filename().string();
  const auto dash = name.find_last_of('-');
  if (keep == 0 || (keep > 0 && dash != std::string::npos &&
                    number_of(path, name.substr(0, dash + 1)).has_value())) {
    return;
  }
  fail<InvalidArgument>(
      "checkpoint {}: to keep the newest {} they must be called NAME-N, N counting up, and keep 0 "
      "(all) or more",
      path.string(), keep);
}

void remove_older(const fs::path& newest, int keep) {
  check_keep(newest, keep);
  if (keep == 0) return;
  const auto name = newest.filename().string();
  const auto prefix = name.substr(0, name.find_last_of('-') + 1);
  const auto number = *number_of(newest, prefix);
  auto older = numbered(newest.has_parent_path() ? newest.parent_path() : ".", prefix);
  std::erase_if(older, [&](const fs::path& path) { return *number_of(path, prefix) >= number; });
  const auto excess = static_cast<std::ptrdiff_t>(older.size()) - (keep - 1);
  for (std::ptrdiff_t i = 0; i < excess; ++i) {
    // Not being able to remove an old one does not undo the new one.
    remove_whole(older[static_cast<std::size_t>(i)]);
  }
}

std::vector<fs::path> training_steps(const fs::path& out) { return numbered(out, kPrefix); }

fs::path latest_training(const fs::path& out) {
  const auto steps = training_steps(out);
  if (steps.empty()) {
    fail<IoError>("{}: there is no checkpoint to resume from (expected {}N directories)",
                  out.string(), kPrefix);
  }
  return steps.back();
}

}  // namespace weft::checkpoint
