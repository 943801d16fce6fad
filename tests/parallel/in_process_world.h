// Runs a body on every rank of an in-process world, each on a thread of its own.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "kernels/base/thread_pool.h"

namespace weft::tests {

// What each rank threw; nullptr where it ended well. A rank's communicator dies with its thread, as
// a process's would.
inline std::vector<std::exception_ptr> run_world_catching(
    int world_size, const std::function<void(Communicator&)>& body) {
  auto communicators = Communicator::in_process(world_size);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(world_size));
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < errors.size(); ++r) {
    threads.emplace_back([&, r] {
      ThreadPool pool(1);
      const ScopedThreadPool scope(pool);
      try {
        Communicator mine = std::move(communicators[r]);
        body(mine);
      } catch (...) {
        errors[r] = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return errors;
}

inline void run_world(int world_size, const std::function<void(Communicator&)>& body) {
  for (const auto& error : run_world_catching(world_size, body)) {
    if (error) std::rethrow_exception(error);
  }
}

inline std::string message_of(const std::exception_ptr& error) {
  if (!error) return "";
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
}

}  // namespace weft::tests
