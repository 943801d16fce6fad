// One rank of a job, as a process: joins as the environment says and behaves as its first argument
// says, from the collective whose number is the second. What it was thrown goes to stdout.
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "comm/communicator.h"

using namespace weft;

namespace {

// From here on this process gets at most `more` bytes of address space beyond what it has.
void limit_memory(long more) {
  long pages = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  rlimit limit{};
  ::getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = static_cast<rlim_t>(pages * ::sysconf(_SC_PAGESIZE) + more);
  ::setrlimit(RLIMIT_AS, &limit);
}

void limit(int resource, rlim_t most) {
  rlimit limit{most, most};
  ::setrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
}

// What is taken from this process before it joins.
void do_without(const char* deed) {
  const bool hides = std::strcmp(deed, "hidden") == 0;
  if (hides || std::strstr(deed, "plain") != nullptr) {
    // Root would see into all the same.
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && (::setresgid(kNobody, kNobody, kNobody) != 0 ||
                             ::setresuid(kNobody, kNobody, kNobody) != 0)) {
      std::abort();
    }
    ::prctl(PR_SET_DUMPABLE, hides ? 0 : 1);
  }
  if (std::strcmp(deed, "cramped") == 0) limit_memory(22 << 20);
  if (std::strcmp(deed, "short") == 0) limit(RLIMIT_FSIZE, 1000);
  if (std::strstr(deed, "few") != nullptr) limit(RLIMIT_NOFILE, 64);
}

// A call whose scratch this rank cannot have if it is the one that starves.
void need_much(comm::Communicator& world, bool starves, bool async) {
  std::vector<std::uint8_t> much(std::size_t{32} << 20);
  const comm::View view(much.data(), Elems(32 << 20), DType::u8);
  if (starves) limit_memory(4 << 20);
  if (async) {
    world.all_reduce_async(view, ReduceOp::max, {"direct"}).wait();
  } else {
    world.all_reduce(view, ReduceOp::max, {"direct"});
  }
}

// Communicators until one cannot be made: of `hog` from the start, for want of descriptors.
void split_on(comm::Communicator& world, bool hog) {
  std::vector<comm::Communicator> made;
  std::vector<int> taken;
  while (hog) {
    const int fd = ::dup(STDOUT_FILENO);
    if (fd < 0) break;
    taken.push_back(fd);
  }
  try {
    for (int k = 0; k < 200; ++k) made.push_back(std::move(*world.split(0)));
    std::printf("thrown: nothing\n");
  } catch (const Error& error) {
    std::printf("thrown: %s\n", error.what());
  } catch (const std::exception& error) {
    std::printf("thrown: (not an Error) %s\n", error.what());
  }
  std::fflush(stdout);
  for (const int fd : taken) ::close(fd);
  made.clear();
  std::vector<float> one(1, 1.0f);
  world.all_reduce(std::span<float>(one));
  const bool splits = world.split(0).has_value();
  std::printf("works on: %d\n", splits ? static_cast<int>(one[0]) : -1);
  std::fflush(stdout);
}

// What a forked child does with the communicator that it has not must not matter to the job.
void fork_and_destroy(comm::Communicator& world) {
  const pid_t child = ::fork();
  if (child != 0) {
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child || status != 0) std::abort();
    return;
  }
  bool refused = false;
  try {
    world.barrier();
  } catch (const Unsupported&) {
    refused = true;
  }
  { const comm::Communicator gone = std::move(world); }
  ::_exit(refused ? 0 : 1);
}

}  // namespace

int main(int argc, char** argv) {
  const char* deed = argc > 1 ? argv[1] : "work";
  const int turn = argc > 2 ? std::atoi(argv[2]) : 0;
  const bool tells = std::strncmp(deed, "work", 4) == 0 || std::strcmp(deed, "hidden") == 0 ||
                     std::strcmp(deed, "cramped") == 0 || std::strcmp(deed, "short") == 0;
  try {
    do_without(deed);
    comm::Communicator world =
        comm::Communicator::connect(comm::ConnectOptions::from_environment());
    if (std::strncmp(deed, "split", 5) == 0) {
      split_on(world, std::strstr(deed, "hog") != nullptr);
      return 0;
    }
    std::vector<float> data(200'000, 1.0f);
    for (int k = 0; k < 100'000; ++k) {
      if (k == turn && std::strcmp(deed, "kill") == 0) std::raise(SIGKILL);
      if (k == turn && std::strcmp(deed, "exit") == 0) std::_Exit(3);
      if (k == turn && std::strcmp(deed, "throw") == 0) throw std::runtime_error("thrown");
      if (k == turn && std::strcmp(deed, "abort") == 0) {
        world.abort("the loss is not a number");
        return 3;
      }
      if (k == turn && std::strcmp(deed, "stop") == 0) std::raise(SIGSTOP);
      if (k == turn && std::strstr(deed, "fork") != nullptr) fork_and_destroy(world);
      if (k == turn + 100 && std::strstr(deed, "fork") != nullptr) {
        std::printf("went on\n");
        std::fflush(stdout);
      }
      if (k == turn && tells) {
        std::printf("ready\n");
        std::fflush(stdout);
      }
      if (k == turn && std::strncmp(deed, "need", 4) == 0) {
        need_much(world, std::strstr(deed, "starving") != nullptr,
                  std::strstr(deed, "async") != nullptr);
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
