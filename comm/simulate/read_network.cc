// The network file: every field, its type and its range.
#include <fmt/ranges.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "comm/simulate/json_lines.h"
#include "comm/simulate/network.h"
#include "kernels/base/error.h"

namespace weft::comm::simulate {

namespace {

using nlohmann::json;

constexpr int kDepthMax = 8;
constexpr std::size_t kFileBytesMax = 16 << 20;
constexpr double kRateMax = 1e6;  // 10^9 bits or bytes a second
constexpr double kMicrosecondsMax = 1e9;
constexpr double kBytesMax = 1e12;
constexpr double kFactorMax = 1e6;
constexpr double kShareMax = 0.999;
constexpr double kTiny = 1e-6;  // the least that a rate or a share may be

struct Source {
  std::string name;
  JsonLines lines;

  int line(const std::string& path) const {
    const auto at = lines.find(path);
    return at == lines.end() ? 1 : at->second;
  }
  template <class... Args>
  [[noreturn]] void refuse(const std::string& path, fmt::format_string<Args...> format,
                           Args&&... args) const {
    fail<InvalidArgument>("{}, line {}, field {}: {}", name, line(path), path.empty() ? "/" : path,
                          fmt::format(format, std::forward<Args>(args)...));
  }
};

// One object of the file. Every field that may be there is asked for once; finish() refuses others.
class Fields {
 public:
  Fields(const Source& source, const json& object, std::string path)
      : source_(source), object_(object), path_(std::move(path)) {
    if (!object.is_object()) {
      source.refuse(path_, "expected an object, found {}", found(object));
    }
  }

  std::string path(const std::string& field) const { return path_ + "/" + field; }
  bool has(const char* field) const { return object_.contains(field); }

  const json* find(const char* field) {
    known_.insert(field);
    const auto at = object_.find(field);
    return at == object_.end() ? nullptr : &*at;
  }

  void number(const char* field, double& into, double low, double high) {
    const json* value = find(field);
    if (value == nullptr) return;
    if (!value->is_number()) {
      source_.refuse(path(field), "expected a number, found {}", found(*value));
    }
    const double given = value->get<double>();
    if (!(given >= low && given <= high)) {
      source_.refuse(path(field), "expected {} to {}, found {}", low, high, given);
    }
    into = given;
  }

  void integer(const char* field, std::int32_t& into, std::int64_t low, std::int64_t high) {
    const json* value = find(field);
    if (value != nullptr) into = integer_of(*value, path(field), low, high);
  }

  std::int32_t integer_of(const json& value, const std::string& path, std::int64_t low,
                          std::int64_t high) const {
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() &&
                        value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX));
    if (!fits) source_.refuse(path, "expected a whole number, found {}", found(value));
    const auto given = value.get<std::int64_t>();
    if (given < low || given > high) {
      source_.refuse(path, "expected {} to {}, found {}", low, high, given);
    }
    return static_cast<std::int32_t>(given);
  }

  // Calls visit(element, path) for each element of an array.
  template <class Visit>
  void each(const char* field, Visit&& visit) {
    const json* list = find(field);
    if (list == nullptr) return;
    if (!list->is_array()) source_.refuse(path(field), "expected a list, found {}", found(*list));
    for (std::size_t i = 0; i < list->size(); ++i) {
      visit((*list)[i], fmt::format("{}/{}", path(field), i));
    }
  }

  // Fields of an object inside this one.
  template <class Visit>
  void inside(const char* field, Visit&& visit) {
    const json* object = find(field);
    if (object == nullptr) return;
    Fields fields(source_, *object, path(field));
    visit(fields);
    fields.finish();
  }

  void finish() const {
    for (const auto& item : object_.items()) {
      if (known_.contains(item.key())) continue;
      source_.refuse(path(item.key()), "there is no such field; here there are: {}",
                     fmt::join(known_, ", "));
    }
  }

 private:
  static std::string found(const json& value) {
    std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
    if (text.size() > 40) text = text.substr(0, 37) + "...";
    return fmt::format("{} {}", value.type_name(), text);
  }

  const Source& source_;
  const json& object_;
  std::string path_;
  std::set<std::string> known_;
};

void read_link(Fields& fields, LinkModel& link) {
  fields.number("up_gbit_s", link.up_gbit_s, kTiny, kRateMax);
  fields.number("down_gbit_s", link.down_gbit_s, kTiny, kRateMax);
  fields.number("latency_us", link.latency_us, 0, kMicrosecondsMax);
  fields.number("payload_share", link.payload_share, kTiny, 1);
  fields.number("frame_bytes", link.frame_bytes, 0, kBytesMax);
  fields.number("burst_bytes", link.burst_bytes, 0, kBytesMax);
  fields.number("send_buffer_bytes", link.send_buffer_bytes, 0, kBytesMax);
}

void read_memory(Fields& fields, MemoryModel& memory) {
  fields.number("latency_us", memory.latency_us, 0, kMicrosecondsMax);
  fields.number("message_us", memory.message_us, 0, kMicrosecondsMax);
  fields.number("copy_gbyte_s", memory.copy_gbyte_s, kTiny, kRateMax);
  fields.number("host_gbyte_s", memory.host_gbyte_s, 0, kRateMax);
}

void read_cpu(Fields& fields, CpuModel& cpu) {
  fields.number("send_us", cpu.send_us, 0, kMicrosecondsMax);
  fields.number("receive_us", cpu.receive_us, 0, kMicrosecondsMax);
  fields.number("send_gbyte_s", cpu.send_gbyte_s, kTiny, kRateMax);
  fields.number("receive_gbyte_s", cpu.receive_gbyte_s, kTiny, kRateMax);
  fields.number("reduce_gbyte_s", cpu.reduce_gbyte_s, kTiny, kRateMax);
  fields.number("copy_gbyte_s", cpu.copy_gbyte_s, kTiny, kRateMax);
  fields.number("wake_us", cpu.wake_us, 0, kMicrosecondsMax);
  fields.number("spin_us", cpu.spin_us, 0, kMicrosecondsMax);
  fields.integer("cores_per_host", cpu.cores_per_host, 0, 4096);
  fields.integer("cores_of_all_hosts", cpu.cores_of_all_hosts, 0, 4096);
}

Straggler read_straggler(const Source& source, Fields& fields, const std::string& path,
                         const Network& network) {
  Straggler slow;
  fields.integer("rank", slow.rank, 0, network.ranks() - 1);
  fields.integer("host", slow.host, 0, network.hosts() - 1);
  fields.number("cpu_slowdown", slow.cpu_slowdown, kTiny, kFactorMax);
  fields.number("link_slowdown", slow.link_slowdown, kTiny, kFactorMax);
  fields.number("delay_us", slow.delay_us, 0, kMicrosecondsMax);
  if ((slow.rank < 0) == (slow.host < 0)) {
    source.refuse(path, "a straggler is either a \"rank\" or a \"host\"");
  }
  if (slow.rank >= 0 && fields.has("link_slowdown")) {
    source.refuse(path + "/link_slowdown", "the link is the host's: give \"host\" to slow it");
  }
  return slow;
}

Background read_background(const Source& source, Fields& fields, const std::string& path,
                           const Network& network) {
  Background load;
  fields.integer("host", load.host, 0, network.hosts() - 1);
  fields.number("up_share", load.up_share, 0, kShareMax);
  fields.number("down_share", load.down_share, 0, kShareMax);
  if (!fields.has("up_share") && !fields.has("down_share")) {
    source.refuse(path, "give \"up_share\", \"down_share\" or both");
  }
  return load;
}

// Ranks by host: what the command line says, or the file, or one each.
void place_ranks(const Source& source, Fields& fields, std::int32_t ranks,
                 std::int32_t ranks_per_host, Network& network) {
  std::int32_t each = 1;
  fields.integer("ranks_per_host", each, 1, 1 << 20);
  std::int64_t total = 0;
  fields.each("ranks_on_hosts", [&](const json& count, const std::string& path) {
    network.ranks_on_hosts.push_back(fields.integer_of(count, path, 1, 1 << 20));
    total += network.ranks_on_hosts.back();
  });
  if (fields.has("ranks_on_hosts") && fields.has("ranks_per_host")) {
    source.refuse(fields.path("ranks_per_host"),
                  "give \"ranks_per_host\" or \"ranks_on_hosts\", not both");
  }
  if (ranks_per_host > 0 || !fields.has("ranks_on_hosts")) {
    network.ranks_on_hosts =
        default_network(ranks, ranks_per_host > 0 ? ranks_per_host : each).ranks_on_hosts;
  } else if (total != ranks) {
    source.refuse(fields.path("ranks_on_hosts"), "these are {} ranks, but {} were asked for", total,
                  ranks);
  }
}

}  // namespace

Network parse_network(const std::string& text, const std::string& name, std::int32_t ranks,
                      std::int32_t ranks_per_host) {
  Source source{name, {}};
  const json document = parse_with_lines(text, name, kDepthMax, source.lines);
  Network network;
  Fields fields(source, document, "");
  place_ranks(source, fields, ranks, ranks_per_host, network);
  fields.inside("link", [&](Fields& link) { read_link(link, network.link); });
  fields.inside("rack", [&](Fields& rack) {
    rack.integer("hosts", network.rack.hosts, 1, 1 << 20);
    rack.number("oversubscription", network.rack.oversubscription, kTiny, kFactorMax);
    rack.number("latency_us", network.rack.latency_us, 0, kMicrosecondsMax);
    if (!rack.has("hosts")) source.refuse("/rack", "give \"hosts\", the hosts of a rack");
  });
  fields.inside("core",
                [&](Fields& core) { core.number("gbit_s", network.core.gbit_s, kTiny, 1e9); });
  fields.inside("memory", [&](Fields& memory) { read_memory(memory, network.memory); });
  fields.inside("cpu", [&](Fields& cpu) { read_cpu(cpu, network.cpu); });
  fields.each("stragglers", [&](const json& value, const std::string& path) {
    Fields straggler(source, value, path);
    network.stragglers.push_back(read_straggler(source, straggler, path, network));
    straggler.finish();
  });
  fields.each("background", [&](const json& value, const std::string& path) {
    Fields load(source, value, path);
    network.background.push_back(read_background(source, load, path, network));
    load.finish();
  });
  fields.finish();
  return network;
}

Network read_network(const std::string& path, std::int32_t ranks, std::int32_t ranks_per_host) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail<IoError>("cannot read the network file {}: is it there, and readable?", path);
  std::string text;
  text.resize(kFileBytesMax + 1);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.fail() && !file.eof())) {
    fail<IoError>("cannot read the network file {}: is it a file?", path);
  }
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kFileBytesMax) {
    fail<InvalidArgument>("{}: a network file has at most {} bytes", path, kFileBytesMax);
  }
  return parse_network(text, path, ranks, ranks_per_host);
}

}  // namespace weft::comm::simulate
