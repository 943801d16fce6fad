// How long to poll before blocking. Waking a thread that sleeps in the kernel costs several
// microseconds, polling costs a core that another rank may need.
#pragma once

#include <chrono>

namespace weft::comm {

class Pace {
 public:
  using Clock = std::chrono::steady_clock;

  // crowded: more ranks than cores share this machine, so give the core away early.
  Pace(bool crowded, bool background) : crowded_(crowded), background_(background) {}

  void moved() { idle_rounds_ = 0; }
  // After a round in which nothing moved: true to poll again, false to block.
  bool poll_again();
  void blocked() { idle_rounds_ = 0; }

 private:
  bool crowded_;
  bool background_;
  int idle_rounds_ = 0;
  Clock::time_point idle_since_;
};

}  // namespace weft::comm
