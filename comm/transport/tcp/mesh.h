// The mesh of ranks connected by TCP; made by form.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/transport/transport.h"

namespace weft::comm::tcp {

// Channels are the connections of a pair of ranks: kPointToPointLane, then each lane's own, then,
// where large frames are spread over several (connections > 1), so many bulk ones a lane.
constexpr int bulk_of(int connections) { return connections > 1 ? connections : 0; }
constexpr int channels_of(int lanes, int connections) { return lanes * (1 + bulk_of(connections)); }
constexpr int bulk_channel(int lanes, int connections, int lane, int k) {
  return lanes + lane * bulk_of(connections) + k;
}

// Connected, non-blocking sockets, [peer][channel + 1]; -1 for the rank itself. `names` are the
// peers' in messages.
struct Connections {
  int rank = 0;
  int size = 1;
  int lanes = 1;
  int connections = 1;
  std::vector<int> sockets;
  std::vector<std::string> names;
};

// Takes the sockets.
std::unique_ptr<Mesh> make_mesh(const Connections& connections);

}  // namespace weft::comm::tcp
