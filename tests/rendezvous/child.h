// A helper program under test, spoken to through pipes. Killed and reaped at the latest when the
// object goes.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <stdexcept>
#include <string>

namespace weft::comm {

class Child {
 public:
  explicit Child(const std::string& program) {
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) {
      throw std::runtime_error("no pipe");
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    std::string path = program;
    std::array<char*, 2> argv{path.data(), nullptr};
    const int error =
        ::posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    ::close(in[0]);
    ::close(out[1]);
    stdin_ = in[1];
    stdout_ = out[0];
    if (error != 0) throw std::runtime_error("cannot start " + program);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    close_stdin();
    if (!reaped_) {
      ::kill(pid_, SIGKILL);
      wait();
    }
    ::close(stdout_);
  }

  pid_t pid() const { return pid_; }
  void kill(int signal) { ::kill(pid_, signal); }
  void say(const std::string& line) {
    const std::string bytes = line + "\n";
    if (::write(stdin_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      throw std::runtime_error("the child does not listen");
    }
  }
  void close_stdin() {
    if (stdin_ >= 0) ::close(stdin_);
    stdin_ = -1;
  }
  // The next line it prints; throws after 30 s without one.
  std::string hear() {
    for (;;) {
      const auto end = heard_.find('\n');
      if (end != std::string::npos) {
        const std::string line = heard_.substr(0, end);
        heard_.erase(0, end + 1);
        return line;
      }
      pollfd waiting{stdout_, POLLIN, 0};
      if (::poll(&waiting, 1, 30'000) != 1) throw std::runtime_error("the child says nothing");
      std::array<char, 512> more{};
      const auto got = ::read(stdout_, more.data(), more.size());
      if (got <= 0) throw std::runtime_error("the child has ended, after: " + heard_);
      heard_.append(more.data(), static_cast<std::size_t>(got));
    }
  }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    reaped_ = true;
    return status;
  }

 private:
  pid_t pid_ = -1;
  int stdin_ = -1;
  int stdout_ = -1;
  bool reaped_ = false;
  std::string heard_;
};

}  // namespace weft::comm
