// This node's part in a job: who else takes part, where the ranks meet, and how the end is agreed.
//
// On one node there is only the store, on a loopback port that the system picks. On several, the
// agents first meet at --main-address:--main-port under the job's secret: each says how many ranks
// it will run, node 0 numbers them, checks that all nodes were told the same, and tells where the
// store of the ranks is (same address, a port of its own). The agents' meeting place stays up until
// the job ends; every node's exit code is that of the job.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "comm/rendezvous/identity.h"
#include "launcher/job/job_control.h"
#include "launcher/job/rank_environment.h"
#include "launcher/job/supervisor.h"

namespace weft::launcher {

struct SessionOptions {
  int num_nodes = 1;
  int node_rank = 0;
  int local_ranks = 1;
  std::string main_address = "127.0.0.1";
  int main_port = 29400;
  comm::Secret secret{};
  std::string host;      // our name in messages
  std::string settings;  // must be the same on every node: "strategy=ddp ..."
  std::chrono::milliseconds rendezvous_timeout{60'000};
};

class Session {
 public:
  virtual ~Session() = default;
  const JobAddress& address() const { return address_; }
  int world_size() const { return world_size_; }
  int first_rank() const { return first_rank_; }
  virtual JobControl& control() = 0;
  // Once this node's ranks have ended: waits for the other nodes' (as long as they are there) and
  // gives the exit code for this one.
  virtual int finish(const Outcome& outcome) = 0;

 protected:
  JobAddress address_;
  int world_size_ = 1;
  int first_rank_ = 0;
};

// Throws LaunchError: 2 for a port in use or nodes that were told different things, 1 for nodes
// that did not come in time (naming them).
std::unique_ptr<Session> open_session(const SessionOptions& options);

std::string host_name();
std::string new_job_id();

}  // namespace weft::launcher
