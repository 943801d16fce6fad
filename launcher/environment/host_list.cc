#include <fmt/format.h>

#include <charconv>

#include "kernels/base/error.h"
#include "launcher/environment/detect.h"

namespace weft::launcher {
namespace {

constexpr std::size_t kHostsMax = 1 << 20;

[[noreturn]] void malformed(std::string_view list) {
  fail<InvalidArgument>("'{}' is not a list of hosts as Slurm writes them, like node[01-03,7]",
                        list);
}

long number(std::string_view text, std::string_view list) {
  long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty() || value < 0) {
    malformed(list);
  }
  return value;
}

// "01-03,7" -> 01 02 03 7: numbers keep the width they are written with.
std::vector<std::string> expand_ranges(std::string_view ranges, std::string_view list) {
  std::vector<std::string> names;
  while (true) {
    const auto comma = ranges.find(',');
    const std::string_view range = ranges.substr(0, comma);
    const auto dash = range.find('-');
    const std::string_view first = range.substr(0, dash);
    const long low = number(first, list);
    const long high = dash == std::string_view::npos ? low : number(range.substr(dash + 1), list);
    if (high < low || static_cast<std::size_t>(high - low) >= kHostsMax) malformed(list);
    for (long i = low; i <= high; ++i) names.push_back(fmt::format("{:0{}}", i, first.size()));
    if (names.size() > kHostsMax) malformed(list);
    if (comma == std::string_view::npos) return names;
    ranges.remove_prefix(comma + 1);
  }
}

// One item, with any number of brackets: "rack[1-2]n[3-4]".
std::vector<std::string> expand_item(std::string_view item, std::string_view list) {
  std::vector<std::string> names{""};
  while (!item.empty()) {
    const auto open = item.find('[');
    const std::string_view plain = item.substr(0, open);
    if (plain.find(']') != std::string_view::npos) malformed(list);
    for (auto& name : names) name += plain;
    if (open == std::string_view::npos) break;
    const auto close = item.find(']', open);
    if (close == std::string_view::npos) malformed(list);
    const auto middle = expand_ranges(item.substr(open + 1, close - open - 1), list);
    if (names.size() * middle.size() > kHostsMax) malformed(list);
    std::vector<std::string> longer;
    for (const auto& name : names) {
      for (const auto& part : middle) longer.push_back(name + part);
    }
    names = std::move(longer);
    item.remove_prefix(close + 1);
  }
  return names;
}

}  // namespace

std::vector<std::string> expand_host_list(std::string_view list) {
  std::vector<std::string> hosts;
  std::string_view rest = list;
  while (!rest.empty()) {
    std::size_t end = 0;
    int depth = 0;
    while (end < rest.size() && (rest[end] != ',' || depth > 0)) {
      depth += rest[end] == '[' ? 1 : rest[end] == ']' ? -1 : 0;
      ++end;
    }
    if (end == 0) malformed(list);
    const auto names = expand_item(rest.substr(0, end), list);
    hosts.insert(hosts.end(), names.begin(), names.end());
    if (hosts.size() > kHostsMax) malformed(list);
    if (end + 1 == rest.size()) malformed(list);  // ends with a comma
    rest.remove_prefix(end == rest.size() ? end : end + 1);
  }
  return hosts;
}

}  // namespace weft::launcher
