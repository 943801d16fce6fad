#include "launcher/job/terminal_input.h"

#include <unistd.h>

#include <chrono>
#include <utility>

namespace weft::launcher {

TerminalInput::TerminalInput(asio::io_context& io, int terminal_fd, FileDescriptor to_rank)
    : terminal_(io, duplicate_high(terminal_fd).release()),
      to_rank_(io, to_rank.release()),
      background_(io) {
  wait();
}

void TerminalInput::wait() {
  if (tcgetpgrp(terminal_.native_handle()) != getpgrp()) {
    // Reading now would stop us; look again when we may have been brought to the front.
    background_.expires_after(std::chrono::seconds(1));
    background_.async_wait([this](std::error_code cancelled) {
      if (!cancelled) wait();
    });
    return;
  }
  // Waiting, not async_read_some(): that would make the terminal non-blocking for our shell too.
  terminal_.async_wait(asio::posix::stream_descriptor::wait_read, [this](std::error_code error) {
    if (!error) pass_on();
  });
}

void TerminalInput::pass_on() {
  if (tcgetpgrp(terminal_.native_handle()) != getpgrp()) return wait();
  const ssize_t size = ::read(terminal_.native_handle(), buffer_.data(), buffer_.size());
  if (size <= 0) {  // end of file was typed, or the terminal is gone
    to_rank_.close();
    return;
  }
  asio::async_write(to_rank_, asio::buffer(buffer_.data(), static_cast<std::size_t>(size)),
                    [this](std::error_code error, std::size_t) {
                      if (!error) wait();
                    });
}

}  // namespace weft::launcher
