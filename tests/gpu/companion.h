// Another process to share device memory with: a program of tests/gpu, spoken to line by line.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace weft::kernels::cuda {

// A program of tests/gpu, wherever it and this one were packed to.
inline std::string beside_this_program(const std::string& name) {
  return std::filesystem::read_symlink("/proc/self/exe")
      .replace_filename(name + WEFT_PROGRAM_SUFFIX);
}

class Companion {
 public:
  // `settings`: environment variables, "NAME=value".
  explicit Companion(const std::string& program, std::vector<std::string> settings = {}) {
    int in[2], out[2];
    if (::pipe(in) != 0 || ::pipe(out) != 0) throw std::runtime_error("pipe");
    const std::string path = beside_this_program(program);
    std::vector<char*> variables;
    for (std::string& setting : settings) variables.push_back(setting.data());
    for (char** entry = environ; *entry != nullptr; ++entry) variables.push_back(*entry);
    variables.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      for (const int end : {in[0], in[1], out[0], out[1]}) ::close(end);
      char* arguments[] = {const_cast<char*>(path.c_str()), nullptr};
      ::execve(path.c_str(), arguments, variables.data());
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    to_ = in[1];
    from_ = out[0];
  }
  ~Companion() {
    ::close(to_);
    ::close(from_);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;

  void say(const std::string& line) {
    const std::string text = line + "\n";
    if (::write(to_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      throw std::runtime_error("the companion does not listen");
    }
  }
  // The next line it says; "(silence)" after 30 seconds, "(gone)" where it ended.
  std::string hear() {
    constexpr int kPatienceMs = 30'000;
    for (;;) {
      if (const auto end = heard_.find('\n'); end != std::string::npos) {
        const std::string line = heard_.substr(0, end);
        heard_.erase(0, end + 1);
        return line;
      }
      pollfd ready{from_, POLLIN, 0};
      if (::poll(&ready, 1, kPatienceMs) <= 0) return "(silence)";
      char buffer[4096];
      const ssize_t count = ::read(from_, buffer, sizeof buffer);
      if (count <= 0) return "(gone)";
      heard_.append(buffer, static_cast<std::size_t>(count));
    }
  }

 private:
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string heard_;
};

}  // namespace weft::kernels::cuda
