// Who belongs to a communicator, and how failures travel among them: over shared memory for threads
// of one process, over the store for processes.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "comm/execute/supervisor.h"
#include "comm/rendezvous/store.h"
#include "comm/transport/inproc/mesh.h"

namespace weft::comm {

struct Member {
  int job_rank = 0;  // its rank in the job; in a split communicator other than its index
  std::string host;
  std::int64_t pid = 0;
};

// What a rank of a group would report about `trouble`, and what it throws.
Failure failure_of(const Trouble& trouble, const std::vector<Member>& members, int rank);
Verdict verdict_of(const Failure& failure, const std::string& operation);

// "ranks 1, 4 and 5"; empty for none.
std::string list_ranks(const std::vector<int>& ranks);

// A supervisor that can also be told of a failure without waiting for anybody.
class GroupSupervisor : public Supervisor {
 public:
  GroupSupervisor(std::vector<Member> members, int rank)
      : members_(std::move(members)), rank_(rank) {}

  // Makes `trouble` known to the others and gives what this rank throws. Returns at once.
  virtual Verdict announce(const Trouble& trouble, Failure::Source source) = 0;
  // Waits at most so long until what was announced is decided on, before this rank is gone.
  virtual void linger(std::chrono::milliseconds) {}

  int name_of(int rank) const override { return members_[static_cast<std::size_t>(rank)].job_rank; }
  const std::vector<Member>& members() const { return members_; }
  int rank() const { return rank_; }

 protected:
  std::vector<Member> members_;
  int rank_;
};

// What the ranks of one in-process communicator share.
class SharedGroup {
 public:
  explicit SharedGroup(int size);

  const std::shared_ptr<inproc::World>& world() const { return world_; }
  // The first failure counts.
  Verdict settle(const Verdict& mine);
  std::optional<Verdict> verdict() const;
  // Which collective a rank says it is stuck in.
  void post(int rank, const FrameTag& tag);
  std::vector<std::optional<FrameTag>> posts() const;
  // The group of a split: made by whoever comes first.
  std::shared_ptr<SharedGroup> child(const std::string& key, int size);

 private:
  std::shared_ptr<inproc::World> world_;
  mutable std::mutex mutex_;
  std::optional<Verdict> verdict_;
  std::vector<std::optional<FrameTag>> posts_;
  std::map<std::string, std::weak_ptr<SharedGroup>> children_;
};

std::shared_ptr<GroupSupervisor> make_shared_supervisor(std::shared_ptr<SharedGroup> group,
                                                        std::vector<Member> members, int rank);

// Compares what ranks say they are stuck in; posts[r] is rank r's, ours included.
std::optional<Trouble> find_disagreement(const std::vector<std::optional<FrameTag>>& posts,
                                         const GroupSupervisor& names, int rank);
// "ranks 2 and 5 have not entered it", from the same.
std::string find_missing(const std::vector<std::optional<FrameTag>>& posts, const FrameTag& tag,
                         const GroupSupervisor& names);

}  // namespace weft::comm
