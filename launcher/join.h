// How a process that calls Fabric::launch() comes to its place in a job.
#pragma once

#include "comm/communicator.h"
#include "launcher/fabric_options.h"
#include "tensor/storage.h"

namespace weft::launcher {

struct Membership {
  Communicator communicator;
  int local_rank = 0;
  int node_rank = 0;
  Device device = {};  // of this rank
};

// One of: a launcher started us as a rank (weft run, torchrun, ...): join its job. More than one
// device is wanted: become local rank 0 and start the others. Else: a world of one. InvalidArgument
// where launcher and settings disagree.
Membership join(const FabricSettings& settings);

}  // namespace weft::launcher
