// Files that a user names, for reading: a pipe nobody writes to, or a device without end, must not
// hang the program, and a directory is no file.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/base/file_descriptor.h"

namespace weft {

// The regular file at `path`, close-on-exec. IoError, which begins with `what` ("the network file
// x.json"), if there is none, it may not be read, or it is something else.
FileDescriptor open_regular_file(const std::string& path, const std::string& what);

// The same question for those who open the file by other means.
void expect_regular_file(const std::string& path, const std::string& what);

// What is in it, of at most `bytes_max`: InvalidArgument if there is more.
std::string read_regular_file(const std::string& path, const std::string& what,
                              std::size_t bytes_max);

}  // namespace weft
