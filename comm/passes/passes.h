// Schedule -> schedule. Each pass keeps the meaning; the verifier is run on what they produce.
#pragma once

#include "comm/schedule/schedule.h"

namespace weft::comm {

// Cuts every chunk into `tiles`, every step into as many steps, so that send, receive and reduction
// of different tiles overlap. A step's tiles stay neighbours, so message order on each link is
// kept. tiles == 1 changes nothing.
Schedule tile(const Schedule& schedule, int tiles);

// Joins recv+send into recv_send, recv_reduce+send into recv_reduce_send (dropping the store where
// nobody reads it before it is overwritten), and chains of reduce into one many-input reduce.
Schedule fuse(const Schedule& schedule);

// Spreads the messages of each pair of ranks over `lanes` connections, in turn. The schedule must
// use one lane. Keeps dependencies.
Schedule stripe(const Schedule& schedule, int lanes);

}  // namespace weft::comm
