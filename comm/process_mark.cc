#include "comm/process_mark.h"

#include <pthread.h>

#include <atomic>

namespace weft::comm {
namespace {

// Of which this process is the child, since the program began.
std::atomic<std::uint32_t> g_forks{0};

}  // namespace

ProcessMark::ProcessMark() : generation_(current()) {
  static const int watched =
      ::pthread_atfork(nullptr, nullptr, [] { g_forks.fetch_add(1, std::memory_order_relaxed); });
  (void)watched;
}

std::uint32_t ProcessMark::current() { return g_forks.load(std::memory_order_relaxed); }

}  // namespace weft::comm
