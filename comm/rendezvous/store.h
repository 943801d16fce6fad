// The control plane: one small key-value server a job, kept by the launcher of node 0 (by rank 0
// under Slurm or MPI), and one connection to it from every rank and every node's agent. Heartbeats
// go up, news comes down.
//
// The server decides what a failure was. Reports arrive from different sides (an agent saw a child
// die by a signal, a rank posted its own error, a connection closed, peers complain); the first
// opens a short window (kVerdictWindow), in which a more telling one may arrive: agent's word >
// rank's own error > closed control connection or missed heartbeats > complaint of a peer. Then one
// Failure is announced to everyone, the same to all, and kept for whoever asks later.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/rendezvous/identity.h"
#include "kernels/base/error.h"

namespace weft::comm {

using Blob = std::vector<std::uint8_t>;

// The root cause, as every rank will throw it.
struct Failure {
  enum class Source : std::uint8_t { agent, self, connection, peer };
  Source source = Source::peer;
  ErrorCode code = ErrorCode::peer_lost;
  std::int32_t rank = -1;  // whose failure it is; -1: nobody's in particular
  std::string host;
  std::int64_t pid = 0;
  std::string what;  // "killed by signal 9 (SIGKILL)", "exited with code 3", "lost connection", an
                     // error's text
  std::string operation;  // in flight there, when known: "all_reduce #12, 1048576 x f32, sum"
};
std::string describe(const Failure& failure);  // one line: who, where, what, during what

struct StoreServerOptions {
  JobIdentity job;
  std::int32_t world_size = 1;
  std::vector<std::string> listen_addresses{
      "127.0.0.1"};        // literal IPv4 or IPv6 addresses, never a wildcard
  std::uint16_t port = 0;  // 0: any; a port in use throws IoError naming it
  std::chrono::milliseconds heartbeat_timeout{3000};  // a connected rank silent for so long is lost
  std::chrono::milliseconds handshake_timeout{5000};
  int max_pending_handshakes = 256;  // beyond that the oldest pending one is dropped
};

// Runs on a thread of its own. Thread-safe.
class StoreServer {
 public:
  explicit StoreServer(const StoreServerOptions& options);
  ~StoreServer();
  std::uint16_t port() const;
  // The agent of this node knows more than the network does.
  void report(const Failure& failure);
  // The verdict, once there is one.
  std::optional<Failure> failure() const;
  void on_failure(
      std::function<void(const Failure&)> callback);  // called once, on the server's thread
  // Ranks (agents are not among them) that have ever connected, ascending; those that have said
  // goodbye since are among them.
  std::vector<std::int32_t> connected_ranks() const;
  // For whoever keeps the store for others: true once everyone that has connected, agents too, has
  // said goodbye or is lost. Never on the server's thread.
  bool wait_all_left(std::chrono::milliseconds timeout);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

struct StoreClientOptions {
  JobIdentity job;
  PeerIdentity self;  // rank >= 0, or -1 - node_rank for an agent
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;
  std::chrono::milliseconds connect_timeout{
      60'000};  // keeps trying until then: the server may start later
  std::chrono::milliseconds heartbeat{500};
};

// One connection, one thread of its own for heartbeats and news. Thread-safe. Calls block; they
// throw Timeout, or the job's failure as a typed error as soon as it is announced.
class StoreClient {
 public:
  explicit StoreClient(const StoreClientOptions& options);
  ~StoreClient();  // says goodbye: leaving after that is no failure

  void set(std::string_view key, std::span<const std::uint8_t> value);
  Blob get(std::string_view key,
           std::chrono::milliseconds timeout);                 // waits until the key is there
  std::int64_t add(std::string_view key, std::int64_t delta);  // atomic; a missing key is 0
  void erase(std::string_view key);

  // Collective among the ranks in `participants` under one key: gives everyone's blob, ordered like
  // participants. Timeout names the ranks that have not come.
  std::vector<Blob> exchange(std::string_view key, std::span<const std::int32_t> participants,
                             std::span<const std::uint8_t> mine, std::chrono::milliseconds timeout);

  // Tells the server about a failure; returns at once.
  void report(const Failure& failure);
  std::optional<Failure> failure() const;
  // Waits for the verdict at most so long: for a rank that saw a connection close and wants to know
  // why.
  std::optional<Failure> wait_failure(std::chrono::milliseconds timeout);
  // Called once, on the client's thread; at once if the verdict is there already.
  void on_failure(std::function<void(const Failure&)> callback);

  // The address this end of the connection has: what the route to the store takes.
  std::string local_address() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::comm
