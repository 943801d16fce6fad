// The clock of traces. Ticks are the processor's time-stamp counter where it is invariant (about
// 10 ns a reading; Intel SDM vol. 3, 18.17), else CLOCK_MONOTONIC in nanoseconds (25 ns). What is
// written to files is nanoseconds of CLOCK_MONOTONIC, and what to add for nanoseconds since the
// epoch.
//
// Ticks become nanoseconds by interpolation between a moment at the start of the process and the
// moment of writing: nothing is calibrated, and no error grows. Everything here is async-signal-
// safe, but clock_id().
#pragma once

#include <time.h>

#include <cstdint>
#include <string>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace weft::comm::trace {

using Ticks = std::uint64_t;  // never 0

inline std::int64_t raw_monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

extern const bool kTicksAreTsc;  // of this machine

inline Ticks ticks() {
#if defined(__x86_64__)
  if (kTicksAreTsc) return __rdtsc();
#endif
  return static_cast<Ticks>(raw_monotonic_ns());
}

// A moment, on every clock that matters.
struct Moment {
  Ticks at = 0;
  std::int64_t monotonic_ns = 0;
  std::int64_t epoch_ns = 0;
};
Moment moment();

// From ticks to CLOCK_MONOTONIC, and on to the epoch; good for ticks up to `now`.
class TickScale {
 public:
  TickScale();  // until now

  std::int64_t monotonic_ns(Ticks ticks) const;
  // Since the epoch, as the wall clock stood when the process began: steps of it do not show.
  std::int64_t epoch_ns(Ticks ticks) const { return monotonic_ns(ticks) + epoch_offset_ns(); }
  std::int64_t epoch_offset_ns() const;
  const Moment& now() const { return now_; }

 private:
  Moment begin_;
  Moment now_;
  double ns_per_tick_ = 0;
};

// CLOCK_MONOTONIC, shifted and bent as WEFT_TRACE_CLOCK_SKEW ("OFFSET_NS[,DRIFT_PPM]") says: so
// that the alignment of clocks can be tried on one host. Ranks that measure each other's clocks use
// this one.
std::int64_t monotonic_ns();

// Processes with equal ids share CLOCK_MONOTONIC: the boot and the time namespace they live in.
const std::string& clock_id();

}  // namespace weft::comm::trace
