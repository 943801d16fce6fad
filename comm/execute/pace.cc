#include "comm/execute/pace.h"

#include <sched.h>

namespace weft::comm {

namespace {
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int kBusyRounds = 64;     // some ten microseconds of system calls
constexpr int kCrowdedYields = 24;  // then somebody else has had the core several times
constexpr int kSharedRounds = 2;
constexpr microseconds kSpin{60};
constexpr microseconds kBackgroundSpin{15};
// Two polls so far apart mean that somebody else had the core in between: for a while, block early.
constexpr microseconds kPreempted{150};
constexpr milliseconds kSharedFor{100};
}  // namespace

bool Pace::poll_again() {
  const auto now = Clock::now();
  if (++idle_rounds_ == 1) {
    idle_since_ = now;
  } else if (now - last_poll_ > kPreempted) {
    shared_until_ = now + kSharedFor;
  }
  last_poll_ = now;
  if (now < shared_until_) return idle_rounds_ <= kSharedRounds;
  if (crowded_) {
    if (idle_rounds_ > kCrowdedYields) return false;
    sched_yield();
    return true;
  }
  if (now - idle_since_ > (background_ ? kBackgroundSpin : kSpin)) return false;
  if (idle_rounds_ > kBusyRounds || background_) sched_yield();
  return true;
}

}  // namespace weft::comm
