// What the ranks of the chaos runs do: collectives in an order that all of them draw alike.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "comm/communicator.h"

namespace weft::comm::testing {

class ChaosWork {
 public:
  ChaosWork(Communicator& world, unsigned seed)
      : world_(world),
        random_(seed),
        wide_(make(world, seed % 2 == 0)),
        other_(make(world, seed % 3 == 0)) {}

  // The next collective, whichever it is.
  void step() {
    constexpr std::size_t kCounts[] = {1, 100, 5000, 60'000, kMost};
    const std::size_t count = kCounts[random_() % std::size(kCounts)];
    const int root = static_cast<int>(random_() % static_cast<unsigned>(world_.size()));
    const bool waits = random_() % 2 == 0;
    const unsigned kind = random_() % 9;
    Work work = start(kind, count, root);
    if (!waits) pending_.push_back(std::move(work));
    if (waits || pending_.size() == 3) {
      for (Work& earlier : pending_) earlier.wait();
      pending_.clear();
      if (waits) work.wait();
    }
  }

 private:
  static constexpr std::size_t kMost = 300'000;

  // Memory of which other ranks of the host can address all, or not.
  static SymmetricMemory make(Communicator& world, bool registered) {
    const std::size_t bytes = kMost * sizeof(float) * static_cast<std::size_t>(world.size());
    if (registered) return world.allocate_symmetric(Bytes(static_cast<std::int64_t>(bytes)));
    return {std::shared_ptr<std::byte>(new std::byte[bytes](), std::default_delete<std::byte[]>()),
            Bytes(static_cast<std::int64_t>(bytes))};
  }

  Work start(unsigned kind, std::size_t count, int root) {
    const auto size = static_cast<std::size_t>(world_.size());
    // Those in flight together may share memory here: nobody looks at the sums.
    const auto narrow = [&](const SymmetricMemory& of) {
      return View(of.data(), Elems(static_cast<std::int64_t>(count)), DType::f32);
    };
    const auto wide = [&](const SymmetricMemory& of) {
      return View(of.data(), Elems(static_cast<std::int64_t>(count * size)), DType::f32);
    };
    switch (kind) {
      case 0:
        return world_.barrier_async();
      case 1:
        return world_.broadcast_async(narrow(other_), root);
      case 2:
        return world_.reduce_async(narrow(wide_), narrow(other_), root, ReduceOp::max);
      case 3:
        return world_.all_gather_async(narrow(wide_), wide(other_));
      case 4:
        return world_.reduce_scatter_async(wide(wide_), narrow(other_), ReduceOp::max);
      case 5:
        return world_.all_to_all_async(wide(wide_), wide(other_));
      case 6:
        return world_.scatter_async(wide(wide_), narrow(other_), root);
      default:
        return world_.all_reduce_async(narrow(wide_), narrow(other_), ReduceOp::max);
    }
  }

  Communicator& world_;
  std::mt19937 random_;
  SymmetricMemory wide_;
  SymmetricMemory other_;
  std::vector<Work> pending_;
};

}  // namespace weft::comm::testing
