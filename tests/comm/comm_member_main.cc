// One rank of a job, as a process: joins as the environment says and behaves as its first argument
// says, from the collective whose number is the second. What it was thrown goes to stdout.
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "comm/communicator.h"

using namespace weft;

int main(int argc, char** argv) {
  const char* deed = argc > 1 ? argv[1] : "work";
  const int turn = argc > 2 ? std::atoi(argv[2]) : 0;
  try {
    comm::Communicator world =
        comm::Communicator::connect(comm::ConnectOptions::from_environment());
    std::vector<float> data(200'000, 1.0f);
    for (int k = 0; k < 100'000; ++k) {
      if (k == turn && std::strcmp(deed, "kill") == 0) std::raise(SIGKILL);
      if (k == turn && std::strcmp(deed, "exit") == 0) std::_Exit(3);
      if (k == turn && std::strcmp(deed, "throw") == 0) throw std::runtime_error("thrown");
      if (k == turn && std::strcmp(deed, "stop") == 0) std::raise(SIGSTOP);
      if (k == turn && std::strcmp(deed, "work") == 0) {
        std::printf("ready\n");
        std::fflush(stdout);
      }
      world.all_reduce(std::span<float>(data), ReduceOp::max);
    }
  } catch (const std::exception& error) {
    std::printf("thrown: %s\n", error.what());
    std::fflush(stdout);
    return 1;
  }
  return 0;
}
