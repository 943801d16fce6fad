#include "comm/available_memory.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

namespace weft::comm {

namespace {

constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

// What the files of one version of control groups are called.
struct Version {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // a line of memory.stat
};
constexpr Version kFirst{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr Version kSecond{"memory.max", "memory.current", "inactive_file"};

std::string contents_of(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

bool read_number(const std::string& path, std::int64_t& number) {
  std::ifstream file(path);
  return static_cast<bool>(file >> number);  // "max" is no number, and no limit
}

std::int64_t left_in(const std::string& group, const Version& version) {
  std::int64_t limit = 0;
  std::int64_t usage = 0;
  if (!read_number(group + "/" + version.limit, limit)) return kUnlimited;
  if (!read_number(group + "/" + version.usage, usage)) return kUnlimited;
  std::istringstream stat(contents_of(group + "/memory.stat"));
  std::string name;
  std::int64_t value = 0;
  while (stat >> name >> value) {
    if (name == version.reclaimable) usage -= std::min(usage, value);
  }
  return std::max<std::int64_t>(limit - usage, 0);
}

// Of a group and all above it. A path from outside this process's view of the groups does not
// exist here: then what counts is what is mounted.
std::int64_t left_on_the_way_up(const std::string& mount, std::string path,
                                const Version& version) {
  std::int64_t left = left_in(mount, version);
  while (path.size() > 1) {
    left = std::min(left, left_in(mount + path, version));
    path.resize(path.rfind('/'));
  }
  return left;
}

}  // namespace

std::int64_t left_in_cgroups(const std::string& membership, const std::string& mount) {
  std::int64_t left = kUnlimited;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    // "0::/path" of version 2, "4:memory:/path" of version 1.
    const auto first = line.find(':');
    if (first == std::string::npos) continue;
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string path = line.substr(second + 1);
    std::istringstream controllers(line.substr(first + 1, second - first - 1));
    bool memory = false;
    for (std::string one; std::getline(controllers, one, ',');) memory |= one == "memory";
    if (second == first + 1) {
      left = std::min(left, left_on_the_way_up(mount, path, kSecond));
    } else if (memory) {
      left = std::min(left, left_on_the_way_up(mount + "/memory", path, kFirst));
    }
  }
  return left;
}

std::int64_t available_memory() {
  const std::int64_t left = left_in_cgroups(contents_of("/proc/self/cgroup"), "/sys/fs/cgroup");
  std::istringstream lines(contents_of("/proc/meminfo"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string name;
    std::int64_t kibibytes = 0;
    if (fields >> name >> kibibytes && name == "MemAvailable:") {
      return std::min(left, kibibytes * 1024);
    }
  }
  return left;
}

}  // namespace weft::comm
