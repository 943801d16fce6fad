#include "comm/transport/tcp/balance.h"

#include <algorithm>
#include <utility>

namespace weft::comm::tcp {

namespace {
using Seconds = std::chrono::duration<double>;
constexpr Seconds kShortest{200e-6};  // less of a busy time than this says nothing of a rate
constexpr Seconds kInstant{1e-6};     // nor a whole one of less than this
constexpr Seconds kMemory{10e-3};     // busy time after which older samples count for half
constexpr Seconds kForget{1};         // idle for so long, it is tried like a new one
constexpr double kSlowest = 1;        // of one that stands still
}  // namespace

void Balance::saw(std::size_t connection, std::size_t on_its_way, Time now) {
  Flow& flow = flows_[connection];
  const std::uint64_t delivered =
      std::max(flow.delivered, flow.given - std::min<std::uint64_t>(flow.given, on_its_way));
  const bool was_idle = std::exchange(flow.on_its_way, on_its_way) == 0;
  if (was_idle) {
    if (flow.rate != kUnknown && now - flow.since > kForget) flow.rate = kUnknown;
    if (on_its_way > 0 || flow.rate == kUnknown) {
      flow.since = now;
      flow.delivered = delivered;
    }
    return;
  }
  const Seconds busy = now - flow.since;
  const bool done = on_its_way == 0;  // some time before now: it is at least as fast as this looks
  if (busy < (done ? kInstant : kShortest)) return;
  const double sample = static_cast<double>(delivered - flow.delivered) / busy.count();
  if (flow.rate == kUnknown) {
    flow.rate = sample;
  } else if (done) {
    flow.rate = std::max(flow.rate, sample);
  } else {
    flow.rate += busy / (busy + kMemory) * (sample - flow.rate);
  }
  flow.delivered = delivered;
  flow.since = now;
}

std::size_t Balance::best(std::size_t bytes) const {
  double fastest = 1;
  for (const Flow& flow : flows_) fastest = std::max(fastest, flow.rate);
  std::size_t best = 0;
  double earliest = 0;
  for (std::size_t i = 0; i < flows_.size(); ++i) {
    const Flow& flow = flows_[i];
    const double rate = flow.rate == kUnknown ? fastest : std::max(flow.rate, kSlowest);
    const double until = static_cast<double>(flow.on_its_way + bytes) / rate;
    if (i == 0 || until < earliest) {
      best = i;
      earliest = until;
    }
  }
  return best;
}

}  // namespace weft::comm::tcp
