// The guard: a tiny process that outlives us by a moment, to leave no orphan.
//
// A rank dies with its launcher by PR_SET_PDEATHSIG, but what the rank itself started does not. The
// guard holds one end of a socket pair whose only other ends are ours; end of file means that we
// are gone, however that came about, and it kills every process group (or process) that is still on
// its list.
//
// The list is told over the same pair: start_process() adds a child from within the child, before
// its program starts, so there is no moment at which a group is unknown.
#pragma once

#include <sys/types.h>

#include "launcher/job/file_descriptor.h"

namespace weft::launcher {

class Guard {
 public:
  Guard();   // forks; throws IoError
  ~Guard();  // ends it
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  int fd() const { return fd_.get(); }

 private:
  FileDescriptor fd_;
  pid_t pid_ = -1;
};

// `target` as in kill(2): -pgid or pid. Async-signal-safe.
void tell_guard(int guard_fd, pid_t target);
void tell_guard_gone(int guard_fd, pid_t target);  // before it is reaped: the number may be reused

}  // namespace weft::launcher
