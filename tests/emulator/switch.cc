#include "tests/emulator/switch.h"

#include <cstdint>

#if defined(WEFT_ADDRESS_SANITIZER)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(WEFT_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
#endif

namespace weft::emulated {
namespace {

// ---- what the sanitizers must know

void start_switch([[maybe_unused]] void** fake_stack, [[maybe_unused]] const void* bottom,
                  [[maybe_unused]] std::size_t bytes, [[maybe_unused]] void*& own_fiber,
                  [[maybe_unused]] void* fiber) {
#if defined(WEFT_ADDRESS_SANITIZER)
  __sanitizer_start_switch_fiber(fake_stack, bottom, bytes);
#endif
#if defined(WEFT_THREAD_SANITIZER)
  own_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber, 0);
#endif
}

void finish_switch([[maybe_unused]] void* fake_stack, [[maybe_unused]] const void** from_bottom,
                   [[maybe_unused]] std::size_t* from_bytes) {
#if defined(WEFT_ADDRESS_SANITIZER)
  __sanitizer_finish_switch_fiber(fake_stack, from_bottom, from_bytes);
#endif
}

}  // namespace

#if defined(__x86_64__)

// Pushes what a function must preserve, leaves the stack pointer in *rdi, takes up the stack rsi.
extern "C" void weft_emulated_switch(void** leave, void* take);
extern "C" void weft_emulated_start();
__asm__(
    ".text\n"
    ".p2align 4\n"
    ".globl weft_emulated_switch\n"
    ".hidden weft_emulated_switch\n"
    ".type weft_emulated_switch,@function\n"
    "weft_emulated_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size weft_emulated_switch,.-weft_emulated_switch\n"
    // A fresh stack begins here, with the function in r12 and its argument in r13. No frame above.
    ".globl weft_emulated_start\n"
    ".hidden weft_emulated_start\n"
    ".type weft_emulated_start,@function\n"
    "weft_emulated_start:\n"
    "  .cfi_startproc\n"
    "  .cfi_undefined rip\n"
    "  movq %r13, %rdi\n"
    "  xorl %ebp, %ebp\n"
    "  callq *%r12\n"
    "  ud2\n"
    "  .cfi_endproc\n"
    ".size weft_emulated_start,.-weft_emulated_start\n");

void StackSwitch::prepare(std::byte* stack, std::size_t bytes, void (*function)(void*),
                          void* argument) {
  bottom_ = stack;
  bytes_ = bytes;
  // As weft_emulated_switch leaves a stack: six registers, then where to return to. The stack is
  // aligned to 16 bytes at the start's first instruction.
  auto* const top = reinterpret_cast<std::uintptr_t*>(stack + bytes) - 2;
  std::uintptr_t* const frame = top - 7;
  for (int i = 0; i < 6; ++i) frame[i] = 0;
  frame[3] = reinterpret_cast<std::uintptr_t>(function);  // r12
  frame[2] = reinterpret_cast<std::uintptr_t>(argument);  // r13
  frame[6] = reinterpret_cast<std::uintptr_t>(&weft_emulated_start);
  pointer_ = frame;
}

void StackSwitch::switch_to(StackSwitch& to, bool last) {
  start_switch(last ? nullptr : &fake_stack_, to.bottom_, to.bytes_, sanitizer_fiber_,
               to.sanitizer_fiber_);
  weft_emulated_switch(&pointer_, to.pointer_);
  finish_switch(fake_stack_, nullptr, nullptr);
}

#else

void StackSwitch::prepare(std::byte* stack, std::size_t bytes, void (*function)(void*),
                          void* argument) {
  bottom_ = stack;
  bytes_ = bytes;
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = bytes;
  context_.uc_link = nullptr;
  const auto function_bits = reinterpret_cast<std::uintptr_t>(function);
  const auto argument_bits = reinterpret_cast<std::uintptr_t>(argument);
  // makecontext passes ints alone.
  void (*const start)(unsigned, unsigned, unsigned, unsigned) =
      [](unsigned f_high, unsigned f_low, unsigned a_high, unsigned a_low) {
        const auto join = [](unsigned high, unsigned low) {
          return static_cast<std::uintptr_t>(static_cast<std::uint64_t>(high) << 32 | low);
        };
        reinterpret_cast<void (*)(void*)>(join(f_high, f_low))(
            reinterpret_cast<void*>(join(a_high, a_low)));
      };
  makecontext(&context_, reinterpret_cast<void (*)()>(start), 4,
              static_cast<unsigned>(static_cast<std::uint64_t>(function_bits) >> 32),
              static_cast<unsigned>(function_bits),
              static_cast<unsigned>(static_cast<std::uint64_t>(argument_bits) >> 32),
              static_cast<unsigned>(argument_bits));
}

void StackSwitch::switch_to(StackSwitch& to, bool last) {
  start_switch(last ? nullptr : &fake_stack_, to.bottom_, to.bytes_, sanitizer_fiber_,
               to.sanitizer_fiber_);
  swapcontext(&context_, &to.context_);
  finish_switch(fake_stack_, nullptr, nullptr);
}

#endif

void StackSwitch::arrived_first(StackSwitch& from) {
  // The OS thread's own stack is known from here on.
  finish_switch(nullptr, &from.bottom_, &from.bytes_);
}

void StackSwitch::make_sanitizer_fiber() {
#if defined(WEFT_THREAD_SANITIZER)
  sanitizer_fiber_ = __tsan_create_fiber(0);
#endif
}

void StackSwitch::drop_sanitizer_fiber() {
#if defined(WEFT_THREAD_SANITIZER)
  if (sanitizer_fiber_ != nullptr) __tsan_destroy_fiber(sanitizer_fiber_);
#endif
}

}  // namespace weft::emulated
