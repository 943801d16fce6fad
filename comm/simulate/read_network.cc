// The network file: every field, its type and its range.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>

#include "comm/simulate/json_fields.h"
#include "comm/simulate/json_lines.h"
#include "comm/simulate/network.h"
#include "kernels/base/error.h"
#include "kernels/base/regular_file.h"

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

// What others use of links, added up as the file goes on: some of a link must be left.
class Shares {
 public:
  Shares(const Source& source, double Background::*share, const char* field)
      : source_(source), share_(share), field_(field) {}

  void add(const Background& load, const std::string& path) {
    double& sum = load.host < 0 ? everywhere_ : extra_[load.host];
    sum += load.*share_;
    if (load.host >= 0) most_ = std::max(most_, sum);
    const double used = load.host < 0 ? sum + most_ : everywhere_ + sum;
    if (used <= kShareMax + 1e-12) return;
    source_.refuse(path + "/" + field_,
                   "with the loads before this one, others use {:.6g} of {}; their shares add up, "
                   "to {} at most",
                   used, load.host < 0 ? "a host's link" : fmt::format("host {}'s link", load.host),
                   kShareMax);
  }

 private:
  const Source& source_;
  double Background::*share_;
  const char* field_;
  double everywhere_ = 0;
  std::map<std::int32_t, double> extra_;  // by host
  double most_ = 0;                       // of these
};

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
  Shares up(source, &Background::up_share, "up_share");
  Shares down(source, &Background::down_share, "down_share");
  fields.each("background", [&](const json& value, const std::string& path) {
    Fields load(source, value, path);
    network.background.push_back(read_background(source, load, path, network));
    load.finish();
    up.add(network.background.back(), path);
    down.add(network.background.back(), path);
  });
  fields.finish();
  return network;
}

Network read_network(const std::string& path, std::int32_t ranks, std::int32_t ranks_per_host) {
  const std::string text = read_regular_file(path, "the network file " + path, kFileBytesMax);
  return parse_network(text, path, ranks, ranks_per_host);
}

}  // namespace weft::comm::simulate
