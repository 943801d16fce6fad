#include "kernels/base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "kernels/base/error.h"

namespace weft {
namespace {

using Body = std::function<void(std::int64_t, std::int64_t)>;

// How long a thread looks for work (or for the end of it) before it sleeps: longer than the serial
// stretches between two kernels of a training step, shorter than a scheduler's time slice.
constexpr auto kSpin = std::chrono::microseconds(30);
constexpr int kThreadsMax = 4096;
// Ranges of at least this many items begin at multiples of kRangeAlignment items, so that vector
// stores of neighbouring threads do not share a cache line.
constexpr std::int64_t kAlignedRange = 1024;
constexpr std::int64_t kRangeAlignment = 64;

thread_local bool inside_parallel_for = false;
thread_local ThreadPool* scoped_pool = nullptr;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until done() holds or kSpin is over; tells which.
template <class Done>
bool spin_until(bool may_spin, const Done& done) {
  if (done()) return true;
  if (!may_spin) return false;
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      pause();
      if (done()) return true;
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return false;
}

int usable_cores() {
  for (int cpus = 1024; cpus <= (1 << 20); cpus *= 4) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(cpus));
    if (set == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(cpus));
    CPU_ZERO_S(bytes, set);
    const int failed = sched_getaffinity(0, bytes, set);
    const int count = failed == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// The value of an environment variable that counts threads; 0 where it is not set. A list ("4,2")
// is OpenMP's way to size nested levels: the first level counts.
int threads_from(const char* variable, bool may_be_list) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return 0;
  const std::string_view all(text);
  const std::string_view value = may_be_list ? all.substr(0, all.find(',')) : all;
  int threads = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), threads);
  if (error != std::errc() || end != value.data() + value.size() || threads < 1 ||
      threads > kThreadsMax) {
    fail<InvalidArgument>(
        "thread pool: {}='{}' is not a number of threads: expected an integer in 1..{}. Set it to "
        "one or unset it.",
        variable, all, kThreadsMax);
  }
  return threads;
}

// What a range's slot holds: even numbers mean "posted", the odd number that follows "taken".
constexpr bool is_posted(std::uint32_t state) { return (state & 1u) == 0; }

}  // namespace

struct ThreadPool::Impl {
  // One for every thread but the caller. A job's range i is posted in slot i; whoever turns `state`
  // from posted to taken runs it. The caller takes what no worker has started, so a sleeping or
  // descheduled worker delays nobody; and since the caller leaves only when every taken range is
  // done, whoever has taken one may read the job.
  struct alignas(128) Slot {
    std::atomic<std::uint32_t> state{1};
    std::exception_ptr error;
  };

  explicit Impl(int threads) : slots(static_cast<std::size_t>(threads)) {
    may_spin = threads <= usable_cores();
    workers.reserve(slots.size() - 1);
    try {
      for (std::size_t i = 1; i < slots.size(); ++i) workers.emplace_back([this, i] { work(i); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Impl() { stop(); }

  void stop() {
    stopping.store(true);
    for (std::size_t i = 1; i <= workers.size(); ++i) {
      slots[i].state.fetch_add(1);  // taken -> posted: wakes it
      slots[i].state.notify_one();
    }
    for (std::thread& worker : workers) worker.join();
  }

  void work(std::size_t index) {
    inside_parallel_for = true;
    std::atomic<std::uint32_t>& state = slots[index].state;
    for (;;) {
      std::uint32_t seen = state.load(std::memory_order_acquire);
      const auto posted = [&] {
        seen = state.load(std::memory_order_acquire);
        return is_posted(seen);
      };
      while (!spin_until(may_spin, posted)) state.wait(seen, std::memory_order_acquire);
      if (stopping.load(std::memory_order_relaxed)) return;
      if (state.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel)) {
        run_range(index);
        if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
      }
    }
  }

  void run_range(std::size_t index) {
    const std::int64_t begin = static_cast<std::int64_t>(index) * range;
    try {
      (*body)(begin, std::min(size, begin + range));
    } catch (...) {
      slots[index].error = std::current_exception();
    }
  }

  void run(std::int64_t job_size, std::int64_t job_range, std::size_t ranges,
           const Body& job_body) {
    const std::lock_guard turn(callers);
    size = job_size;
    range = job_range;
    body = &job_body;
    unfinished.store(static_cast<std::uint32_t>(ranges - 1), std::memory_order_relaxed);
    for (std::size_t i = 1; i < ranges; ++i) {
      slots[i].state.fetch_add(1, std::memory_order_release);
      slots[i].state.notify_one();
    }
    run_range(0);
    std::uint32_t taken_here = 0;
    for (std::size_t i = ranges - 1; i > 0; --i) {
      std::uint32_t seen = slots[i].state.load(std::memory_order_relaxed);
      if (is_posted(seen) &&
          slots[i].state.compare_exchange_strong(seen, seen + 1, std::memory_order_acq_rel)) {
        run_range(i);
        ++taken_here;
      }
    }
    std::uint32_t left =
        taken_here > 0 ? unfinished.fetch_sub(taken_here, std::memory_order_acq_rel) - taken_here
                       : unfinished.load(std::memory_order_acquire);
    const auto finished = [&] {
      left = unfinished.load(std::memory_order_acquire);
      return left == 0;
    };
    while (!spin_until(may_spin, finished)) unfinished.wait(left, std::memory_order_acquire);
    rethrow_first(ranges);
  }

  void rethrow_first(std::size_t ranges) {
    std::exception_ptr first;
    for (std::size_t i = 0; i < ranges; ++i) {
      if (slots[i].error && !first) first = slots[i].error;
      slots[i].error = nullptr;
    }
    if (first) std::rethrow_exception(first);
  }

  std::mutex callers;
  bool may_spin = false;
  std::atomic<bool> stopping{false};
  std::int64_t size = 0;
  std::int64_t range = 0;
  const Body* body = nullptr;
  alignas(128) std::atomic<std::uint32_t> unfinished{0};
  std::vector<Slot> slots;
  std::vector<std::thread> workers;
};

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > kThreadsMax) {
    fail<InvalidArgument>("thread pool: {} threads asked for: expected 1..{}.", threads,
                          kThreadsMax);
  }
  impl_ = std::make_unique<Impl>(threads);
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const { return static_cast<int>(impl_->slots.size()); }

void ThreadPool::parallel_for(std::int64_t size, std::int64_t grain, const Body& body) {
  if (size <= 0) return;
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t threads = inside_parallel_for ? 1 : this->size();
  const std::int64_t wanted = std::clamp<std::int64_t>(size / grain, 1, threads);
  if (wanted == 1) {
    body(0, size);
    return;
  }
  std::int64_t range = (size + wanted - 1) / wanted;
  if (range >= kAlignedRange) {
    range = (range + kRangeAlignment - 1) / kRangeAlignment * kRangeAlignment;
  }
  const std::int64_t ranges = (size + range - 1) / range;
  if (ranges == 1) {
    body(0, size);
    return;
  }
  struct Inside {
    Inside() { inside_parallel_for = true; }
    ~Inside() { inside_parallel_for = false; }
  } inside;
  impl_->run(size, range, static_cast<std::size_t>(ranges), body);
}

int ThreadPool::default_size() {
  if (const int threads = threads_from("WEFT_NUM_THREADS", false); threads > 0) return threads;
  if (const int threads = threads_from("OMP_NUM_THREADS", true); threads > 0) return threads;
  return usable_cores();
}

ThreadPool& ThreadPool::current() {
  if (scoped_pool != nullptr) return *scoped_pool;
  // Never destroyed: a thread may still compute while the process exits.
  static ThreadPool* const process_pool = new ThreadPool(default_size());
  return *process_pool;
}

ScopedThreadPool::ScopedThreadPool(ThreadPool& pool) : previous_(scoped_pool) {
  scoped_pool = &pool;
}

ScopedThreadPool::~ScopedThreadPool() { scoped_pool = previous_; }

}  // namespace weft
