// Passes what is typed at our terminal on to rank 0, which cannot read it itself: it is in a
// process group of its own, and the terminal belongs to ours.
#pragma once

#include <array>
#include <asio.hpp>
#include <optional>

#include "launcher/job/file_descriptor.h"

namespace weft::launcher {

class TerminalInput {
 public:
  TerminalInput(asio::io_context& io, int terminal_fd, FileDescriptor to_rank);

 private:
  void wait();
  void pass_on();

  asio::posix::stream_descriptor terminal_;
  asio::posix::stream_descriptor to_rank_;
  asio::steady_timer background_;
  std::array<char, 4096> buffer_;
};

}  // namespace weft::launcher
