#include "comm/execute/pace.h"

#include <sched.h>

namespace weft::comm {

namespace {
constexpr int kBusyRounds = 64;    // some ten microseconds of system calls
constexpr int kCrowdedYields = 6;  // then somebody else has had the core several times
constexpr std::chrono::microseconds kSpin{60};
constexpr std::chrono::microseconds kBackgroundSpin{15};
}  // namespace

bool Pace::poll_again() {
  ++idle_rounds_;
  if (crowded_) {
    if (idle_rounds_ > kCrowdedYields) return false;
    sched_yield();
    return true;
  }
  if (idle_rounds_ < kBusyRounds && !background_) return true;
  const auto now = Clock::now();
  if (idle_rounds_ == kBusyRounds || (background_ && idle_rounds_ == 1)) idle_since_ = now;
  if (now - idle_since_ > (background_ ? kBackgroundSpin : kSpin)) return false;
  sched_yield();
  return true;
}

}  // namespace weft::comm
