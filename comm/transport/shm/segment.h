// Memory that several processes of one host share: a memfd, which has no name and so leaves nothing
// behind whoever dies when, and which does not depend on how large /dev/shm is. Others of the same
// user open it through /proc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "kernels/base/file_descriptor.h"

namespace weft::comm::shm {

// Where another process finds a descriptor of this one.
struct Handle {
  std::int64_t pid = 0;
  int fd = -1;
};

// A mapping together with what unmaps it.
using Mapping = std::shared_ptr<std::byte>;

class Segment {
 public:
  // `bytes` of zeros, mapped. reserve: all pages are taken now, so that none is missing later, when
  // only SIGBUS could tell. Throws IoError saying what is short.
  Segment(const std::string& name, std::size_t bytes, bool reserve);

  const Mapping& mapping() const { return mapping_; }
  std::size_t bytes() const { return bytes_; }
  Handle handle() const;

 private:
  FileDescriptor descriptor_;
  std::size_t bytes_;
  Mapping mapping_;
};

// Maps another process's segment, which must be `bytes` long. Throws IoError saying why it cannot.
Mapping map_segment(const Handle& handle, std::size_t bytes);

// Puts pages of this process's own in the place of a mapping, with what it holds: others go on with
// the old ones. What other threads write to it meanwhile may be lost. False, with errno: no memory.
bool unshare(const Mapping& mapping, std::size_t bytes);

// Whether a process is no more, or a zombie: one that is stopped is not.
bool has_ended(std::int64_t pid);

// Opens the writing end of another process's pipe; throws IoError.
FileDescriptor open_pipe(const Handle& handle);

}  // namespace weft::comm::shm
