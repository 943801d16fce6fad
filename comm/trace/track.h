// The events of one thread in one timeline.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <string>

#include "comm/trace/timeline.h"

namespace weft::comm::trace {

struct Timeline::Track {
  long thread = 0;
  std::string name;  // guarded by the timeline's mutex
  // Room for the most there may be, which the system backs with memory as it fills; null where
  // there was none.
  std::unique_ptr<std::byte[]> memory;
  std::atomic<std::size_t> used{0};  // stored by its thread alone, after the event
  std::atomic<std::uint64_t> dropped{0};

  const Event& event(std::size_t k) const {
    return *std::launder(reinterpret_cast<const Event*>(memory.get() + k * sizeof(Event)));
  }
};
static_assert(alignof(Event) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

}  // namespace weft::comm::trace
