// Which of several reports is the root cause. Pure: the server keeps the window's time.
#pragma once

#include <optional>

#include "comm/rendezvous/store.h"

namespace weft::comm {

// Order of trust: the agent that saw the process die > the rank's own error > a closed or silent
// control connection > a peer's complaint. A rank that posts PeerLost, Timeout or Aborted as its
// own error is itself complaining about others, and weighs no more than a peer. Among equals, a
// report about the rank that was suspected first wins, then the earlier one: ranks die of each
// other, and the first to go is the cause.
class FailureJury {
 public:
  // True: nothing more telling can come, announce it now. Else wait for the window to end.
  bool hear(const Failure& failure);
  bool has_heard() const { return best_.has_value(); }
  const Failure& best() const { return *best_; }

 private:
  bool outweighs(const Failure& failure) const;

  std::optional<Failure> best_;
  std::int32_t first_suspect_ = -1;
  Failure::Source first_source_ = Failure::Source::peer;
};

}  // namespace weft::comm
