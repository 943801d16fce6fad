#include "comm/cuda/watch.h"

#include <algorithm>
#include <array>
#include <bit>

namespace weft::comm {

namespace {

namespace cuda = kernels::cuda;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// How long operations are given to end after their kernels were told to stop: one that waits ends
// within microseconds, one behind other work of its stream when that is through.
constexpr std::chrono::seconds kStopWait{5};

FrameTag tag_from(const std::uint64_t (&words)[4], std::uint64_t epoch) {
  std::array<std::uint64_t, 4> bits;
  std::copy(std::begin(words), std::end(words), bits.begin());
  auto tag = std::bit_cast<FrameTag>(bits);
  tag.sequence = static_cast<std::uint32_t>(epoch);
  return tag;
}

template <class T>
T load(const T& word) {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}
template <class T>
void store(T& word, T value) {
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
}

}  // namespace

CudaWatch::CudaWatch(Island& island, Engine& engine, GroupSupervisor& supervisor,
                     const memory::Group* presence, milliseconds operation_timeout)
    : island_(island),
      engine_(engine),
      supervisor_(supervisor),
      presence_(presence),
      operation_timeout_(operation_timeout),
      epoch_since_(Clock::now()) {
  const cuda_ipc::Group& group = island.group();
  for (int m = 0; presence != nullptr && m < group.size(); ++m) {
    int number = 0;
    while (presence->rank_of(number) != group.rank_of(m)) ++number;
    presence_of_.push_back(number);
  }
  thread_ = std::thread([this] { main(); });
}

CudaWatch::~CudaWatch() {
  if (thread_.joinable()) close(true);
}

void CudaWatch::add(const cuda::Finish& finish, const FrameTag& tag, int peer_of_message,
                    std::shared_ptr<Completion> completion) {
  const std::lock_guard lock(mutex_);
  pending_.push_back({finish, tag, peer_of_message, std::move(completion), Clock::now()});
  if (pending_.size() == 1) changed_.notify_one();
}

void CudaWatch::watch_graphs() {
  const std::lock_guard lock(mutex_);
  graphs_ = true;
  changed_.notify_one();
}

void CudaWatch::close(bool hopeless) {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    hopeless_ = hopeless;
    changed_.notify_one();
  }
  thread_.join();
}

// Short at first, for those who wait on the host; long for kernels that take long anyway.
microseconds CudaWatch::pause() const {
  if (pending_.empty()) return milliseconds(20);
  const auto age = Clock::now() - pending_.front().since;
  return age < milliseconds(5) ? microseconds(50) : microseconds(500);
}

void CudaWatch::main() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (closing_ && pending_.empty() && is_quiet()) return;
    if (pending_.empty() && !graphs_ && !closing_) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, pause());
    }
    lock.unlock();
    look();
    lock.lock();
  }
}

// No graph runs, or whatever runs has been told to stop.
bool CudaWatch::is_quiet() const {
  const cuda::Desk& desk = island_.group().desk();
  if (load(desk.finished) >= load(desk.entered)) return true;  // what fails at once never enters
  return stopped_ && Clock::now() - stopped_at_ >= kStopWait;
}

void CudaWatch::look() {
  complete_finished();
  look_at_members();
  look_at_troubles();
  look_at_times();
  bool hopeless = false;
  {
    const std::lock_guard lock(mutex_);
    hopeless = closing_ && hopeless_;
  }
  if (!stopped_ && (hopeless || engine_.failed())) {
    stopped_ = true;
    stopped_at_ = Clock::now();
    store(island_.group().desk().abort, std::uint32_t{1});
  }
  if (stopped_) complete_failed();
}

// Members whose communicator is gone: kernels that wait for them end.
void CudaWatch::look_at_members() {
  std::uint64_t gone = 0;
  for (std::size_t m = 0; m < presence_of_.size(); ++m) {
    const bool self = static_cast<int>(m) == island_.group().self();
    if (!self && !presence_->is_here(presence_of_[m])) gone |= std::uint64_t{1} << m;
  }
  cuda::Desk& desk = island_.group().desk();
  if (gone != load(desk.gone)) store(desk.gone, gone);
}

void CudaWatch::look_at_troubles() {
  const cuda::Desk& desk = island_.group().desk();
  const auto trouble = static_cast<cuda::Trouble>(load(desk.trouble));
  if (trouble == cuda::Trouble::none || settled_) return;
  const int peer = island_.group().rank_of(desk.peer);
  const std::string operation = describe(tag_from(desk.ours, desk.epoch));
  switch (trouble) {
    case cuda::Trouble::mismatch:
      return settle(mismatch(desk));
    case cuda::Trouble::damaged:
      return settle({ErrorCode::corrupt, peer,
                     fmt::format("rank {} counts epochs of collectives on CUDA memory that it has "
                                 "not entered: its arena is damaged",
                                 supervisor_.name_of(peer)),
                     operation});
    case cuda::Trouble::gone:
      try {
        presence_->check(presence_of_[static_cast<std::size_t>(desk.peer)], "takes part no more");
      } catch (const Error& lost) {
        settle({ErrorCode::peer_lost, peer, lost.what(), operation});
      }
      return;  // not settled while it is there after all: asked again
    case cuda::Trouble::none:
      return;
    case cuda::Trouble::aborted:  // it was told to stop: why is known
      settled_ = true;
      return;
  }
}

Trouble CudaWatch::mismatch(const cuda::Desk& desk) const {
  const int here = supervisor_.name_of(island_.group().rank_of(island_.group().self()));
  const int there = supervisor_.name_of(island_.group().rank_of(desk.peer));
  const FrameTag our_tag = tag_from(desk.ours, desk.epoch);
  const FrameTag their_tag = tag_from(desk.theirs, desk.epoch);
  std::string ours = describe(our_tag);
  std::string theirs = describe(their_tag);
  if (ours == theirs) {
    ours += fmt::format(" (algorithm {})", algorithm_name(our_tag.algorithm));
    theirs += fmt::format(" (algorithm {})", algorithm_name(their_tag.algorithm));
  }
  return {ErrorCode::mismatch,
          -1,
          fmt::format("ranks disagree on CUDA memory: rank {} calls {}; rank {} calls {}; all "
                      "ranks must make the same calls in the same order",
                      std::min(here, there), here < there ? ours : theirs, std::max(here, there),
                      here < there ? theirs : ours),
          {}};
}

// A kernel that has begun and does not end, and a message that does not come.
void CudaWatch::look_at_times() {
  if (engine_.failed()) return;
  const cuda::Desk& desk = island_.group().desk();
  const auto now = Clock::now();
  const std::uint64_t entered = load(desk.entered);
  if (entered <= load(desk.finished) || entered != epoch_seen_) {
    epoch_seen_ = entered;
    epoch_since_ = now;
  }
  std::string operation;
  Clock::duration quiet{};
  {
    const std::lock_guard lock(mutex_);
    for (const Pending& one : pending_) {
      const auto age = one.peer >= 0 ? now - one.since : now - epoch_since_;
      if (age < operation_timeout_ || age <= quiet) continue;
      quiet = age;
      operation = name_of(one);
    }
    if (operation.empty() && graphs_ && now - epoch_since_ > operation_timeout_) {
      quiet = now - epoch_since_;
      operation = "a collective on CUDA memory";
    }
  }
  if (operation.empty()) return;
  settle({ErrorCode::timeout, -1,
          fmt::format("no progress on CUDA memory for {:.1f} s on rank {}; all ranks must make the "
                      "same calls in the same order",
                      std::chrono::duration<double>(quiet).count(),
                      supervisor_.name_of(supervisor_.rank())),
          operation});
}

void CudaWatch::settle(const Trouble& trouble) {
  engine_.fail(supervisor_.settle(trouble));
  settled_ = true;
}

std::string CudaWatch::name_of(const Pending& pending) const {
  FrameTag tag = pending.tag;
  tag.sequence = static_cast<std::uint32_t>(load(island_.group().desk().entered));
  if (pending.peer < 0) return describe(tag);
  return fmt::format("{} with rank {}", describe(tag), supervisor_.name_of(pending.peer));
}

void CudaWatch::complete_finished() {
  std::list<Pending> done;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = pending_.begin(); it != pending_.end();) {
      const auto next = std::next(it);
      if (FinishWords::is_done(it->finish)) done.splice(done.end(), pending_, it);
      it = next;
    }
  }
  for (Pending& one : done) {
    island_.words().give_back(one.finish);
    one.completion->complete(nullptr);
  }
}

// What the communicator has failed with, and what was under way.
std::exception_ptr CudaWatch::failure(const Pending& pending) const {
  try {
    engine_.throw_if_failed();
    fail<Aborted>(
        "rank {} destroyed its communicator while an operation on CUDA memory was under "
        "way; wait for operations before that",
        supervisor_.name_of(supervisor_.rank()));
  } catch (const Error& error) {
    const std::string text = error.what();
    if (text.find(", during ") != std::string::npos) return std::current_exception();
    try {
      throw_error(error.code(), text + ", during " + name_of(pending));
    } catch (...) {
      return std::current_exception();
    }
  }
}

void CudaWatch::complete_failed() {
  std::list<Pending> done;
  {
    const std::lock_guard lock(mutex_);
    const bool patient = Clock::now() - stopped_at_ < kStopWait;
    for (auto it = pending_.begin(); it != pending_.end();) {
      const auto next = std::next(it);
      if (!patient || FinishWords::is_done_badly(it->finish)) done.splice(done.end(), pending_, it);
      it = next;
    }
  }
  for (Pending& one : done) one.completion->complete(failure(one));
}

}  // namespace weft::comm
