// A process's side of a job: its connection to the store, and the communicators that fail with it.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/execute/engine.h"
#include "comm/group.h"
#include "comm/rendezvous/identity.h"
#include "comm/rendezvous/store.h"

namespace weft::comm {

class Job {
 public:
  Job(const JobIdentity& identity, PeerIdentity self, const ConnectOptions& options);

  StoreClient& store() { return *store_; }
  const JobIdentity& identity() const { return identity_; }
  PeerIdentity self() const { return self_; }
  // Until it is dismissed the engine fails when the job does.
  void enlist(Engine* engine);
  void dismiss(Engine* engine);

 private:
  // Shared with the store's callback. The mutex is held while engines are told, so that none is
  // destroyed meanwhile, and none by the store's thread.
  struct Roll {
    std::mutex mutex;
    std::vector<Engine*> engines;
  };
  JobIdentity identity_;
  PeerIdentity self_;
  std::shared_ptr<Roll> roll_;
  std::unique_ptr<StoreClient> store_;
};

// Failures of a communicator among processes. That of the whole job are the job's, and the store
// decides what they were; one of a split communicator fails that alone: its verdict is kept in the
// store under its name, and its links are dropped, at which the others look there.
std::shared_ptr<GroupSupervisor> make_store_supervisor(std::shared_ptr<Job> job, std::string name,
                                                       bool whole_job, std::vector<Member> members,
                                                       int rank);

}  // namespace weft::comm
