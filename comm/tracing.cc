#include "comm/tracing.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <utility>

#include "comm/rendezvous/wire.h"
#include "comm/trace/clock.h"

namespace weft::comm {

namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

constexpr int kRounds = 16;                 // the quickest counts
constexpr milliseconds kCloseBudget{1000};  // for all of them together
constexpr milliseconds kAnswerWithin{300};

// Carries one number to a peer; the k-th answer follows the k-th question.
class NumberPath {
 public:
  virtual ~NumberPath() = default;
  virtual void ask(int round) = 0;  // by whoever measures
  virtual std::int64_t answer_of(int round) = 0;
  virtual void await_question(int peer, int round) = 0;  // by rank 0
  virtual void answer(int peer, int round, std::int64_t number) = 0;
};

class MessagePath final : public NumberPath {
 public:
  explicit MessagePath(Communicator::Impl& impl) : impl_(impl) {}
  void ask(int) override { send(0, 0); }
  std::int64_t answer_of(int) override { return receive(0); }
  void await_question(int peer, int) override { receive(peer); }
  void answer(int peer, int, std::int64_t number) override { send(peer, number); }

 private:
  void send(int peer, std::int64_t number) {
    impl_.run(impl_.message(true, &number, nullptr, Elems(1), DType::i64, peer));
  }
  std::int64_t receive(int peer) {
    std::int64_t number = 0;
    impl_.run(impl_.message(false, nullptr, &number, Elems(1), DType::i64, peer));
    return number;
  }
  Communicator::Impl& impl_;
};

// Over the store, which needs nobody to be there: every wait is bounded.
class StorePath final : public NumberPath {
 public:
  StorePath(StoreClient& store, int rank)
      : store_(store), rank_(rank), end_(SteadyClock::now() + kCloseBudget) {}
  void ask(int round) override { put(key(rank_, round, "question"), 0); }
  std::int64_t answer_of(int round) override {
    return take(key(rank_, round, "answer"), round == 0 ? kCloseBudget : kAnswerWithin);
  }
  void await_question(int peer, int round) override {
    take(key(peer, round, "question"), round == 0 ? kCloseBudget : kAnswerWithin);
  }
  void answer(int peer, int round, std::int64_t number) override {
    put(key(peer, round, "answer"), number);
  }

 private:
  static std::string key(int rank, int round, const char* what) {
    return fmt::format("trace/clock/{}/{}/{}", rank, round, what);
  }
  void put(const std::string& key, std::int64_t number) {
    Blob blob(sizeof number);
    std::memcpy(blob.data(), &number, sizeof number);
    store_.set(key, blob);
  }
  std::int64_t take(const std::string& key, milliseconds patience) {
    const auto left = std::chrono::duration_cast<milliseconds>(end_ - SteadyClock::now());
    const Blob blob = store_.get(key, std::clamp(left, milliseconds(0), patience));
    std::int64_t number = 0;
    if (blob.size() == sizeof number) std::memcpy(&number, blob.data(), sizeof number);
    return number;
  }

  StoreClient& store_;
  int rank_;
  SteadyClock::time_point end_;
};

// Which ranks measure: the first of each clock that is not rank 0's.
std::vector<int> measuring_ranks(const std::vector<Blob>& clocks) {
  std::vector<int> ranks;
  if (clocks.empty() || clocks[0].empty()) return ranks;
  for (std::size_t r = 1; r < clocks.size(); ++r) {
    const auto same = std::find(clocks.begin(), clocks.end(), clocks[r]);
    const bool first = same - clocks.begin() == static_cast<std::ptrdiff_t>(r);
    if (first && !clocks[r].empty()) ranks.push_back(static_cast<int>(r));
  }
  return ranks;
}

void serve(NumberPath& path, const std::vector<int>& ranks) {
  for (const int rank : ranks) {
    for (int round = 0; round < kRounds; ++round) {
      path.await_question(rank, round);
      path.answer(rank, round, trace::monotonic_ns());
    }
  }
}

trace::ClockPoint measure(NumberPath& path) {
  trace::ClockPoint best;
  best.uncertainty_ns = std::numeric_limits<std::int64_t>::max();
  for (int round = 0; round < kRounds; ++round) {
    const std::int64_t asked = trace::monotonic_ns();
    path.ask(round);
    const std::int64_t theirs = path.answer_of(round);
    const std::int64_t answered = trace::monotonic_ns();
    const std::int64_t half = (answered - asked) / 2;
    if (half >= best.uncertainty_ns) continue;
    best = {asked + half, theirs - (asked + half), half};
  }
  return best;
}

void take_part(NumberPath& path, Communicator::Impl& impl, const std::vector<int>& ranks) {
  if (impl.rank == 0) return serve(path, ranks);
  const trace::ClockPoint point = measure(path);
  if (trace::Timeline* timeline = impl.engine->trace().timeline()) {
    timeline->add_clock_point(point);
  }
}

}  // namespace

trace::Options trace_options(const ConnectOptions& options) {
  trace::Options trace;
  trace.flight_recorder = options.flight_recorder;
  trace.timeline = options.timeline;
  trace.timeline_events = options.timeline_events;
  trace.speaks = options.local_rank == 0;
  return trace;
}

void open_trace(Communicator::Impl& impl, const std::string& job) {
  std::vector<int> names;
  for (const Member& member : impl.supervisor->members()) names.push_back(member.job_rank);
  const auto rank = static_cast<std::size_t>(impl.rank);
  trace::Identity identity;
  identity.rank = impl.rank;
  identity.world_size = impl.size;
  identity.job_rank = names[rank];
  identity.communicator = impl.name;
  identity.host = impl.supervisor->members()[rank].host;
  identity.job = job;
  impl.engine->trace().open(identity, impl.settings.trace, std::move(names));
}

Blob clock_to_show(const ConnectOptions& options) {
  if (options.timeline.empty()) return {};
  const std::string& id = trace::clock_id();
  return {id.begin(), id.end()};
}

void align_clocks(Communicator::Impl& impl, const std::shared_ptr<Job>& job,
                  const std::vector<Blob>& clocks) {
  const std::vector<int> ranks = measuring_ranks(clocks);
  const bool measures = std::find(ranks.begin(), ranks.end(), impl.rank) != ranks.end();
  if (ranks.empty() || (impl.rank != 0 && !measures)) return;
  MessagePath messages(impl);
  take_part(messages, impl, ranks);
  impl.before_close = [&impl, job, ranks, then = std::move(impl.before_close)] {
    const bool unwinding = std::uncaught_exceptions() > impl.exceptions_at_birth;
    if (!unwinding && !impl.engine->failed()) {
      try {
        StorePath store(job->store(), impl.rank);
        take_part(store, impl, ranks);
      } catch (const std::exception&) {  // nobody there any more: one measurement will have to do
      }
    }
    then();
  };
}

}  // namespace weft::comm
