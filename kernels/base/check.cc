#include "kernels/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace weft {

void assertion_failed(const char* condition, const char* file, int line, std::string_view message) {
  std::fprintf(stderr, "weft: assertion failed at %s:%d: %s (%.*s). This is a bug in weft.\n", file,
               line, condition, static_cast<int>(message.size()), message.data());
  std::fflush(stderr);
  std::abort();
}

}  // namespace weft
