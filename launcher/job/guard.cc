#include "launcher/job/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <climits>

#include "kernels/base/error.h"

namespace weft::launcher {
namespace {

struct Message {
  pid_t target;
  bool alive;
};

constexpr int kTargetsMax = 65536;

void close_all_but(int fd) {
#ifdef SYS_close_range
  const auto kept = static_cast<unsigned>(fd);
  if ((kept == 0 || syscall(SYS_close_range, 0U, kept - 1, 0) == 0) &&
      syscall(SYS_close_range, kept + 1, UINT_MAX, 0) == 0) {
    return;
  }
#endif
  const long limit = sysconf(_SC_OPEN_MAX);
  for (int other = 0; other < limit; ++other) {
    if (other != fd) close(other);
  }
}

// Runs in a child forked from a process with threads: async-signal-safe calls and this table only.
[[noreturn]] void watch(int fd) {
  static pid_t targets[kTargetsMax];
  int count = 0;
  prctl(PR_SET_NAME, "weft-guard");
  setsid();  // a signal to our terminal's or launcher's group is not meant for us
  close_all_but(fd);
  while (true) {
    Message message{};
    const ssize_t got = read(fd, &message, sizeof message);
    if (got < 0 && errno == EINTR) continue;
    if (got != sizeof message) break;
    if (message.alive && count < kTargetsMax) {
      targets[count++] = message.target;
    } else if (!message.alive) {
      for (int i = 0; i < count; ++i) {
        if (targets[i] == message.target) targets[i--] = targets[--count];
      }
    }
  }
  for (int i = 0; i < count; ++i) kill(targets[i], SIGKILL);
  _exit(0);
}

void tell(int fd, Message message) {
  // A guard that was killed is no reason to stop, nor to die of SIGPIPE.
  while (send(fd, &message, sizeof message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

}  // namespace

Guard::Guard() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    fail<IoError>("cannot make a channel to the guard process: {}", errno_text(errno));
  }
  const FileDescriptor low_read(ends[0]);
  const FileDescriptor low_write(ends[1]);
  const FileDescriptor watched = duplicate_high(ends[0]);
  FileDescriptor told = duplicate_high(ends[1]);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_ = fork();
  if (pid_ == 0) watch(watched.get());  // with every signal blocked but KILL
  const int number = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid_ < 0) fail<IoError>("cannot start the guard process: {}", errno_text(number));
  fd_ = std::move(told);
}

Guard::~Guard() {
  fd_.close();
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void tell_guard(int guard_fd, pid_t target) { tell(guard_fd, {target, true}); }
void tell_guard_gone(int guard_fd, pid_t target) { tell(guard_fd, {target, false}); }

}  // namespace weft::launcher
