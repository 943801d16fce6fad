// The mesh of ranks that are threads of one process: all memory is addressable by all.
#pragma once

#include <memory>
#include <vector>

#include "comm/transport/memory/group.h"
#include "comm/transport/transport.h"

namespace weft::comm::inproc {

// What the ranks of one in-process communicator share: their areas.
class World {
 public:
  World(int size, int lanes);  // throws IoError when memory is short
  int size() const { return static_cast<int>(areas_.size()); }
  int lanes() const { return lanes_; }
  const memory::AreaLayout& layout() const { return layout_; }
  const std::vector<std::shared_ptr<std::byte>>& areas() const { return areas_; }

 private:
  int lanes_;
  memory::AreaLayout layout_;
  std::vector<std::shared_ptr<std::byte>> areas_;
};

std::unique_ptr<Mesh> make_mesh(const std::shared_ptr<World>& world, int rank);

}  // namespace weft::comm::inproc
