// One rank of a job, as a process. It says its pid, makes all_reduces, and at the number that is
// its second argument does what the first says, if its rank is the third.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "comm/communicator.h"

using namespace weft;

namespace {

void say(const char* what) {
  std::printf("%s\n", what);
  std::fflush(stdout);
}

volatile sig_atomic_t g_handled = 0;

void act(const char* deed) {
  const auto is = [&](const char* name) { return std::strcmp(deed, name) == 0; };
  if (is("kill")) std::raise(SIGKILL);
  if (is("abort")) std::abort();
  if (is("term")) std::raise(SIGTERM);
  if (is("segv")) {
    int* volatile nowhere = nullptr;
    *nowhere = 1;
  }
  if (is("linger")) {  // until somebody lets it go on; the others are stuck meanwhile
    say("lingering");
    char c = 0;
    while (::read(STDIN_FILENO, &c, 1) < 0) {
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* deed = argc > 1 ? argv[1] : "work";
  const int turn = argc > 2 ? std::atoi(argv[2]) : 0;
  const int who = argc > 3 ? std::atoi(argv[3]) : 0;
  const int turns = argc > 4 ? std::atoi(argv[4]) : 100'000;
  if (std::strcmp(deed, "term") == 0) {  // a handler of the program's own, from before
    std::signal(SIGTERM, [](int) { g_handled = 1; });
  }
  try {
    comm::Communicator world =
        comm::Communicator::connect(comm::ConnectOptions::from_environment());
    std::printf("pid %d rank %d\n", static_cast<int>(::getpid()), world.rank());
    std::fflush(stdout);
    std::vector<float> data(10'000, 1.0f);
    for (int k = 1; k <= turns; ++k) {
      if (k == turn && world.rank() == who) act(deed);
      if (g_handled != 0) {
        say("handled");
        world.abort("told to end");
        return 5;
      }
      world.all_reduce(std::span<float>(data), ReduceOp::max);
    }
    say("done");
  } catch (const std::exception& error) {
    std::printf("thrown: %s\n", error.what());
    std::fflush(stdout);
    return 1;
  }
  return 0;
}
