// The control plane: one small key-value server a job, kept by the launcher of node 0 (by rank 0
// under Slurm or MPI), and one connection to it from every rank and every node's agent. Heartbeats
// go up, news comes down.
//
// The server decides what a failure was. Reports arrive from different sides (an agent saw a child
// die by a signal, a rank posted its own error, a connection closed, peers complain); the first
// opens a short window (verdict_window), in which a more telling one may arrive: agent's word >
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
  // A connected rank silent for so long is lost; 0: only when its connection closes (debuggers).
  std::chrono::milliseconds heartbeat_timeout{3000};
  std::chrono::milliseconds handshake_timeout{5000};
  int max_pending_handshakes = 256;  // beyond that the oldest pending one is dropped
  // How long a more telling report may take to arrive after the first.
  std::chrono::milliseconds verdict_window{100};
};

// Runs on a thread of its own. Thread-safe.
class StoreServer {
 public:
  explicit StoreServer(const StoreServerOptions& options);
  ~StoreServer();
  std::uint16_t port() const;
  // What the agent of this node saw (Source::agent): it knows more than the network does. Returns
  // at once.
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
  PeerIdentity self;               // rank >= 0, or -1 - node_rank for an agent
  std::string host = "127.0.0.1";  // a name or a literal address
  std::uint16_t port = 0;
  // Keeps trying until then: the server may start later.
  std::chrono::milliseconds connect_timeout{60'000};
  std::chrono::milliseconds heartbeat{500};  // at most a quarter of the server's timeout is used
};

// One connection, one thread of its own for heartbeats and news. Thread-safe. Calls block; they
// throw Timeout, or the job's failure as a typed error as soon as it is announced. When the server
// itself vanishes, that is the failure: PeerLost, naming the store's host and port.
//
// Keys have 1 to 1024 bytes, values at most 64 MiB: InvalidArgument otherwise.
class StoreClient {
 public:
  // Throws Timeout (nobody there), Unauthorized (another secret or job), Mismatch (another world
  // size or epoch, a rank outside the world, or one that is connected already). Of a job that has
  // failed already, failure() is set from the start.
  explicit StoreClient(const StoreClientOptions& options);
  // Says goodbye: leaving after that is no failure. While an exception is being thrown it does not,
  // and the rank counts as lost. Never from a callback.
  ~StoreClient();

  void set(std::string_view key, std::span<const std::uint8_t> value);
  Blob get(std::string_view key,
           std::chrono::milliseconds timeout);  // waits until the key is there
  // Atomic; a missing key is 0. get() gives 8 bytes, little-endian.
  std::int64_t add(std::string_view key, std::int64_t delta);
  void erase(std::string_view key);

  // Collective among the ranks in `participants` under one key: gives everyone's blob, ordered like
  // participants. Timeout names the ranks that have not come; who gives up is withdrawn, the others
  // go on waiting for their own time. Mismatch on every participant whose list is not the same.
  // Once complete, the key can be used for another exchange.
  std::vector<Blob> exchange(std::string_view key, std::span<const std::int32_t> participants,
                             std::span<const std::uint8_t> mine, std::chrono::milliseconds timeout);

  // Tells the server about a failure; returns when the kernel has the bytes (at most 200 ms), so
  // that the word gets out even if this process dies next. Host and pid may be left empty: the
  // server knows them.
  void report(const Failure& failure);
  std::optional<Failure> failure() const;
  // Waits for the verdict at most so long: for a rank that saw a connection close and wants to know
  // why.
  std::optional<Failure> wait_failure(std::chrono::milliseconds timeout);
  // Called once, on the client's thread; right away if the verdict is there already.
  void on_failure(std::function<void(const Failure&)> callback);

  // The address this end of the connection has: what the route to the store takes.
  std::string local_address() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::comm
