#include "launcher/job/output.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "launcher/job/file_descriptor.h"

namespace weft::launcher {
namespace {

constexpr std::size_t kQueuedBytesMax = 4 << 20;
constexpr std::size_t kStatusColumns = 120;
constexpr auto kLastDrain = std::chrono::seconds(10);

// False when nobody reads any more (or the disk is full): what is left for it is dropped.
bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd ready{fd, POLLOUT, 0};  // somebody made our standard output non-blocking
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace

struct Output::State {
  struct Piece {
    Stream stream;
    std::string bytes;
  };

  int out_fd;
  int error_fd;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Piece> queue;
  std::size_t queued_bytes = 0;
  bool writing = false;
  bool stopping = false;
  bool closed[2] = {false, false};
  std::string status;
  std::string shown;
  std::vector<std::function<void()>> waiting_for_room;
  std::function<void()> closed_callback;
  std::thread thread;

  int fd_of(Stream stream) const { return stream == Stream::out ? out_fd : error_fd; }
  void put(Stream stream, std::string_view bytes);
};

Output::Output(int out_fd, int error_fd) : state_(std::make_shared<State>()) {
  state_->out_fd = out_fd;
  state_->error_fd = error_fd;
  terminal_ = isatty(error_fd) == 1 && isatty(out_fd) == 1;
  state_->thread = std::thread(run, state_);
}

Output::~Output() {
  const bool drained = drain(kLastDrain);
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->queue.clear();
  }
  state_->changed.notify_all();
  if (drained) {
    state_->thread.join();
  } else {
    state_->thread.detach();  // stuck in a write that nobody reads; it keeps the state alive
  }
}

void Output::write(Stream stream, std::string_view lines) {
  if (lines.empty()) return;
  const std::lock_guard lock(state_->mutex);
  if (state_->closed[static_cast<int>(stream)]) return;
  state_->queued_bytes += lines.size();
  if (!state_->queue.empty() && state_->queue.back().stream == stream) {
    state_->queue.back().bytes += lines;
  } else {
    state_->queue.push_back({stream, std::string(lines)});
  }
  state_->changed.notify_all();
}

void Output::set_status(std::string_view text) {
  if (!terminal_) return;
  const std::lock_guard lock(state_->mutex);
  state_->status = text.substr(0, kStatusColumns);
  state_->changed.notify_all();
}

bool Output::full() const {
  const std::lock_guard lock(state_->mutex);
  return state_->queued_bytes > kQueuedBytesMax;
}

void Output::when_room(std::function<void()> callback) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->queued_bytes > kQueuedBytesMax) {
      state_->waiting_for_room.push_back(std::move(callback));
      return;
    }
  }
  callback();
}

void Output::on_closed(std::function<void()> callback) {
  const std::lock_guard lock(state_->mutex);
  state_->closed_callback = std::move(callback);
}

bool Output::drain(std::chrono::milliseconds timeout) {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, timeout,
                                  [&] { return state_->queue.empty() && !state_->writing; });
}

void Output::State::put(Stream stream, std::string_view bytes) {
  if (write_all(fd_of(stream), bytes)) return;
  const int number = errno;
  if (stream == Stream::out && number != EPIPE) {  // a reader that went away needs no telling
    write_all(error_fd, "weft: cannot write standard output: " + errno_text(number) + "\n");
  }
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex);
    closed[static_cast<int>(stream)] = true;
    if (stream == Stream::out) callback = std::exchange(closed_callback, nullptr);
  }
  if (callback) callback();
}

void Output::run(std::shared_ptr<State> state) {
  sigset_t all;  // signals belong to other threads; SIGPIPE becomes an error of write()
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  State& s = *state;
  std::unique_lock lock(s.mutex);
  while (true) {
    s.changed.wait(lock, [&] { return !s.queue.empty() || s.stopping || s.status != s.shown; });
    if (s.stopping && s.queue.empty()) return;
    std::deque<State::Piece> pieces;
    pieces.swap(s.queue);
    const std::string status = s.status;
    s.writing = true;
    lock.unlock();
    if (!s.shown.empty()) s.put(Stream::error, "\r\x1b[K");
    std::size_t written = 0;
    for (const auto& piece : pieces) {
      s.put(piece.stream, piece.bytes);
      written += piece.bytes.size();
    }
    if (!status.empty()) s.put(Stream::error, status);
    lock.lock();
    s.shown = status;
    s.writing = false;
    s.queued_bytes -= written;
    s.changed.notify_all();
    if (s.queued_bytes <= kQueuedBytesMax && !s.waiting_for_room.empty()) {
      const auto callbacks = std::exchange(s.waiting_for_room, {});
      lock.unlock();
      for (const auto& callback : callbacks) callback();
      lock.lock();
    }
  }
}

}  // namespace weft::launcher
