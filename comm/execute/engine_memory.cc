// The engine's way with operations on memory: short blocking calls run in the caller, without
// queues.
#include <utility>

#include "comm/execute/engine.h"

namespace weft::comm {

namespace {
// How often to look before an operation is queued like any other: some tens of microseconds, and
// next to nothing where another rank may need this core to get there.
constexpr int kLooks = 2000;
constexpr int kLooksCrowded = 2;
}  // namespace

std::uint64_t Engine::bytes_sent() const {
  return counters_.bytes_sent.load(std::memory_order_relaxed) +
         (memory_ ? memory_->bytes_sent() : 0);
}

std::uint64_t Engine::bytes_received() const {
  return counters_.bytes_received.load(std::memory_order_relaxed) +
         (memory_ ? memory_->bytes_received() : 0);
}

// Goes on with an operation that is not queued: true if it got to its end.
bool Engine::look(Operation& operation, int looks) {
  trace_.run(operation.slot);
  const bool done =
      trace_.has_timeline() ? look_traced(operation, looks) : memory_->look(operation.run, looks);
  if (done) trace_.end(operation.slot, trace::State::complete);
  return done;
}

// With mutex_ held, since it takes no time to speak of.
bool Engine::repeat(const Call& call, Elems input_block, Elems output_block,
                    const Buffers& buffers) {
  if (!memory_) return false;
  std::unique_lock lock(mutex_);
  auto& kept = kept_[static_cast<std::size_t>(call.collective)];
  if (!kept || driving_ || failed() || something_to_drive() ||
      !kept->repeats(call, input_block, output_block)) {
    return false;
  }
  const trace::Ticks since = trace_.stamp();
  kept->arm(buffers);
  enter(*kept);
  try {
    if (look(*kept, options_.crowded ? kLooksCrowded : kLooks)) {
      trace_.called(since, kept->slot);
      return true;
    }
  } catch (const Error& error) {
    fail_at_once(lock, *kept, error);
  }
  std::unique_ptr<Operation> mine = std::move(kept);
  if (!mine->error) drive_unlocked(lock, mine.get(), mine.get(), false);
  trace_.called(since, mine->slot);
  if (mine->error) std::rethrow_exception(mine->error);
  if (!kept) kept = std::move(mine);
  return true;
}

// An operation that was not queued went wrong.
void Engine::fail_at_once(std::unique_lock<std::mutex>& lock, Operation& operation,
                          const Error& error) {
  driving_ = true;
  lock.unlock();
  running_.push_back(&operation);
  settle(trouble_of(error));
  lock.lock();
  leave_driving();
}

void Engine::keep(std::unique_ptr<Operation> operation) {
  if (!operation->on_memory || !operation->run.is_short()) return release(std::move(operation));
  const auto kind = static_cast<std::size_t>(operation->call.collective);
  {
    const std::lock_guard lock(mutex_);
    operation.swap(kept_[kind]);
  }
  if (operation) release(std::move(operation));
}

// By the driver: a blocking call on memory with nothing else under way runs here and now, if the
// others come soon enough. It is then neither queued nor listed.
bool Engine::try_at_once(Operation& operation) {
  if (!operation.on_memory || !running_.empty()) return false;
  try {
    operation.done = look(operation, options_.crowded ? kLooksCrowded : kLooks);
  } catch (const Error& error) {
    running_.push_back(&operation);
    settle(trouble_of(error));
  }
  return operation.done;
}

// By the driver: the operation that is first in line goes on.
bool Engine::advance_memory() {
  Operation& operation = *memory_queue_.front();
  const auto progress = advance(operation);
  if (progress == MemoryRunner::Progress::blocked) return false;
  trace_.steps(operation.slot, ++operation.nodes_done);
  if (progress == MemoryRunner::Progress::done) {
    memory_queue_.pop_front();
    finish(&operation, nullptr);
  }
  return true;
}

}  // namespace weft::comm
