// The mesh of ranks that are threads of one process.
#pragma once

#include <memory>

#include "comm/transport/inproc/world.h"
#include "comm/transport/transport.h"

namespace weft::comm::inproc {

// `world` is shared by the meshes of all its ranks.
std::unique_ptr<Mesh> make_mesh(std::shared_ptr<World> world, int rank);

}  // namespace weft::comm::inproc
