// The mutual authentication that opens every connection, to the store and between ranks alike.
//
//   client -> server  Hello     magic, version, purpose, job id, epoch, from, to, world size,
//   client nonce server -> client  Challenge server nonce, HMAC(secret, "server" | Hello | server
//   nonce) client -> server  Proof     HMAC(secret, "client" | Hello | server nonce) server ->
//   client  Verdict   accepted, or why not
//
// HMAC-SHA256 under the job's secret; nonces are 32 random bytes. All frames have fixed sizes, so a
// stranger can make neither side read or keep more than a few hundred bytes. Transcript binding:
// `purpose` names the channel ("store", "data" with communicator id and lane), so a proof cannot be
// replayed on another. Details: docs/protocol.md.
//
// Both classes are state machines over bytes (feed what arrived, send what they give), so that they
// serve blocking sockets, asynchronous ones, and fuzzers alike. Not thread-safe. They throw
// Unauthorized, Mismatch (another world size, epoch, protocol version) or Corrupt (not our protocol
// at all).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/rendezvous/identity.h"

namespace weft::comm {

enum class ChannelKind : std::uint8_t { store, data };

struct Channel {
  ChannelKind kind = ChannelKind::store;
  std::uint64_t communicator = 0;  // of data channels
  std::int32_t lane = 0;
  bool operator==(const Channel&) const = default;
};

class ClientHandshake {
 public:
  ClientHandshake(const JobIdentity& job, PeerIdentity self, std::int32_t server_rank,
                  Channel channel);

  std::vector<std::uint8_t> start();  // the Hello
  // Takes exactly `bytes_wanted()` bytes; gives what to send next (may be empty).
  std::vector<std::uint8_t> feed(std::span<const std::uint8_t> bytes);
  std::size_t bytes_wanted() const;  // 0: finished, the server is authentic and has accepted us
  bool finished() const { return bytes_wanted() == 0; }

 private:
  enum class Phase : std::uint8_t { start, challenge, verdict, done };
  JobIdentity job_;
  PeerIdentity self_;
  std::int32_t server_rank_;
  Channel channel_;
  Phase phase_ = Phase::start;
  std::vector<std::uint8_t> hello_;
};

class ServerHandshake {
 public:
  // self.rank is the rank that listens (store: kStoreRank).
  ServerHandshake(const JobIdentity& job, PeerIdentity self, ChannelKind kind);

  std::vector<std::uint8_t> feed(std::span<const std::uint8_t> bytes);
  std::size_t bytes_wanted() const;
  bool finished() const { return bytes_wanted() == 0; }

  // Once finished: who is there, for what.
  PeerIdentity peer() const { return peer_; }
  Channel channel() const { return channel_; }
  // What to send before closing when feed() threw: a Verdict with the reason, or nothing for
  // strangers.
  std::vector<std::uint8_t> refusal() const { return refusal_; }

 private:
  enum class Phase : std::uint8_t { hello, proof, done };
  JobIdentity job_;
  PeerIdentity self_;
  ChannelKind kind_;
  Phase phase_ = Phase::hello;
  std::vector<std::uint8_t> hello_;
  std::vector<std::uint8_t> server_nonce_;
  PeerIdentity peer_;
  Channel channel_;
  std::vector<std::uint8_t> refusal_;
};

inline constexpr std::int32_t kStoreRank = -1'000'000;

Secret make_secret();  // from the system's random source
Secret parse_secret(
    std::string_view hex);  // 64 hex digits, surrounding white space allowed; InvalidArgument
std::string format_secret(const Secret& secret);  // 64 hex digits

}  // namespace weft::comm
