// How two ends of a fresh connection prove who they are, as state machines over bytes. comm/ gives
// the real one (rendezvous/handshake.h); transports know only this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::comm {

class Greeting {
 public:
  virtual ~Greeting() = default;
  // What to send before anything is read; may be empty.
  virtual std::vector<std::uint8_t> start() = 0;
  // Takes exactly bytes_wanted() bytes, gives what to send next. Throws Unauthorized, Mismatch or
  // Corrupt.
  virtual std::vector<std::uint8_t> feed(std::span<const std::uint8_t> bytes) = 0;
  virtual std::size_t bytes_wanted() const = 0;  // 0: finished
  // Of the answering side. Once finished: which rank of the mesh it is, and for which lane (of a
  // transport with several connections a lane: for which of these channels); -1 if the peer,
  // authentic as it is, has no business with this mesh.
  virtual int peer() const = 0;
  virtual int lane() const = 0;
  // What to send before closing after feed() threw; may be empty.
  virtual std::vector<std::uint8_t> refusal() const = 0;
};

class Greeter {
 public:
  virtual ~Greeter() = default;
  virtual std::unique_ptr<Greeting> call(int peer, int lane) = 0;
  virtual std::unique_ptr<Greeting> answer() = 0;
};

}  // namespace weft::comm
