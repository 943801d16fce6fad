// One rank of a job, as a process: makes every collective in several sizes, over ordinary and
// registered memory, and compares each result. Says "conforms" and ends with 0, or says what is
// wrong.
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <stdexcept>

#include "comm/communicator.h"
#include "kernels/base/error.h"

using namespace weft;  // NOLINT: a program

namespace {

class Conformance {
 public:
  Conformance(comm::Communicator& world, std::size_t count, bool registered)
      : world_(world),
        rank_(static_cast<std::size_t>(world.rank())),
        size_(static_cast<std::size_t>(world.size())),
        count_(count),
        in_(make(registered)),
        out_(make(registered)) {}

  void all() {
    for (int root = 0; root < world_.size(); ++root) rooted(root);
    fill();
    world_.all_reduce(narrow(in_), narrow(out_), ReduceOp::sum);
    compare("all_reduce", count_, [&](std::size_t i) { return sum_of(i); });
    fill();
    world_.all_gather(narrow(in_), wide(out_));
    compare("all_gather", count_ * size_,
            [&](std::size_t i) { return value(i / count_, i % count_); });
    fill();
    world_.reduce_scatter(wide(in_), narrow(out_), ReduceOp::sum);
    compare("reduce_scatter", count_, [&](std::size_t i) { return sum_of(rank_ * count_ + i); });
    fill();
    world_.all_to_all(wide(in_), wide(out_));
    compare("all_to_all", count_ * size_,
            [&](std::size_t i) { return value(i / count_, rank_ * count_ + i % count_); });
    world_.barrier();
  }

 private:
  void rooted(int root) {
    const auto from = static_cast<std::size_t>(root);
    const bool mine = world_.rank() == root;
    fill();
    world_.broadcast(narrow(in_), root);
    world_.all_gather(narrow(in_), wide(out_));
    compare("broadcast", count_ * size_, [&](std::size_t i) { return value(from, i % count_); });
    fill();
    world_.reduce(narrow(in_), narrow(out_), root, ReduceOp::sum);
    if (mine) compare("reduce", count_, [&](std::size_t i) { return sum_of(i); });
    fill();
    world_.gather(narrow(in_), wide(out_), root);
    if (mine) {
      compare("gather", count_ * size_,
              [&](std::size_t i) { return value(i / count_, i % count_); });
    }
    fill();
    world_.scatter(wide(in_), narrow(out_), root);
    compare("scatter", count_, [&](std::size_t i) { return value(from, rank_ * count_ + i); });
  }

  comm::SymmetricMemory make(bool registered) {
    const std::size_t elements = count_ * size_;
    const Bytes bytes(static_cast<std::int64_t>(elements * sizeof(float)));
    if (registered) return world_.allocate_symmetric(bytes);
    std::shared_ptr<float[]> plain(new float[elements]());
    return {std::shared_ptr<std::byte>(plain, reinterpret_cast<std::byte*>(plain.get())), bytes};
  }
  static float value(std::size_t rank, std::size_t i) {
    return static_cast<float>((rank + 1) * 1000 + i % 997);
  }
  float sum_of(std::size_t i) const {
    float sum = 0;
    for (std::size_t r = 0; r < size_; ++r) sum += value(r, i);
    return sum;
  }
  void fill() {
    const auto in = in_.as<float>();
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = value(rank_, i);
    for (float& element : out_.as<float>()) element = -1;
  }
  comm::View narrow(const comm::SymmetricMemory& of) const {
    return {of.data(), Elems(static_cast<std::int64_t>(count_)), DType::f32};
  }
  comm::View wide(const comm::SymmetricMemory& of) const {
    return {of.data(), Elems(static_cast<std::int64_t>(count_ * size_)), DType::f32};
  }
  template <class Expected>
  void compare(const char* what, std::size_t count, Expected expected) const {
    const auto out = out_.as<float>();
    for (std::size_t i = 0; i < count; ++i) {
      if (out[i] == expected(i)) continue;
      throw std::runtime_error(fmt::format("{} of {}: element {} is {}, expected {}", what, count_,
                                           i, out[i], expected(i)));
    }
  }

  comm::Communicator& world_;
  std::size_t rank_;
  std::size_t size_;
  std::size_t count_;
  comm::SymmetricMemory in_;
  comm::SymmetricMemory out_;
};

}  // namespace

int main() {
  try {
    comm::Communicator world =
        comm::Communicator::connect(comm::ConnectOptions::from_environment());
    for (const std::size_t count : {std::size_t{1}, std::size_t{100}, std::size_t{100'003}}) {
      for (const bool registered : {false, true}) Conformance(world, count, registered).all();
    }
    world.barrier();
    std::printf("conforms\n");
    return 0;
  } catch (const std::exception& error) {
    std::printf("thrown: %s\n", error.what());
    return 1;
  }
}
