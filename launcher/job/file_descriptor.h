// The descriptors of ranks' pipes, and how they are made.
#pragma once

#include <string>

#include "kernels/base/file_descriptor.h"

namespace weft::launcher {

// Descriptors handed to children are kept at kHighDescriptor or above, so that moving them onto
// 0, 1 and 2 never overwrites one that is still needed, even where we were started with those
// closed.
inline constexpr int kHighDescriptor = 16;

struct Pipe {
  FileDescriptor read;
  FileDescriptor write;
};
Pipe make_pipe();                       // close-on-exec, both ends high; throws IoError
FileDescriptor duplicate_high(int fd);  // close-on-exec; throws IoError
FileDescriptor open_null(int flags);    // /dev/null, high
std::string errno_text(int number);     // "No such file or directory"

}  // namespace weft::launcher
