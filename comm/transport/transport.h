// What a transport is: ordered, reliable, framed paths ("links") between this rank and each other
// rank of a mesh.
//
// The executor drives links by polling; a transport starts no thread for data. For each (peer,
// lane) there is one link, with at most one send and one receive in progress; frames arrive in the
// order sent. Lane numbers 0..lanes-1 carry collectives; kPointToPointLane is a link of its own, so
// that send/recv never wait behind a collective.
//
// Not thread-safe, except Mesh::wake(). Errors: LinkLost (connection gone, or the peer has left),
// Corrupt (checksum or framing), FrameMismatch (the frame that came is not the one expected). After
// an error the only calls allowed are sever() and destruction.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "kernels/base/error.h"
#include "kernels/base/units.h"

namespace weft::comm {

inline constexpr int kPointToPointLane = -1;

// What a frame belongs to: enough to recognise it, and to name both calls when two ranks disagree.
struct FrameTag {
  std::uint32_t sequence =
      0;  // of the operation on its communicator (of the message, on the p2p lane)
  std::uint8_t collective = 0;
  std::uint8_t dtype = 0;
  std::uint8_t op = 0;
  std::uint8_t algorithm = 0;
  std::int32_t root = -1;
  std::int32_t index = 0;    // k-th message of this operation on this link
  std::uint32_t detail = 0;  // fingerprint of what else must agree (counts of the v forms)
  std::uint8_t wire = 0;     // what f32 travels as: 0: as f32, else 1 + the code of the half type
  std::uint8_t zero[3] = {};
  std::uint64_t count = 0;  // elements of the whole operation
  bool operator==(const FrameTag&) const = default;
};
static_assert(sizeof(FrameTag) == 32, "no padding: the tag goes over the wire as it is");

// The connection to `peer` is gone, or the peer has left.
class LinkLost : public PeerLost {
 public:
  LinkLost(int lost_peer, const std::string& message) : PeerLost(message), peer(lost_peer) {}
  int peer;
};

// The frame that came from `peer` is not the one this rank's call expects.
class FrameMismatch : public Mismatch {
 public:
  FrameMismatch(int from, const FrameTag& expected_tag, Bytes expected_length,
                const FrameTag& found_tag, Bytes found_length);
  int peer;
  FrameTag expected;
  FrameTag found;
  Bytes expected_bytes;
  Bytes found_bytes;
};

class Link {
 public:
  virtual ~Link() = default;

  // Starts sending; data must stay until poll_send() has said true. Tries at once: poll_send() may
  // be true right away.
  virtual void start_send(const FrameTag& tag, const void* data, Bytes bytes) = 0;
  virtual bool poll_send() = 0;

  // Starts receiving a frame that must carry exactly this tag and length. The payload lands in
  // `into`, or, when `into` may be bypassed (`view_allowed`), stays where the transport has it.
  // poll_recv() gives where it is once it is whole and checked (any non-null pointer for empty
  // frames), else nullptr; what it gives is valid until finish_recv().
  virtual void start_recv(const FrameTag& tag, void* into, Bytes bytes, bool view_allowed) = 0;
  virtual const void* poll_recv() = 0;
  virtual void finish_recv() = 0;
  // Whether a receive of this length may bypass `into`, which then may be null.
  virtual bool always_views(Bytes bytes) const = 0;
};

namespace memory {
class Group;
}

class Mesh {
 public:
  virtual ~Mesh() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int lanes() const = 0;
  virtual Link& link(int peer, int lane) = 0;
  // Not null where all ranks can address each other's memory: collectives then need no messages.
  virtual const memory::Group* memory() const { return nullptr; }

  // Called once before each round over the links: a transport may look at all of them at once where
  // that is cheaper than each looking for itself.
  virtual void refresh() = 0;
  // Blocks until some link with a send or a receive in progress may have moved, a peer's connection
  // broke, wake() was called, or the time is up. Callers poll for a short while first; then they
  // call prepare_wait(), look once more, and call wait(), or cancel_wait() if something moved. May
  // throw LinkLost.
  virtual void prepare_wait() {}
  virtual void cancel_wait() {}
  virtual void wait(std::chrono::milliseconds timeout) = 0;
  virtual void wake() = 0;
  // For a mesh that sleeps in poll(): from now on wait() ends, too, when `fd` is readable.
  virtual void watch(int) {}

  // Tells the peers that this rank is done; with frames in progress, the same as sever().
  virtual void leave() = 0;
  // Drops every link and everything in progress: peers see LinkLost, and no buffer handed to a link
  // is read or written any more once this returns. Idempotent.
  virtual void sever() = 0;

  // Payload and headers, both directions, since the mesh stands: moves while anything moves.
  virtual std::uint64_t bytes_moved() const = 0;
  // "tcp 10.0.0.2:51234", for messages.
  virtual std::string describe(int peer) const = 0;
};

}  // namespace weft::comm
