#include "tensor/parallel/async_checkpoint.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "tensor/parallel/save_job.h"

namespace weft::parallel {
namespace {

// Linux has a nice value for each thread. 15 has 1/28 of the weight of a thread that computes:
// where cores are free it costs nothing, where they are not it takes that share of one.
constexpr int kNice = 15;

}  // namespace

AsyncCheckpoint::AsyncCheckpoint(Communicator& communicator)
    : communicator_(communicator.split(0, communicator.rank())) {}

AsyncCheckpoint::~AsyncCheckpoint() {
  join();
  if (!failure_) return;
  try {
    std::rethrow_exception(failure_);
  } catch (const std::exception& error) {
    fmt::print(stderr, "weft: the last checkpoint was not saved: {}\n", error.what());
  }
}

void AsyncCheckpoint::join() {
  if (thread_.joinable()) thread_.join();
}

void AsyncCheckpoint::wait() {
  join();
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void AsyncCheckpoint::save(const std::filesystem::path& place, const ShardedState& state,
                           Communicator& communicator, const SaveShardedOptions& options) {
  wait();
  auto job = std::make_shared<SaveJob>(place, state, communicator, options);
  job->snapshot(memory_);
  thread_ = std::thread([this, job = std::move(job)] {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
    try {
      job->write(*communicator_);
    } catch (...) {
      failure_ = std::current_exception();
    }
  });
}

}  // namespace weft::parallel
