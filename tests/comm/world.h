// Worlds to test with: ranks as threads, over shared memory or each with a TCP communicator of its
// own and a store in the test.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/rendezvous/handshake.h"
#include "comm/rendezvous/store.h"
#include "comm/schedule/host_map.h"

namespace weft::comm::testing {

struct Backend {
  std::string name = "inproc";
  bool tcp = false;  // each rank connects by itself, over `transport`
  int lanes = 1;
  std::string store_address = "127.0.0.1";
  std::chrono::milliseconds operation_timeout{30'000};
  std::string algorithm = {};
  TransportKind transport = TransportKind::tcp;
  HostMap (*hosts)(int size) = nullptr;  // inproc only: hosts to pretend, for 1 rank and more
  int connections = 1;                   // tcp only: that large messages of a lane are spread over
};

HostMap dealt_to_two_hosts(int size);     // even ranks and odd ones
HostMap hosts_of_growing_size(int size);  // of 1, 2, 3, ... ranks, and the last has what is left
std::shared_ptr<const HostMap> hosts_of(const Backend& backend, int size);  // null if none

inline Backend with_connections(const char* name, int lanes, int connections) {
  Backend backend{name, true, lanes};
  backend.connections = connections;
  return backend;
}

// Ranks that connect by themselves, over shared memory.
inline Backend shm_backend() {
  Backend backend{"shm", true};
  backend.transport = TransportKind::shm;
  return backend;
}

using RankBody = std::function<void(Communicator& communicator)>;

// Runs `body` on every rank, each on a thread of its own; gives what each threw, or nullptr.
std::vector<std::exception_ptr> run_world(const Backend& backend, int size, const RankBody& body);
// The same, for worlds in which nothing may go wrong: reports failures to GoogleTest.
void expect_world(const Backend& backend, int size, const RankBody& body);

std::string text_of(const std::exception_ptr& error);  // "" if none

// A store for `size` ranks, and what they connect with.
class TestJob {
 public:
  TestJob(int size, const Backend& backend);
  ConnectOptions options(int rank) const;
  StoreServer& server() { return *server_; }
  const JobIdentity& identity() const { return identity_; }

 private:
  int size_;
  Backend backend_;
  JobIdentity identity_;
  std::unique_ptr<StoreServer> server_;
};

}  // namespace weft::comm::testing
