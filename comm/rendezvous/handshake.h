// The mutual authentication that opens every connection, to the store and between ranks alike.
//
//   client -> server  Hello      magic, version, purpose, job id, epoch, from, to, world size,
//                                channel, client nonce
//   server -> client  Challenge  server nonce, HMAC(secret, "server" | Hello | server nonce)
//   client -> server  Proof      HMAC(secret, "client" | Hello | server nonce)
//   server -> client  Verdict    accepted, or why not, HMAC(secret, "verdict" | all the above)
//
// HMAC-SHA256 under the job's secret; nonces are 32 random bytes. All frames have fixed sizes, so a
// stranger can make neither side read or keep more than a few hundred bytes. Transcript binding:
// the Hello names the channel ("store", or "data" with communicator id and lane), so a proof cannot
// be replayed on another. A refusal is told only to those who know the secret. Byte by byte:
// docs/protocol.md.
//
// Both classes are state machines over bytes (feed what arrived, send what they give), so that they
// serve blocking sockets, asynchronous ones, and fuzzers alike. Not thread-safe. They throw
// Unauthorized (secret, job, purpose, or the rank at the other end), Mismatch (another world size,
// a rank outside it, another epoch or protocol version) or Corrupt (not our protocol at all). After
// a throw they never become finished().
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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
  // InvalidArgument: a job id of more than 64 bytes.
  ClientHandshake(const JobIdentity& job, PeerIdentity self, std::int32_t server_rank,
                  Channel channel);

  std::vector<std::uint8_t> start();  // the Hello
  // Takes exactly `bytes_wanted()` bytes; gives what to send next (may be empty).
  std::vector<std::uint8_t> feed(std::span<const std::uint8_t> bytes);
  std::size_t bytes_wanted() const;  // 0: finished, the server is authentic and has accepted us
  bool finished() const { return bytes_wanted() == 0; }

 private:
  enum class Phase : std::uint8_t { start, challenge, verdict, done, failed };
  std::vector<std::uint8_t> advance(std::span<const std::uint8_t> bytes);
  std::vector<std::uint8_t> on_challenge(std::span<const std::uint8_t> body);
  void on_verdict(std::span<const std::uint8_t> body);

  JobIdentity job_;
  PeerIdentity self_;
  std::int32_t server_rank_;
  Channel channel_;
  Phase phase_ = Phase::start;
  bool in_body_ = false;  // the frame's prefix has been read
  std::vector<std::uint8_t> hello_;
  std::vector<std::uint8_t> server_nonce_;
};

class ServerHandshake {
 public:
  // self.rank is the rank that listens (store: kStoreRank).
  ServerHandshake(const JobIdentity& job, PeerIdentity self, ChannelKind kind);

  // Takes exactly `bytes_wanted()` bytes; gives what to send next (may be empty).
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
  enum class Phase : std::uint8_t { hello, proof, done, failed };
  std::vector<std::uint8_t> advance(std::span<const std::uint8_t> bytes);
  std::vector<std::uint8_t> on_hello(std::span<const std::uint8_t> body);
  std::vector<std::uint8_t> on_proof(std::span<const std::uint8_t> body);
  void check_claims();  // what the peer, now known to hold the secret, says about itself

  JobIdentity job_;
  PeerIdentity self_;
  ChannelKind kind_;
  Phase phase_ = Phase::hello;
  bool in_body_ = false;
  std::vector<std::uint8_t> hello_;
  std::vector<std::uint8_t> server_nonce_;
  PeerIdentity peer_;
  Channel channel_;
  std::int32_t asked_for_ = 0;  // the rank the peer wants to reach
  std::string peer_job_;
  std::uint32_t peer_epoch_ = 0;
  std::vector<std::uint8_t> refusal_;
};

inline constexpr std::int32_t kStoreRank = -1'000'000;

Secret make_secret();  // from the system's random source
// 64 hex digits, surrounding white space allowed; InvalidArgument
Secret parse_secret(std::string_view hex);
std::string format_secret(const Secret& secret);  // 64 hex digits

}  // namespace weft::comm
