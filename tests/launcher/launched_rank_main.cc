// A rank that takes part in all-reduces until its fate: launched_rank_main FATE RANK, where FATE is
// what becomes of rank RANK after ten of them (the others go on): exit, leave, throw, kill, stop;
// or end: all stop there. With --here=N it starts the other ranks itself, as Fabric::launch() does.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "launcher/job/spawn.h"

namespace {

using Clock = std::chrono::steady_clock;

void meet(const std::string& fate) {
  if (fate == "exit") std::exit(3);
  if (fate == "leave") std::_Exit(0);
  if (fate == "throw") throw std::runtime_error("the loss is not a number");
  if (fate == "kill") raise(SIGKILL);
  if (fate == "stop") raise(SIGSTOP);
}

int take_part(weft::Communicator& communicator, const std::string& fate, int guilty) {
  std::vector<float> values(1000, 1.0F);
  auto last = Clock::now();
  try {
    for (int step = 0; fate != "end" || step < 10; ++step) {
      if (step == 10 && communicator.rank() == guilty) meet(fate);
      last = Clock::now();
      communicator.all_reduce(weft::comm::View(std::span<float>(values)), weft::ReduceOp::max);
    }
  } catch (const weft::Error& error) {
    const auto waited =
        std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - last).count();
    std::printf("rank %d learned after %lld ms: %s\n", communicator.rank(),
                static_cast<long long>(waited), error.what());
    std::fflush(stdout);
    return 1;
  }
  std::printf("rank %d of %d done, value %g\n", communicator.rank(), communicator.size(),
              static_cast<double>(values[999]));
  return 0;
}

weft::comm::ConnectOptions join(int here, bool late) {
  if (here == 0 || std::getenv("WEFT_RANK") != nullptr) {
    return weft::comm::ConnectOptions::from_environment();
  }
  weft::launcher::SpawnOptions options;
  options.ranks = here;
  options.grace = std::chrono::milliseconds(200);
  options.exit_wait = std::chrono::seconds(late ? 1 : 20);
  return weft::launcher::launch_ranks_from_here(options);
}

}  // namespace

int main(int argc, char** argv) {
  int here = 0;
  if (argc > 1 && std::string(argv[1]).rfind("--here=", 0) == 0) {
    here = std::atoi(argv[1] + 7);
    --argc;
    ++argv;
  }
  const std::string fate = argc > 1 ? argv[1] : "end";
  const int guilty = argc > 2 ? std::atoi(argv[2]) : 0;
  try {
    const auto options = join(here, fate == "late");
    if (fate == "orphan") {  // rank 0 dies before anyone can tell anyone
      std::printf("family %d\n", getpid());
      std::fflush(stdout);
      while (true) pause();
    }
    if (fate == "late") {  // one rank never ends by itself
      if (options.rank == guilty) {
        while (true) pause();
      }
      return 0;
    }
    if (fate == "status") return options.rank == guilty ? std::atoi(argv[3]) : 0;
    auto communicator = weft::Communicator::connect(options);
    return take_part(communicator, fate, guilty);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 4;
  }
}
