// The handshake of rendezvous/, as transports want it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comm/rendezvous/identity.h"
#include "comm/transport/greeting.h"

namespace weft::comm {

// job_ranks[r] is the rank in the job of rank r of the communicator called `name`.
std::unique_ptr<Greeter> make_greeter(const JobIdentity& job, PeerIdentity self,
                                      const std::string& name, std::vector<int> job_ranks);

}  // namespace weft::comm
