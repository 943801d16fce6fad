// The pool that kernels share out their work on.
//
// One pool a process, sized by the launcher through WEFT_NUM_THREADS (then OMP_NUM_THREADS, then
// the number of cores this process may run on). Ranks that are threads of one process set a pool of
// their own with ScopedThreadPool. Work is split into contiguous ranges that depend only on (size,
// grain, number of threads), never on timing, so results are reproducible for a given pool size.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace weft {

class ThreadPool {
 public:
  // threads >= 1, the caller included: a pool of 1 starts no thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Calls body(begin, end) over disjoint ranges that cover [0, size), each at least `grain` long
  // but for the last; the caller works too and returns when all is done. Nested calls run in the
  // calling thread. The first exception thrown by a body is rethrown here. Safe from several
  // threads: callers take turns.
  void parallel_for(std::int64_t size, std::int64_t grain,
                    const std::function<void(std::int64_t begin, std::int64_t end)>& body);

  // The pool of this thread: the innermost ScopedThreadPool, else the process's.
  static ThreadPool& current();
  // The size the process's pool has or will have.
  static int default_size();

 private:
  friend class ScopedThreadPool;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Makes `pool` the current one of this thread for the life of the scope.
class ScopedThreadPool {
 public:
  explicit ScopedThreadPool(ThreadPool& pool);
  ~ScopedThreadPool();
  ScopedThreadPool(const ScopedThreadPool&) = delete;
  ScopedThreadPool& operator=(const ScopedThreadPool&) = delete;

 private:
  ThreadPool* previous_;
};

inline void parallel_for(std::int64_t size, std::int64_t grain,
                         const std::function<void(std::int64_t begin, std::int64_t end)>& body) {
  ThreadPool::current().parallel_for(size, grain, body);
}

}  // namespace weft
