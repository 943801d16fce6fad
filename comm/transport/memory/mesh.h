// The mesh of ranks that can address each other's memory: all of a communicator, or those of one
// host (then mixed/ joins it with another mesh for the rest).
#pragma once

#include <memory>
#include <string>

#include "comm/transport/memory/group.h"
#include "comm/transport/transport.h"

namespace weft::comm::memory {

// `rank` and `size` are the communicator's. `medium`: "shared memory", for messages.
std::unique_ptr<Mesh> make_mesh(std::shared_ptr<const Group> group, int rank, int size, int lanes,
                                std::string medium);

}  // namespace weft::comm::memory
