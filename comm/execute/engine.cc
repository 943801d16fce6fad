#include "comm/execute/engine.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "kernels/base/check.h"

namespace weft::comm {

namespace {

constexpr std::size_t kPoolMax = 32;

std::exception_ptr exception_of(const Verdict& verdict) {
  try {
    throw_error(verdict.code, verdict.message);
  } catch (...) {
    return std::current_exception();
  }
}

bool is_point_to_point(const Operation& operation) { return operation.point_to_point(); }

const void* plan_of(const Operation& operation) {
  return operation.on_memory ? static_cast<const void*>(operation.run.plans.by_scratch.get())
                             : operation.plan.get();
}

}  // namespace

Engine::Engine(std::unique_ptr<Mesh> mesh, std::shared_ptr<Supervisor> supervisor,
               const EngineOptions& options)
    : mesh_(std::move(mesh)),
      supervisor_(std::move(supervisor)),
      options_(options),
      pace_(options.crowded) {
  const auto size = static_cast<std::size_t>(mesh_->size());
  const auto lanes = static_cast<std::size_t>(mesh_->lanes()) + 1;
  for (auto& messages : next_message_) messages.assign(size, 1);
  queues_.resize(size * lanes * 2);
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    const int peer = static_cast<int>(i / 2 / lanes);
    const int lane = static_cast<int>(i / 2 % lanes) - 1;
    if (peer == mesh_->rank()) continue;
    queues_[i].link = &mesh_->link(peer, lane);
    queues_[i].peer = peer;
    queues_[i].sends = i % 2 == 0;
  }
  if (const auto* group = mesh_->memory(); group != nullptr) memory_.emplace(*group);
}

Engine::~Engine() { close(true); }

std::unique_ptr<Operation> Engine::acquire(const void* plan) {
  const std::lock_guard lock(mutex_);
  if (pool_.empty()) return std::make_unique<Operation>();
  // One that is bound to this plan already saves the binding.
  auto it = std::find_if(pool_.rbegin(), pool_.rend(),
                         [&](const auto& operation) { return plan_of(*operation) == plan; });
  if (it == pool_.rend() && pool_.size() < kPoolMax) return std::make_unique<Operation>();
  auto& chosen = it == pool_.rend() ? pool_.front() : *it;
  std::unique_ptr<Operation> operation = std::move(chosen);
  chosen = std::move(pool_.back());
  pool_.pop_back();
  return operation;
}

void Engine::release(std::unique_ptr<Operation> operation) {
  const std::lock_guard lock(mutex_);
  operation->completion.reset();
  operation->error = nullptr;
  if (pool_.size() < kPoolMax) pool_.push_back(std::move(operation));
}

// With mutex_ held: refuses, or gives the operation its number.
void Engine::enter(Operation& operation) {
  if (failure_) std::rethrow_exception(failure_);
  if (is_point_to_point(operation)) {
    const MessageList& messages = operation.plan->messages.front();
    operation.sequence =
        next_message_[messages.sends ? 0 : 1][static_cast<std::size_t>(messages.peer)]++;
  } else {
    operation.sequence = next_sequence_++;
  }
  if (operation.on_memory) {
    // Its tag is kept from call to call. It is copied before its number is changed: reading back
    // what was just written in parts is slow.
    FrameTag& recent = recent_[operation.sequence % recent_.size()];
    recent = operation.tag;
    recent.sequence = operation.tag.sequence = operation.run.sequence = operation.sequence;
  } else {
    operation.tag = tag_of(operation.call, operation.sequence);
    if (!is_point_to_point(operation)) {
      recent_[operation.sequence % recent_.size()] = operation.tag;
    }
  }
  begin_record(operation);
  // The only writer holds the mutex.
  counters_.operations.store(counters_.operations.load(std::memory_order_relaxed) + 1,
                             std::memory_order_relaxed);
}

std::unique_ptr<Operation> Engine::run(std::unique_ptr<Operation> operation,
                                       const Buffers& buffers) {
  operation->arm(buffers);
  Operation* const mine = operation.get();
  const trace::Ticks since = trace_.stamp();
  std::unique_lock lock(mutex_);
  enter(*mine);
  if (!driving_) {
    drive_unlocked(lock, mine, mine, false);
  } else {
    submit(mine);
    mesh_->wake();
    while (!mine->done) {
      if (driving_) {
        const trace::Ticks waiting = trace_.stamp();
        changed_.wait(lock);
        trace_.waited(waiting);
      } else {
        drive_unlocked(lock, mine, nullptr, false);
      }
    }
  }
  lock.unlock();
  trace_.called(since, mine->slot);
  if (mine->error) std::rethrow_exception(mine->error);
  return operation;
}

std::shared_ptr<Completion> Engine::start(std::unique_ptr<Operation> operation,
                                          const Buffers& buffers) {
  operation->arm(buffers);
  auto completion = std::make_shared<Completion>();
  operation->completion = completion;
  std::unique_lock lock(mutex_);
  enter(*operation);
  ensure_progress(lock, *operation);
  Operation* const mine = operation.release();  // finish() takes it back
  const bool waits = driving_ || !submitted_.empty();
  if (waits) submit(mine);
  if (driving_) {
    mesh_->wake();
    return completion;
  }
  driving_ = true;
  lock.unlock();
  if (waits) {
    attend();
  } else if (failed()) {
    running_.push_back(mine);
    fail_running();
  } else {
    issue(mine);
  }
  if (!failed() && !stopped_) step();  // what can go at once goes without a thread hop
  lock.lock();
  leave_driving();
  return completion;
}

// With mutex_ held. The operation has its number: the others wait for it, so failing is for all.
void Engine::ensure_progress(std::unique_lock<std::mutex>& lock, const Operation& operation) {
  if (progress_.joinable()) return;
  try {
    progress_ = std::thread([this] { progress_main(); });
  } catch (const std::system_error& error) {
    lock.unlock();
    fail(supervisor_->settle({ErrorCode::io, mesh_->rank(),
                              fmt::format("cannot start the progress thread ({}): raise the limits "
                                          "on threads and memory (ulimit -u, -v)",
                                          error.what()),
                              describe(operation)}));
    throw_if_failed();
  }
}

// With mutex_ held, as when it got its number.
void Engine::submit(Operation* operation) {
  submitted_.push_back(operation);
  attention_.store(true, std::memory_order_release);
}

// Drives with the lock released. `first` has the latest number: what was submitted before the lock
// is released goes before it, what is submitted from then on goes after.
void Engine::drive_unlocked(std::unique_lock<std::mutex>& lock, const Operation* target,
                            Operation* first, bool background) {
  driving_ = true;
  if (first != nullptr && !submitted_.empty()) submit(std::exchange(first, nullptr));
  lock.unlock();
  if (first != nullptr) {
    if (failed()) {
      running_.push_back(first);
      fail_running();
    } else if (!(first == target && try_at_once(*first))) {
      issue(first);
    }
  }
  target_ = target;
  drive_until(target, background);
  target_ = nullptr;
  lock.lock();
  leave_driving();
}

// With mutex_ held.
void Engine::leave_driving() {
  driving_ = false;
  if (closed_ || something_to_drive()) changed_.notify_all();
}

// With mutex_ held and nobody driving.
bool Engine::something_to_drive() const { return !running_.empty() || !submitted_.empty(); }

void Engine::progress_main() {
  trace_.name_thread("progress thread");
  std::unique_lock lock(mutex_);
  while (!closed_) {
    if (!driving_ && something_to_drive()) {
      drive_unlocked(lock, nullptr, nullptr, true);
    } else {
      changed_.wait(lock);
    }
  }
}

std::exception_ptr Engine::final_failure() {
  const std::lock_guard lock(mutex_);
  if (adds_operation_ && !running_.empty()) {
    verdict_->message += ", during " + first_in_flight();
    failure_ = exception_of(*verdict_);
  }
  adds_operation_ = false;
  return failure_;
}

// With mutex_ held: the first verdict counts.
void Engine::set_verdict(const Verdict& verdict) {
  if (!verdict_) {
    verdict_ = verdict;
    failure_ = exception_of(verdict);
  }
  failing_.store(true, std::memory_order_release);
  attention_.store(true, std::memory_order_release);
}

void Engine::fail(const Verdict& verdict, bool adds_operation) {
  std::unique_lock lock(mutex_);
  if (verdict_) return;
  set_verdict(verdict);
  adds_operation_ = adds_operation;
  if (driving_) {
    mesh_->wake();
    return;
  }
  driving_ = true;
  lock.unlock();
  attend();
  lock.lock();
  leave_driving();
  changed_.notify_all();
}

void Engine::throw_if_failed() {
  if (!failed()) return;
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

std::string Engine::in_flight() {
  const std::lock_guard lock(mutex_);
  return driving_ ? std::string() : first_in_flight();
}

void Engine::close(bool says_goodbye) {
  std::unique_lock lock(mutex_);
  if (closed_) return;
  closed_ = true;
  bool goodbye = says_goodbye && !verdict_;
  graceful_ = goodbye;
  if (goodbye) {
    set_verdict(
        {ErrorCode::aborted,
         fmt::format("rank {} destroyed its communicator while the operation was in flight; "
                     "wait for asynchronous operations before that",
                     supervisor_->name_of(mesh_->rank()))});
  } else {
    set_verdict({ErrorCode::aborted, "the communicator was destroyed"});
  }
  if (driving_) mesh_->wake();
  changed_.notify_all();
  changed_.wait(lock, [&] { return !driving_; });
  goodbye = goodbye && !stopped_ && !something_to_drive();
  driving_ = true;
  lock.unlock();
  if (goodbye) {
    mesh_->leave();
    stopped_ = true;
  }
  attend();
  lock.lock();
  driving_ = false;
  changed_.notify_all();
  lock.unlock();
  if (progress_.joinable()) progress_.join();
  trace_.close();
}

}  // namespace weft::comm
