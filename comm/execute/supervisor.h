// How the executor asks what a failure was, and what it says to other ranks. Implemented by comm/,
// over the store or over shared memory.
#pragma once

#include <optional>
#include <string>

#include "comm/transport/transport.h"
#include "kernels/base/error.h"

namespace weft::comm {

// What every call on a broken communicator throws.
struct Verdict {
  ErrorCode code = ErrorCode::peer_lost;
  std::string message;
};

// What this rank saw go wrong.
struct Trouble {
  ErrorCode code = ErrorCode::peer_lost;
  int peer = -1;          // whom it concerns, a rank of the communicator; -1: nobody in particular
  std::string what;       // "lost connection to rank 3 (reset by peer)"
  std::string operation;  // in flight here
};

class Supervisor {
 public:
  virtual ~Supervisor() = default;

  // Reports `trouble` and waits a short bounded time for the root cause that all ranks agree on.
  virtual Verdict settle(const Trouble& trouble) = 0;

  // The collective `tag` has not moved for a while. Tells the others, and compares with what they
  // say: gives the disagreement, if there is one. May be called again for the same operation.
  virtual std::optional<Trouble> stalled(const FrameTag& tag) = 0;

  // "ranks 2 and 5 have not entered it", as far as is known; for the message of a Timeout.
  virtual std::string who_is_missing(const FrameTag& tag) = 0;

  // The name of a rank of this communicator in messages: its rank in the job.
  virtual int name_of(int rank) const = 0;
};

}  // namespace weft::comm
