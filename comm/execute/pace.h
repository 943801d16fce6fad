// How long to poll before blocking. Waking a thread that sleeps in the kernel costs several
// microseconds; polling costs a core that another rank, or another program, may need, and a thread
// that has polled its time away waits for milliseconds behind whoever else runs there.
#pragma once

#include <chrono>

namespace weft::comm {

class Pace {
 public:
  using Clock = std::chrono::steady_clock;

  // crowded: more ranks than cores share this machine, so give the core away early.
  explicit Pace(bool crowded) : crowded_(crowded) {}

  void start(bool background) {
    background_ = background;
    idle_rounds_ = 0;
  }
  void moved() { idle_rounds_ = 0; }
  // After a round in which nothing moved: true to poll again, false to block.
  bool poll_again();
  void blocked() { idle_rounds_ = 0; }

 private:
  bool crowded_;
  bool background_ = false;
  int idle_rounds_ = 0;
  Clock::time_point idle_since_;
  Clock::time_point last_poll_;
  Clock::time_point shared_until_;
};

}  // namespace weft::comm
