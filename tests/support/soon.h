// How late "at once" may be in a test.
#pragma once

#include <chrono>

namespace weft::tests {

// Other tests and noisy neighbours share the cores, so this is generous: what must be told apart
// from a timeout has one that is far longer. That a failure is told within a second where the cores
// are free is for chaos_main to show.
inline constexpr std::chrono::seconds kSoon{8};

}  // namespace weft::tests
