// A rank under test that knows nothing of weft: what it does is its first argument.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace {

int rank() { return std::atoi(std::getenv("RANK")); }

void write_all(int fd, const std::string& bytes, std::size_t piece) {
  for (std::size_t begin = 0; begin < bytes.size();) {
    const auto n = write(fd, bytes.data() + begin, std::min(piece, bytes.size() - begin));
    if (n <= 0) std::exit(99);
    begin += static_cast<std::size_t>(n);
  }
}

// `count` lines, cut into writes of odd sizes that have nothing to do with the lines.
void write_lines(int fd, int count, const char* name, std::size_t piece) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += std::string(name) + " " + std::to_string(rank()) + " line " + std::to_string(i) + " " +
            std::string(static_cast<std::size_t>(i * 7919 % 97), 'x') + " end\n";
  }
  write_all(fd, text, piece);
}

[[noreturn]] void sleep_forever() {
  std::printf("ready %d\n", getpid());
  std::fflush(stdout);
  while (true) pause();
}

void say(const char* text) { write_all(STDOUT_FILENO, text, 4096); }

// What it inherited beyond standard input, output and error.
void print_descriptors() {
  for (int fd = 3; fd < 256; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) std::printf("fd %d\n", fd);
  }
}

int act(const std::string& what, int argc, char** argv) {
  const auto number = [&](int i) { return i < argc ? std::atoi(argv[i]) : 0; };
  if (what == "lines") {
    std::thread error([&] { write_lines(STDERR_FILENO, number(2), "err", 13); });
    write_lines(STDOUT_FILENO, number(2), "out", 1009);
    error.join();
    return 0;
  }
  if (what == "text") return say(argv[2]), 0;
  if (what == "cat") {
    char buffer[4096];
    for (ssize_t n = 0; (n = read(STDIN_FILENO, buffer, sizeof buffer)) > 0;) {
      write_all(STDOUT_FILENO, std::string(buffer, static_cast<std::size_t>(n)), 4096);
    }
    return say("eof\n"), 0;
  }
  if (what == "descriptors") return print_descriptors(), 0;
  if (what == "long") return write_all(STDOUT_FILENO, std::string(200000, 'y'), 65536), 0;
  if (what == "exit") {  // RANK CODE: this one ends so, the others stay
    if (rank() != number(2)) sleep_forever();
    for (int i = 0; i < 30; ++i) std::fprintf(stderr, "complaint %d\n", i);
    return number(3);
  }
  if (what == "signal") {  // RANK SIGNAL
    if (rank() != number(2)) sleep_forever();
    raise(number(3));
    return 0;
  }
  if (what == "stay") sleep_forever();
  if (what == "stubborn") {
    for (const int s : {SIGINT, SIGTERM, SIGHUP}) ::signal(s, SIG_IGN);
    sleep_forever();
  }
  if (what == "polite") {  // ends well when asked to
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, number(2));
    sigprocmask(SIG_BLOCK, &wanted, nullptr);
    std::printf("ready %d\n", getpid());
    std::fflush(stdout);
    int asked = 0;
    sigwait(&wanted, &asked);
    std::printf("asked by %d\n", asked);
    return 0;
  }
  if (what == "family") {  // a grandchild in the same process group; both stay
    const pid_t child = fork();
    if (child == 0) {
      while (true) pause();
    }
    std::printf("family %d %d\n", getpid(), child);
    std::fflush(stdout);
    while (true) pause();
  }
  return 98;
}

}  // namespace

int main(int argc, char** argv) { return argc < 2 ? 97 : act(argv[1], argc, argv); }
