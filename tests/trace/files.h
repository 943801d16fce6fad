// What tests of traces need of the file system: a directory of their own, and to hear of files that
// appear there.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/scratch.h"

namespace weft::test {

class ScratchDirectory : public tests::ScratchDirectory {
 public:
  std::string path() const { return tests::ScratchDirectory::path(); }
  std::string operator/(const std::string& name) const { return path() + "/" + name; }
  // Files whose names begin so, sorted.
  std::vector<std::string> files(const std::string& prefix) const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path())) {
      if (entry.path().filename().string().rfind(prefix, 0) == 0) found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
  }
  // The only one that begins so; "" with a failure if there is none, or more.
  std::string only(const std::string& prefix) const {
    const auto found = files(prefix);
    EXPECT_EQ(found.size(), 1u) << prefix << "* in " << path();
    return found.size() == 1 ? found[0] : std::string();
  }
};

// Hears of files that are renamed into a directory.
class Arrivals {
 public:
  explicit Arrivals(const std::string& directory) : fd_(::inotify_init1(IN_NONBLOCK)) {
    EXPECT_GE(::inotify_add_watch(fd_, directory.c_str(), IN_MOVED_TO), 0);
  }
  ~Arrivals() { ::close(fd_); }
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;

  // Until one has come since the last time; false when the time is up.
  bool wait(std::chrono::milliseconds patience) const {
    pollfd ready{fd_, POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(patience.count())) != 1) return false;
    alignas(inotify_event) char events[4096];
    while (::read(fd_, events, sizeof events) > 0) {
    }
    return true;
  }

 private:
  int fd_;
};

inline std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline nlohmann::json json_of(const std::string& path) {
  const auto json = nlohmann::json::parse(contents(path), nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << path << " is no JSON";
  return json;
}

}  // namespace weft::test
