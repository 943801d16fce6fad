// Runs a program under test with its output captured and every wait bounded.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace weft::test {

using Arguments = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

inline std::string bin(const std::string& name) { return std::string(WEFT_BIN_DIR) + "/" + name; }

class ChildProcess {
 public:
  explicit ChildProcess(const Arguments& arguments,
                        const std::map<std::string, std::string>& environment = {},
                        const std::string& input = {}) {
    int out[2];
    int err[2];
    int in[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC) | pipe2(in, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    std::vector<char*> argv;
    for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    std::vector<std::string> entries;
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const std::string text = *entry;
      if (environment.count(text.substr(0, text.find('='))) == 0) entries.push_back(text);
    }
    for (const auto& [name, value] : environment) entries.push_back(name + "=" + value);
    std::vector<char*> envp;
    for (auto& entry : entries) envp.push_back(entry.data());
    envp.push_back(nullptr);
    // Whatever those who started the tests ignore, as shells do for what runs in the background.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t usual;
    sigemptyset(&usual);
    for (const int number : {SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGPIPE}) sigaddset(&usual, number);
    posix_spawnattr_setsigdefault(&attributes, &usual);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    EXPECT_EQ(posix_spawnp(&pid_, argv[0], &actions, &attributes, argv.data(), envp.data()), 0);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    for (const int fd : {in[0], out[1], err[1]}) close(fd);
    std::size_t sent = 0;  // inputs of these tests fit into a pipe
    while (sent < input.size()) {
      const auto n = write(in[1], input.data() + sent, input.size() - sent);
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
    close(in[1]);
    fds_[0] = out[0];
    fds_[1] = err[0];
    started_ = Clock::now();
  }
  ~ChildProcess() {
    if (pid_ > 0) {
      kill(SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    for (const int fd : fds_) {
      if (fd >= 0) close(fd);
    }
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void kill(int number) const { ::kill(pid_, number); }
  const std::string& out() const { return text_[0]; }
  const std::string& err() const { return text_[1]; }
  double seconds() const { return seconds_; }

  // Reads until both outputs have ended and gives the exit code, 128 + signal, or -1 after the
  // timeout (then it is killed).
  int wait(std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
    const auto deadline = Clock::now() + timeout;
    while (fds_[0] >= 0 || fds_[1] >= 0) {
      if (!read_some(deadline)) {
        ADD_FAILURE() << "still running after " << timeout.count() << " ms\nout: " << out()
                      << "\nerr: " << err();
        kill(SIGKILL);
        return -1;
      }
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    seconds_ = std::chrono::duration<double>(Clock::now() - started_).count();
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  // Reads until `count` lines of standard output are there.
  bool wait_for_lines(std::size_t count,
                      std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    const auto deadline = Clock::now() + timeout;
    while (lines(out()).size() < count) {
      if (!read_some(deadline)) {
        ADD_FAILURE() << "no " << count << " lines\nout: " << out() << "\nerr: " << err();
        return false;
      }
    }
    return true;
  }

  // Reads until standard output, or error, holds `text`.
  bool wait_for_output(const std::string& text,
                       std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    return wait_for(text_[0], text, timeout);
  }
  bool wait_for_error(const std::string& text,
                      std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    return wait_for(text_[1], text, timeout);
  }

  static std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> result;
    std::size_t begin = 0;
    for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
      result.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
    return result;
  }

 private:
  bool wait_for(const std::string& where, const std::string& text,
                std::chrono::milliseconds timeout) {
    const auto deadline = Clock::now() + timeout;
    while (where.find(text) == std::string::npos) {
      if (!read_some(deadline)) {
        ADD_FAILURE() << "no '" << text << "'\nout: " << out() << "\nerr: " << err();
        return false;
      }
    }
    return true;
  }

  bool read_some(Clock::time_point deadline) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd polled[2] = {{fds_[0], POLLIN, 0}, {fds_[1], POLLIN, 0}};
    if (left <= 0 || poll(polled, 2, static_cast<int>(left)) <= 0) return false;
    for (int i = 0; i < 2; ++i) {
      if (polled[i].revents == 0) continue;
      char buffer[65536];
      const auto size = read(fds_[i], buffer, sizeof buffer);
      if (size > 0) {
        text_[i].append(buffer, static_cast<std::size_t>(size));
      } else {
        close(fds_[i]);
        fds_[i] = -1;
      }
    }
    return true;
  }

  pid_t pid_ = -1;
  int fds_[2] = {-1, -1};
  std::string text_[2];
  Clock::time_point started_;
  double seconds_ = 0;
};

// `weft run --quiet OPTIONS... PROGRAM...`
inline Arguments weft_run(const Arguments& rest) {
  Arguments all{bin("weft"), "run", "--quiet"};
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

// Whether the process ends within the time; it need not be a child of ours.
inline bool ends_within(pid_t pid, std::chrono::milliseconds timeout) {
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return true;
  pollfd polled{fd, POLLIN, 0};
  const bool ended = poll(&polled, 1, static_cast<int>(timeout.count())) == 1;
  close(fd);
  return ended;
}

}  // namespace weft::test
