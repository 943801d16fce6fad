// Forming a mesh: every rank listens, tells the others where, and connects to the ranks below it;
// each connection opens with a mutual greeting. Strangers that knock meanwhile are dropped within a
// bounded time and memory and disturb nobody. The listener closes when the mesh stands.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/transport/greeting.h"
#include "comm/transport/transport.h"

namespace weft::comm::tcp {

struct Endpoint {
  std::string address;  // literal, IPv4 or IPv6
  std::uint16_t port = 0;
};

struct FormOptions {
  int rank = 0;
  int size = 1;
  int lanes = 1;
  int connections = 1;              // that large frames of a lane are spread over
  std::vector<Endpoint> endpoints;  // of every rank
  std::vector<int> names;           // of every rank in messages: its rank in the job
  std::vector<bool> apart;          // ranks that are reached by other means; empty: none
  std::chrono::milliseconds timeout{60'000};
  std::chrono::milliseconds greeting_timeout{5000};
  int max_strangers = 64;  // unfinished greetings beyond those that are expected
  // Called now and then; throws if the job has failed meanwhile.
  std::function<void()> check = [] {};
};

class Listener {
 public:
  // Binds any free port of `address`; IoError if that is no address of this host, or this process
  // has no descriptors left.
  explicit Listener(const std::string& address);
  ~Listener();
  Listener(Listener&&) noexcept;
  const Endpoint& endpoint() const { return endpoint_; }

  // Blocks until all links stand. Timeout names the ranks that are missing; Unauthorized and
  // Mismatch come from greetings; IoError, at once, where this process has no descriptors left.
  std::unique_ptr<Mesh> form(const FormOptions& options, Greeter& greeter) &&;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
  Endpoint endpoint_;
};

}  // namespace weft::comm::tcp
