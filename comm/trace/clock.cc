#include "comm/trace/clock.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace weft::comm::trace {

namespace {

bool tsc_is_invariant() {
#if defined(__x86_64__)
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  constexpr unsigned kPowerLeaf = 0x80000007u;
  return __get_cpuid(kPowerLeaf, &a, &b, &c, &d) != 0 && (d & 1u << 8) != 0;
#else
  return false;
#endif
}

struct Skew {
  std::atomic<std::int64_t> offset_ns{0};
  std::atomic<double> drift{0};  // of one
};

Skew g_skew;

std::int64_t skewed(std::int64_t ns) {
  const double bent = static_cast<double>(ns) * g_skew.drift.load(std::memory_order_relaxed);
  return ns + g_skew.offset_ns.load(std::memory_order_relaxed) + static_cast<std::int64_t>(bent);
}

void read_skew() {
  const char* text = std::getenv("WEFT_TRACE_CLOCK_SKEW");
  char* rest = nullptr;
  const long long offset = text == nullptr ? 0 : std::strtoll(text, &rest, 10);
  const double ppm = rest != nullptr && *rest == ',' ? std::strtod(rest + 1, nullptr) : 0.0;
  g_skew.offset_ns.store(offset, std::memory_order_relaxed);
  g_skew.drift.store(ppm * 1e-6, std::memory_order_relaxed);
}

Moment first_moment() {
  read_skew();
  return moment();
}

}  // namespace

const bool kTicksAreTsc = tsc_is_invariant();

// The clocks are read one after the other, and a thread that loses its core in between would set
// them apart by milliseconds: the quickest of a few readings counts.
Moment moment() {
  constexpr int kReadings = 5;
  Moment best;
  Ticks shortest = 0;
  for (int reading = 0; reading < kReadings; ++reading) {
    Moment now;
    const Ticks before = ticks();
    now.monotonic_ns = raw_monotonic_ns();
    timespec wall{};
    ::clock_gettime(CLOCK_REALTIME, &wall);
    const Ticks span = ticks() - before;
    now.at = before + span / 2;
    now.epoch_ns = std::int64_t{wall.tv_sec} * 1'000'000'000 + wall.tv_nsec;
    if (reading == 0 || span < shortest) {
      best = now;
      shortest = span;
    }
  }
  return best;
}

namespace {
const Moment kBegin = first_moment();  // after kTicksAreTsc: same file, in order
}

TickScale::TickScale() : begin_(kBegin), now_(moment()) {
  const auto spent = static_cast<double>(now_.at - begin_.at);
  if (spent > 0) {
    ns_per_tick_ = static_cast<double>(now_.monotonic_ns - begin_.monotonic_ns) / spent;
  }
}

std::int64_t TickScale::monotonic_ns(Ticks ticks) const {
  const double since = static_cast<double>(static_cast<std::int64_t>(ticks - begin_.at));
  return skewed(begin_.monotonic_ns + static_cast<std::int64_t>(since * ns_per_tick_));
}

std::int64_t TickScale::epoch_offset_ns() const {
  return begin_.epoch_ns - skewed(begin_.monotonic_ns);
}

std::int64_t monotonic_ns() { return skewed(raw_monotonic_ns()); }

const std::string& clock_id() {
  static const std::string id = [] {
    std::string text;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), text);
    char space[64];
    const ssize_t n = ::readlink("/proc/self/ns/time", space, sizeof space);
    if (n > 0) text.append(" ").append(space, static_cast<std::size_t>(n));
    if (const char* skew = std::getenv("WEFT_TRACE_CLOCK_SKEW")) {
      text.append(" skewed by ").append(skew);
    }
    return text;
  }();
  return id;
}

}  // namespace weft::comm::trace
