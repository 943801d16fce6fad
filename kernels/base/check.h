// Assertions state what must hold inside weft; they stay on in release builds, because they are
// cheap where they stand and a wrong sum is dearer. A user's mistake is not an assertion: use
// fail<InvalidArgument>().
#pragma once

#include <string_view>

namespace weft {

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line,
                                   std::string_view message);

}  // namespace weft

#define WEFT_ASSERT(condition, message) \
  (static_cast<bool>(condition)         \
       ? void(0)                        \
       : ::weft::assertion_failed(#condition, __FILE__, __LINE__, message))
