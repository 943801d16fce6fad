#include "comm/job.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "comm/execute/call.h"
#include "comm/rendezvous/wire.h"

namespace weft::comm {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kVerdictWait{500};  // how long a rank waits to learn the root cause
constexpr milliseconds kScopedWait{300};
constexpr int kComparedMax = 16;  // ranks whose posts are read each time this rank is stalled

StoreClientOptions client_options(const JobIdentity& job, PeerIdentity self,
                                  const ConnectOptions& options) {
  StoreClientOptions client;
  client.job = job;
  client.self = self;
  client.host = options.store_host;
  client.port = static_cast<std::uint16_t>(options.store_port);
  client.connect_timeout = options.connect_timeout;
  client.heartbeat = options.heartbeat;
  return client;
}

class StoreSupervisor final : public GroupSupervisor {
 public:
  StoreSupervisor(std::shared_ptr<Job> job, std::string name, bool whole_job,
                  std::vector<Member> members, int rank)
      : GroupSupervisor(std::move(members), rank),
        job_(std::move(job)),
        key_("comm/" + name),
        whole_job_(whole_job) {}

  ~StoreSupervisor() override {
    if (publisher_.joinable()) publisher_.join();
  }

  Verdict settle(const Trouble& trouble) override {
    const Failure seen = failure_of(trouble, members_, rank_);
    if (const auto known = job_->store().failure()) return verdict_of(*known, trouble.operation);
    return verdict_of(whole_job_ ? ask_job(seen, kVerdictWait) : ask_scope(seen),
                      trouble.operation);
  }

  Verdict announce(const Trouble& trouble, Failure::Source source) override {
    Failure failure = failure_of(trouble, members_, rank_);
    failure.source = source;
    if (source == Failure::Source::self) failure.what = trouble.what;
    if (whole_job_) {
      job_->store().report(failure);
    } else if (!publisher_.joinable()) {
      publisher_ = std::thread([this, failure] { publish(failure); });
    }
    return verdict_of(failure, {});
  }

  void linger(milliseconds patience) override {
    if (publisher_.joinable()) publisher_.join();
    if (whole_job_) job_->store().wait_failure(patience);
  }

  std::optional<Trouble> stalled(const FrameTag& tag) override {
    post(tag);
    // Along the ring every disagreement shows between neighbours; a few more make the text better.
    const int size = static_cast<int>(members_.size());
    std::vector<std::optional<FrameTag>> posts(members_.size());
    posts[static_cast<std::size_t>(rank_)] = tag;
    for (int k = 1; k <= std::min(size - 1, kComparedMax); ++k) {
      const int other = (rank_ + size - k) % size;
      posts[static_cast<std::size_t>(other)] = look(other);
    }
    return find_disagreement(posts, *this, rank_);
  }

  std::string who_is_missing(const FrameTag& tag) override {
    post(tag);
    std::vector<std::optional<FrameTag>> posts(members_.size());
    for (std::size_t r = 0; r < posts.size(); ++r) posts[r] = look(static_cast<int>(r));
    return find_missing(posts, tag, *this);
  }

 private:
  std::string stall_key(int rank) const { return fmt::format("{}/stalled/{}", key_, rank); }

  void post(const FrameTag& tag) {
    Blob blob(sizeof tag);
    std::memcpy(blob.data(), &tag, sizeof tag);
    try {
      job_->store().set(stall_key(rank_), blob);
    } catch (const Error&) {  // the job has failed, or is about to: that is told elsewhere
    }
  }

  std::optional<FrameTag> look(int rank) {
    try {
      const Blob blob = job_->store().get(stall_key(rank), milliseconds(0));
      FrameTag tag;
      if (blob.size() != sizeof tag) return std::nullopt;
      std::memcpy(&tag, blob.data(), sizeof tag);
      return tag;
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  Failure ask_job(const Failure& seen, milliseconds patience) {
    job_->store().report(seen);
    return job_->store().wait_failure(patience).value_or(seen);
  }

  // The first one who publishes decides.
  Failure publish(const Failure& failure) {
    try {
      if (job_->store().add(key_ + "/failures", 1) == 1) {
        job_->store().set(key_ + "/verdict", encode(failure));
        return failure;
      }
      return decode_failure(job_->store().get(key_ + "/verdict", kScopedWait));
    } catch (const Error&) {
      return job_->store().failure().value_or(failure);
    }
  }

  Failure ask_scope(const Failure& seen) {
    if (seen.code != ErrorCode::peer_lost) return publish(seen);
    // A link that is dropped means that its other end has failed, and said why, or has died.
    try {
      return decode_failure(job_->store().get(key_ + "/verdict", kScopedWait));
    } catch (const Corrupt&) {  // the verdict, or the job
      return job_->store().failure().value_or(seen);
    } catch (const Error&) {
      return ask_job(seen, kVerdictWait - kScopedWait);
    }
  }

  std::shared_ptr<Job> job_;
  std::string key_;
  bool whole_job_;
  std::thread publisher_;
};

}  // namespace

Job::Job(const JobIdentity& identity, PeerIdentity self, const ConnectOptions& options)
    : identity_(identity),
      self_(self),
      roll_(std::make_shared<Roll>()),
      store_(std::make_unique<StoreClient>(client_options(identity, self, options))) {
  store_->on_failure([roll = roll_](const Failure& failure) {
    const std::lock_guard lock(roll->mutex);
    for (Engine* engine : roll->engines) {
      engine->fail(verdict_of(failure, {}), failure.operation.empty());
    }
  });
}

void Job::enlist(Engine* engine) {
  {
    const std::lock_guard lock(roll_->mutex);
    roll_->engines.push_back(engine);
  }
  if (const auto failure = store_->failure()) engine->fail(verdict_of(*failure, {}));
}

void Job::dismiss(Engine* engine) {
  const std::lock_guard lock(roll_->mutex);
  std::erase(roll_->engines, engine);
}

std::shared_ptr<GroupSupervisor> make_store_supervisor(std::shared_ptr<Job> job, std::string name,
                                                       bool whole_job, std::vector<Member> members,
                                                       int rank) {
  return std::make_shared<StoreSupervisor>(std::move(job), std::move(name), whole_job,
                                           std::move(members), rank);
}

}  // namespace weft::comm
