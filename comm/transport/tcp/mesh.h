// The mesh of ranks connected by TCP; made by form.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/transport/transport.h"

namespace weft::comm::tcp {

// Connected, non-blocking sockets, [peer][lane + 1]; -1 for the rank itself. `names` are the peers'
// in messages.
struct Connections {
  int rank = 0;
  int size = 1;
  int lanes = 1;
  std::vector<int> sockets;
  std::vector<std::string> names;
};

// Takes the sockets.
std::unique_ptr<Mesh> make_mesh(const Connections& connections);

}  // namespace weft::comm::tcp
