// Which of several connections should carry the next segment: the one that will have delivered it
// first, by what each still has on its way and how fast its peer has acknowledged lately. So a slow
// connection is given only what it delivers as early as the fast ones would, and one that
// recovers is used again.
//
// No system calls and no clock of its own: callers say what they see, and when.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::comm::tcp {

class Balance {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit Balance(std::size_t connections) : flows_(connections) {}

  // `bytes` of a segment have been given to a connection, written yet or not.
  void gave(std::size_t connection, std::size_t bytes) { flows_[connection].given += bytes; }
  // What of all it was given it has not delivered: unwritten and unacknowledged bytes.
  void saw(std::size_t connection, std::size_t on_its_way, Time now);
  // For a segment of `bytes`: the connection that is expected to deliver it first.
  std::size_t best(std::size_t bytes) const;

  static constexpr double kUnknown = -1;
  // Bytes a second, or kUnknown.
  double rate(std::size_t connection) const { return flows_[connection].rate; }

 private:
  struct Flow {
    std::uint64_t given = 0;
    std::uint64_t delivered = 0;  // when last measured
    std::size_t on_its_way = 0;   // when last seen
    Time since{};                 // when last measured, or since when it is busy
    double rate = kUnknown;
  };
  std::vector<Flow> flows_;
};

}  // namespace weft::comm::tcp
