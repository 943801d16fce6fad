// Ranks that are processes of their own, for tests that kill them or take something from them.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "comm/environment.h"
#include "tests/comm/world.h"

extern char** environ;

namespace weft::comm::testing {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// The job's secret, as processes inherit it.
class SecretFd {
 public:
  explicit SecretFd(const Secret& secret) : fd_(::memfd_create("secret", 0)) {
    const std::string hex = format_secret(secret);
    if (::write(fd_, hex.data(), hex.size()) != static_cast<ssize_t>(hex.size())) {
      throw std::runtime_error("cannot write a memfd");
    }
  }
  SecretFd(const SecretFd&) = delete;
  ~SecretFd() { ::close(fd_); }
  int fd() const { return fd_; }

 private:
  int fd_;
};

class Process {
 public:
  // `words`: the program, in WEFT_BIN_DIR unless it is a path, and its arguments.
  Process(const ConnectOptions& options, const SecretFd& secret, std::vector<std::string> words,
          const std::string& host_key = {}) {
    int ends[2];
    if (::pipe(ends) != 0) throw std::runtime_error("pipe");
    std::vector<std::string> environment = {
        fmt::format("{}={}", env::kRank, options.rank),
        fmt::format("{}={}", env::kWorldSize, options.world_size),
        fmt::format("{}={}", env::kStoreAddress, options.store_host),
        fmt::format("{}={}", env::kStorePort, options.store_port),
        fmt::format("{}={}", env::kJobId, options.job_id),
        fmt::format("{}={}", env::kSecretFd, secret.fd()),
        fmt::format("{}={}", env::kTransport, name_of(options.transport)),
        fmt::format("{}={}", env::kHostKey, host_key),
    };
    for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
    std::vector<char*> variables;
    for (std::string& entry : environment) variables.push_back(entry.data());
    variables.push_back(nullptr);
    if (words.front().find('/') == std::string::npos) {
      words.front() = std::string(WEFT_BIN_DIR) + "/" + words.front();
    }
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::close(ends[0]);
      ::execve(arguments.front(), arguments.data(), variables.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    out_ = ends[0];
  }
  Process(Process&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), out_(std::exchange(other.out_, -1)) {}
  ~Process() {
    if (out_ >= 0) ::close(out_);
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  // Reads until `text` has come, or the process has closed its output, or the time is up.
  bool says(const std::string& text, milliseconds patience) {
    const auto end = steady_clock::now() + patience;
    while (said_.find(text) == std::string::npos) {
      const auto left = std::chrono::duration_cast<milliseconds>(end - steady_clock::now());
      pollfd ready{out_, POLLIN, 0};
      if (left.count() <= 0 || ::poll(&ready, 1, static_cast<int>(left.count())) <= 0) return false;
      char buffer[512];
      const ssize_t n = ::read(out_, buffer, sizeof buffer);
      if (n <= 0) return false;
      said_.append(buffer, static_cast<std::size_t>(n));
    }
    return true;
  }
  const std::string& said() const { return said_; }
  // Its status, as the shell has it.
  int wait_for_exit() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  pid_t pid() const { return pid_; }

 private:
  static const char* name_of(TransportKind kind) {
    if (kind == TransportKind::automatic) return "auto";
    return kind == TransportKind::shm ? "shm" : "tcp";
  }

  pid_t pid_ = -1;
  int out_ = -1;
  std::string said_;
};

}  // namespace weft::comm::testing
