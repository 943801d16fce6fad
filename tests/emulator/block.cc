#include "tests/emulator/block.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/emulator/copies.h"
#include "tests/emulator/device.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/fiber.h"
#include "tests/emulator/launch.h"
#include "tests/emulator/memory.h"
#include "tests/emulator/warp.h"

constinit thread_local uint3 threadIdx{0, 0, 0};
constinit thread_local uint3 blockIdx{0, 0, 0};
constinit thread_local dim3 blockDim{1, 1, 1};
constinit thread_local dim3 gridDim{1, 1, 1};

namespace weft::emulated {
namespace {

// Shared by the blocks of one launch.
struct Running {
  const Launch& launch;
  std::atomic<bool> failed{false};
  std::chrono::steady_clock::time_point deadline;
};

enum class Wait { none, barrier, warp, pause };

struct Thread {
  unsigned index = 0;
  Fiber* fiber = nullptr;
  Wait wait = Wait::none;
  bool ended = false;
  PendingCopies copies;
};

// Runs the blocks that fall to one OS thread.
class Block {
 public:
  explicit Block(Running& running)
      : running_(running),
        threads_(running.launch.block.x * running.launch.block.y * running.launch.block.z),
        warps_((threads_.size() + 31) / 32),
        shared_(running.launch.shared_bytes + kSharedAlignment) {
    for (unsigned i = 0; i < threads_.size(); ++i) threads_[i].index = i;
  }

  void run(uint3 index);

  Thread& current() { return *current_; }
  Warp& warp_of(const Thread& thread) { return warps_[thread.index / 32]; }
  int sync(int value);
  unsigned lane() const { return current_->index % 32; }
  void wait_for_warp(WarpCall& call);
  void pause();
  void* shared() {
    const auto address = reinterpret_cast<std::uintptr_t>(shared_.data());
    return shared_.data() + (kSharedAlignment - address % kSharedAlignment) % kSharedAlignment;
  }

 private:
  static constexpr std::size_t kSharedAlignment = 128;

  static void fiber_body(void* self) { static_cast<Block*>(self)->run_threads(); }
  void run_threads();
  void run_thread(Thread& thread);
  void end(Thread& thread);
  void park(Wait why);
  void resume(Thread& thread);
  void start_fiber();
  void fail(std::string text);
  std::string stuck() const;
  std::string where() const;

  Running& running_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<std::byte> shared_;
  std::deque<Thread*> ready_;    // to go on
  std::deque<Thread*> pausing_;  // to go on when the ready ones are through
  unsigned next_ = 0, ended_ = 0;
  Thread* current_ = nullptr;
  Fiber* fiber_ = nullptr;  // that runs now
  std::vector<Thread*> at_barrier_;
  int barrier_sum_ = 0, barrier_result_ = 0;
  unsigned pauses_ = 0;
};

constinit thread_local Block* block = nullptr;

FiberPool& pool() {
  static thread_local FiberPool fibers;
  return fibers;
}

std::string triple(const uint3& v) { return fmt::format("({},{},{})", v.x, v.y, v.z); }

std::string Block::where() const {
  return fmt::format("block {} of {}, kernel of type {}", triple(blockIdx),
                     triple({gridDim.x, gridDim.y, gridDim.z}), running_.launch.type);
}

void Block::fail(std::string text) {
  if (!running_.failed.exchange(true)) remember_failure(fmt::format("{} in {}", text, where()));
}

void Block::run(uint3 index) {
  const auto& launch = running_.launch;
  Block* const outer = block;
  block = this;
  blockIdx = index;
  blockDim = launch.block;
  gridDim = launch.grid;
  for (Thread& thread : threads_) {
    thread.fiber = nullptr;
    thread.wait = Wait::none;
    thread.ended = false;
    thread.copies.copies.clear();
    thread.copies.groups.clear();
  }
  const auto count = static_cast<unsigned>(threads_.size());
  for (Warp& warp : warps_) warp.begin();
  for (unsigned i = 0; i < count; ++i) warps_[i / 32].alive |= 1u << (i % 32);
  std::memset(shared_.data(), kMemoryPoison, shared_.size());
  ready_.clear();
  pausing_.clear();
  at_barrier_.clear();
  next_ = ended_ = 0;
  barrier_sum_ = 0;
  while (!running_.failed.load(std::memory_order_relaxed)) {
    if (!ready_.empty()) {
      Thread* const thread = ready_.front();
      ready_.pop_front();
      resume(*thread);
    } else if (next_ < count) {
      start_fiber();
    } else if (!pausing_.empty()) {
      ready_.swap(pausing_);
    } else if (ended_ == count) {
      break;
    } else {
      fail(stuck());
    }
  }
  // The stacks of a failed kernel are given up as they are.
  for (Thread& thread : threads_) {
    if (thread.fiber != nullptr) pool().give(thread.fiber);
  }
  block = outer;
}

// On a fiber: threads from the first that has not begun, until one waits or others can go on.
void Block::run_threads() {
  while (next_ < threads_.size() && ready_.empty() && !running_.failed) {
    const auto last = static_cast<unsigned>(threads_.size()) - 1;
    run_thread(threads_[latest_first() ? last - next_ : next_]);
  }
  Fiber* const self = fiber_;
  pool().give(self);
  self->leave(true);
}

void Block::run_thread(Thread& thread) {
  ++next_;
  const auto& size = running_.launch.block;
  thread.fiber = fiber_;
  current_ = &thread;
  threadIdx = {thread.index % size.x, thread.index / size.x % size.y,
               thread.index / (size.x * size.y)};
  try {
    running_.launch.call();
  } catch (const KernelFailure& failure) {
    fail(fmt::format("{} by thread {}", failure.text, triple(threadIdx)));
  } catch (const KernelStopped&) {
  }
  fiber_ = thread.fiber;
  end(thread);
}

void Block::end(Thread& thread) {
  thread.fiber = nullptr;
  thread.ended = true;
  ++ended_;
  Warp& warp = warp_of(thread);
  warp.alive &= ~(1u << (thread.index % 32));
  // Those that wait for this lane wait no more: a lane that has ended takes no part.
  for (const auto& call : warp.calls()) {
    if (call->mask != 0 && !call->complete && call->arrived == (call->mask & warp.alive)) {
      call->complete = true;
      for (unsigned lane = 0; lane < 32; ++lane) {
        if (call->arrived >> lane & 1) ready_.push_back(&threads_[thread.index / 32 * 32 + lane]);
      }
    }
  }
}

void Block::start_fiber() {
  Fiber* const fiber = pool().take();
  fiber->prepare(&Block::fiber_body, this);
  fiber_ = fiber;
  fiber->enter();
}

void Block::resume(Thread& thread) {
  const auto& size = running_.launch.block;
  current_ = &thread;
  fiber_ = thread.fiber;
  threadIdx = {thread.index % size.x, thread.index / size.x % size.y,
               thread.index / (size.x * size.y)};
  thread.wait = Wait::none;
  thread.fiber->enter();
}

void Block::park(Wait why) {
  Thread& thread = *current_;
  thread.wait = why;
  if (thread.fiber->overflowed()) {
    throw KernelFailure{"more local memory than a fiber's stack holds"};
  }
  thread.fiber->leave(false);
  if (running_.failed.load(std::memory_order_relaxed)) throw KernelStopped{};
}

int Block::sync(int value) {
  barrier_sum_ += value;
  if (at_barrier_.size() + 1 < threads_.size()) {
    at_barrier_.push_back(current_);
    park(Wait::barrier);
    return barrier_result_;
  }
  barrier_result_ = barrier_sum_;
  barrier_sum_ = 0;
  ready_.insert(ready_.end(), at_barrier_.begin(), at_barrier_.end());
  at_barrier_.clear();
  return barrier_result_;
}

void Block::wait_for_warp(WarpCall& call) {
  const unsigned first = current_->index / 32 * 32;
  const unsigned self = current_->index % 32;
  if (call.arrived == (call.mask & warp_of(*current_).alive)) {
    call.complete = true;
    for (unsigned lane = 0; lane < 32; ++lane) {
      if (lane != self && (call.arrived >> lane & 1)) ready_.push_back(&threads_[first + lane]);
    }
    return;
  }
  park(Wait::warp);
}

void Block::pause() {
  if (running_.failed.load(std::memory_order_relaxed)) throw KernelStopped{};
  if (++pauses_ % 64 == 0 && std::chrono::steady_clock::now() > running_.deadline) {
    throw KernelFailure{"waited for longer than WEFT_EMULATED_TIMEOUT seconds"};
  }
  if (ready_.empty() && pausing_.empty() && next_ == threads_.size()) {
    sched_yield();  // nobody else here: it is for another block, stream or process to go on
    return;
  }
  if (ready_.empty() && next_ == threads_.size()) sched_yield();
  pausing_.push_back(current_);
  park(Wait::pause);
}

std::string Block::stuck() const {
  unsigned in_warp = 0;
  const Thread* first_lane = nullptr;
  const Thread* first_ended = nullptr;
  for (const Thread& thread : threads_) {
    if (thread.ended && first_ended == nullptr) first_ended = &thread;
    if (thread.ended || thread.wait != Wait::warp) continue;
    if (first_lane == nullptr) first_lane = &thread;
    ++in_warp;
  }
  auto text = fmt::format("a deadlock: of {} threads ", threads_.size());
  if (!at_barrier_.empty()) {
    text += fmt::format("{} wait at __syncthreads() (the first is {}), ", at_barrier_.size(),
                        (*std::ranges::min_element(at_barrier_, {}, &Thread::index))->index);
  }
  if (first_lane != nullptr) {
    text += fmt::format("{} wait for lanes of their warp (the first is {}), ", in_warp,
                        first_lane->index);
  }
  text += fmt::format("{} have ended", ended_);
  if (first_ended != nullptr) {
    text += fmt::format(" without it (the first is {})", first_ended->index);
  }
  return text;
}

// Grid coordinates of block number `i`.
uint3 block_index(const dim3& grid, std::uint64_t i) {
  return {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
          static_cast<unsigned>(i / grid.x / grid.y)};
}

Block& running_block() {
  if (block == nullptr) {
    remember_failure("a function of device code was called outside a kernel");
    std::abort();
  }
  return *block;
}

}  // namespace

bool run_launch(const Launch& launch) {
  static const auto limit = std::chrono::seconds(setting("WEFT_EMULATED_TIMEOUT", 60, 1));
  Running running{launch, {}, std::chrono::steady_clock::now() + limit};
  const std::uint64_t blocks =
      static_cast<std::uint64_t>(launch.grid.x) * launch.grid.y * launch.grid.z;
  if (launch.cooperative && blocks > 1) {
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < blocks; ++i) {
      threads.emplace_back([&, i] { Block(running).run(block_index(launch.grid, i)); });
    }
    for (auto& thread : threads) thread.join();
  } else {
    Block one(running);
    for (std::uint64_t i = 0; i < blocks && !running.failed; ++i) {
      one.run(block_index(launch.grid, latest_first() ? blocks - 1 - i : i));
    }
  }
  return !running.failed;
}

bool inside_kernel() { return block != nullptr; }

unsigned lane() { return running_block().lane(); }

int sync_threads(int value) { return running_block().sync(value); }

void exchange(unsigned mask, std::uint64_t value, std::uint64_t (&all)[32]) {
  Block& own = running_block();
  const unsigned self = own.lane();
  if ((mask >> self & 1) == 0) {
    throw KernelFailure{"a warp function with a mask that lacks the caller's own lane"};
  }
  Warp& warp = own.warp_of(own.current());
  WarpCall& call = warp.join(mask);
  call.values[self] = value;
  call.arrived |= 1u << self;
  own.wait_for_warp(call);
  std::memcpy(all, call.values, sizeof all);
  call.left |= 1u << self;
  if (call.left == call.arrived) call = WarpCall{};
}

std::uint64_t shuffle(unsigned mask, std::uint64_t value, int source) {
  std::uint64_t all[32];
  exchange(mask, value, all);
  return all[source & 31];
}

unsigned ballot(unsigned mask, bool value) {
  std::uint64_t all[32];
  exchange(mask, value ? kLaneTrue : kLaneFalse, all);
  unsigned bits = 0;
  for (unsigned i = 0; i < 32; ++i) bits |= static_cast<unsigned>(all[i] == kLaneTrue) << i;
  return bits;
}

void sync_warp(unsigned mask) {
  std::uint64_t all[32];
  exchange(mask, 0, all);
}

void pause() { running_block().pause(); }

PendingCopies& pending_copies() { return running_block().current().copies; }

void* dynamic_shared_memory() { return running_block().shared(); }

void trap(const char* what) { throw KernelFailure{what}; }

void check_access(const void* address, std::size_t bytes) {
  if (!device_memory_holds(address, bytes)) {
    throw KernelFailure{fmt::format("an access to {} bytes at {}, which is not memory of a device",
                                    bytes, describe(address))};
  }
}

}  // namespace weft::emulated
