// Stacks to switch between within one OS thread.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace weft::emulated {

// A stack and where its execution stands. The body of a fiber never returns: it switches away for
// the last time, and the fiber can be started again.
class Fiber {
 public:
  explicit Fiber(std::byte* stack, std::size_t bytes);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Sets the fiber to begin at body(argument) when it is next switched to.
  void prepare(void (*body)(void*), void* argument);
  // From the OS thread's own stack into the fiber, until it calls leave().
  void enter();
  // From inside the fiber back to whoever entered it. `last`: it will not be entered again before
  // it is prepared anew.
  void leave(bool last);
  // Whether the stack's far end was reached: a kernel with too much in local arrays.
  bool overflowed() const;

 private:
  struct Machine;
  static void first(Fiber* self);

  std::byte* const stack_;
  const std::size_t bytes_;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  std::unique_ptr<Machine> machine_;
};

// The fibers of one OS thread, kept for the next block.
class FiberPool {
 public:
  FiberPool();
  ~FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;

  Fiber* take();
  void give(Fiber* fiber) { free_.push_back(fiber); }

 private:
  std::vector<void*> slabs_;
  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> free_;
};

}  // namespace weft::emulated
