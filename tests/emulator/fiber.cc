#include "tests/emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <new>

#include "tests/emulator/switch.h"

namespace weft::emulated {
namespace {

constexpr std::size_t kStackBytes = 256 << 10;  // touched as far as a kernel needs it
constexpr std::size_t kSlab = 32;               // stacks made at a time: one warp
constexpr std::uint64_t kCanary = 0x57e57ac4ed57ac4eull;
constexpr std::size_t kCanaryWords = 8;

}  // namespace

struct Fiber::Machine {
  StackSwitch fiber, caller;
};

Fiber::Fiber(std::byte* stack, std::size_t bytes)
    : stack_(stack), bytes_(bytes), machine_(std::make_unique<Machine>()) {
  for (std::size_t i = 0; i < kCanaryWords; ++i) {
    std::memcpy(stack_ + i * sizeof kCanary, &kCanary, sizeof kCanary);
  }
  machine_->fiber.make_sanitizer_fiber();
}

Fiber::~Fiber() { machine_->fiber.drop_sanitizer_fiber(); }

void Fiber::prepare(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
  machine_->fiber.prepare(stack_, bytes_, reinterpret_cast<void (*)(void*)>(&Fiber::first), this);
}

void Fiber::first(Fiber* self) {
  self->machine_->fiber.arrived_first(self->machine_->caller);
  self->body_(self->argument_);
}

void Fiber::enter() { machine_->caller.switch_to(machine_->fiber, false); }

void Fiber::leave(bool last) { machine_->fiber.switch_to(machine_->caller, last); }

bool Fiber::overflowed() const {
  for (std::size_t i = 0; i < kCanaryWords; ++i) {
    if (std::memcmp(stack_ + i * sizeof kCanary, &kCanary, sizeof kCanary) != 0) return true;
  }
  return false;
}

FiberPool::FiberPool() = default;

FiberPool::~FiberPool() {
  all_.clear();
  for (void* slab : slabs_) munmap(slab, kSlab * kStackBytes);
}

Fiber* FiberPool::take() {
  if (free_.empty()) {
    void* const slab = mmap(nullptr, kSlab * kStackBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slab == MAP_FAILED) throw std::bad_alloc();
    slabs_.push_back(slab);
    for (std::size_t i = kSlab; i-- > 0;) {
      all_.push_back(
          std::make_unique<Fiber>(static_cast<std::byte*>(slab) + i * kStackBytes, kStackBytes));
      free_.push_back(all_.back().get());
    }
  }
  Fiber* const fiber = free_.back();
  free_.pop_back();
  return fiber;
}

}  // namespace weft::emulated
