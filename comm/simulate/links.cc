#include "comm/simulate/links.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace weft::comm::simulate {

namespace {
constexpr double kGbit = 125;  // bytes a microsecond
constexpr double kGbyte = 1000;
}  // namespace

Links::Links(const Network& network) : network_(network) {
  const auto hosts = static_cast<std::size_t>(network.hosts());
  const LinkModel& link = network.link;
  up_.assign(hosts, {.rate = link.up_gbit_s * kGbit, .burst = link.burst_bytes});
  down_.assign(hosts, {.rate = link.down_gbit_s * kGbit, .burst = link.burst_bytes});
  memory_.assign(hosts, {.rate = network.memory.host_gbyte_s * kGbyte});
  core_.rate = network.core.gbit_s * kGbit;
  build_racks();
  slow_down();
}

// An uplink carries what the links of its hosts carry together, less by the oversubscription.
void Links::build_racks() {
  const RackModel& rack = network_.rack;
  if (rack.hosts == 0) return;
  for (std::int32_t host = 0; host < network_.hosts(); host += rack.hosts) {
    const double hosts = std::min(rack.hosts, network_.hosts() - host) / rack.oversubscription;
    rack_up_.push_back({.rate = hosts * network_.link.up_gbit_s * kGbit});
    rack_down_.push_back({.rate = hosts * network_.link.down_gbit_s * kGbit});
  }
}

void Links::slow_down() {
  for (const Straggler& slow : network_.stragglers) {
    if (slow.host < 0) continue;
    up_[static_cast<std::size_t>(slow.host)].rate /= slow.link_slowdown;
    down_[static_cast<std::size_t>(slow.host)].rate /= slow.link_slowdown;
  }
  // What others use of a link adds up.
  double up_everywhere = 0;
  double down_everywhere = 0;
  std::vector<double> up(up_.size());
  std::vector<double> down(down_.size());
  for (const Background& load : network_.background) {
    (load.host < 0 ? up_everywhere : up[static_cast<std::size_t>(load.host)]) += load.up_share;
    (load.host < 0 ? down_everywhere : down[static_cast<std::size_t>(load.host)]) +=
        load.down_share;
  }
  for (std::size_t host = 0; host < up.size(); ++host) {
    up_[host].rate *= 1 - up_everywhere - up[host];
    down_[host].rate *= 1 - down_everywhere - down[host];
  }
}

Passage Links::pass(std::int32_t from_host, std::int32_t to_host, double start, double payload) {
  const auto from = static_cast<std::size_t>(from_host);
  const auto to = static_cast<std::size_t>(to_host);
  if (from == to) {
    const double done = memory_[from].pass(start, start, payload);
    return {done, done + network_.memory.latency_us};
  }
  const LinkModel& link = network_.link;
  const double size = (payload + link.frame_bytes) / link.payload_share;
  Resource& up = up_[from];
  // The first byte leaves when everything before it has; what is saved up leaves at once.
  const double first = std::max(start, up.busy_until - up.burst / up.rate);
  const double sent = up.pass(start, start, size);
  double last = sent;
  double latency = link.latency_us;
  if (network_.rack.hosts > 0 && rack_of(from_host) != rack_of(to_host)) {
    last = rack_up_[rack_of(from_host)].pass(first, last, size);
    last = core_.pass(first, last, size);
    last = rack_down_[rack_of(to_host)].pass(first, last, size);
    latency += network_.rack.latency_us;
  } else if (network_.rack.hosts == 0) {
    last = core_.pass(first, last, size);
  }
  last = down_[to].pass(first, last, size);
  return {sent, last + latency};
}

std::vector<Links::Use> Links::busiest(std::size_t count) const {
  struct Ranked {
    const Resource* resource;
    int kind;
    std::size_t index;
  };
  constexpr const char* kKinds[] = {"host {} up",   "host {} down",   "rack {} up",
                                    "rack {} down", "host {} memory", "core"};
  std::vector<Ranked> all;
  const auto add = [&](const std::vector<Resource>& resources, int kind) {
    for (std::size_t i = 0; i < resources.size(); ++i) {
      if (resources[i].bytes > 0 && resources[i].rate > 0) all.push_back({&resources[i], kind, i});
    }
  };
  add(up_, 0);
  add(down_, 1);
  add(rack_up_, 2);
  add(rack_down_, 3);
  add(memory_, 4);
  if (core_.bytes > 0 && core_.rate > 0) all.push_back({&core_, 5, 0});
  const auto kept = all.begin() + static_cast<std::ptrdiff_t>(std::min(count, all.size()));
  std::partial_sort(all.begin(), kept, all.end(), [](const Ranked& a, const Ranked& b) {
    const auto busy_a = std::llround(a.resource->busy * 1e3);  // sums differ in their last bits
    const auto busy_b = std::llround(b.resource->busy * 1e3);
    if (busy_a != busy_b) return busy_a > busy_b;
    return std::pair(a.kind, a.index) < std::pair(b.kind, b.index);
  });
  std::vector<Use> uses;
  for (auto at = all.begin(); at != kept; ++at) {
    uses.push_back({fmt::format(fmt::runtime(kKinds[at->kind]), at->index), at->resource->busy,
                    at->resource->bytes});
  }
  return uses;
}

}  // namespace weft::comm::simulate
