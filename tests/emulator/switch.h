// Saving one stack and going on with another: a few instructions where the processor is x86-64,
// ucontext elsewhere. AddressSanitizer and ThreadSanitizer are told of it.
#pragma once

#include <ucontext.h>

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ADDRESS_SANITIZER 1
#endif
#if __has_feature(thread_sanitizer)
#define WEFT_THREAD_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ADDRESS_SANITIZER 1
#endif
#if defined(__SANITIZE_THREAD__)
#define WEFT_THREAD_SANITIZER 1
#endif

namespace weft::emulated {

// Where an execution was left, to be taken up again.
class StackSwitch {
 public:
  // Sets this to start function(argument) on the stack.
  void prepare(std::byte* stack, std::size_t bytes, void (*function)(void*), void* argument);
  // Leaves the execution that runs now, as *this, and takes up `to`; returns when somebody switches
  // back. `last`: nobody will.
  void switch_to(StackSwitch& to, bool last);
  // The first thing that a fresh stack does, having come from `from`.
  void arrived_first(StackSwitch& from);

  void make_sanitizer_fiber();
  void drop_sanitizer_fiber();

 private:
  void* pointer_ = nullptr;  // x86-64: the stack pointer, everything else being on the stack
  [[maybe_unused]] ucontext_t context_{};  // elsewhere
  const void* bottom_ = nullptr;
  std::size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
  void* sanitizer_fiber_ = nullptr;
};

}  // namespace weft::emulated
