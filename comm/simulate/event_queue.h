// Events in the order of their times, for times that never go back: a radix heap, whose operations
// cost a few moves in sequential memory where a binary heap of as many events misses the cache.
// Source: Ahuja, Mehlhorn, Orlin and Tarjan, "Faster algorithms for the shortest path problem",
// JACM 37 (1990).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/base/check.h"

namespace weft::comm::simulate {

struct Event {
  std::uint64_t key;  // the time's bits: they order like the time itself, which is not negative
  std::uint32_t what;
  double time() const { return std::bit_cast<double>(key); }
};

// Equal times come out in an order that depends on nothing but what was pushed before.
class EventQueue {
 public:
  bool empty() const { return size_ == 0; }

  // `time`: not before that of the last event taken.
  void push(double time, std::uint32_t what) {
    const auto key = std::bit_cast<std::uint64_t>(time);
    WEFT_ASSERT(time >= 0 && key >= last_, "time does not go back");
    buckets_[bucket(key)].push_back({key, what});
    ++size_;
  }

  Event pop() {
    if (next_ == buckets_[0].size()) refill();
    --size_;
    return buckets_[0][next_++];
  }

 private:
  std::size_t bucket(std::uint64_t key) const {
    return static_cast<std::size_t>(std::bit_width(key ^ last_));
  }

  void refill() {
    buckets_[0].clear();
    next_ = 0;
    std::size_t fullest = 1;
    while (buckets_[fullest].empty()) ++fullest;
    std::vector<Event>& from = buckets_[fullest];
    last_ = std::min_element(from.begin(), from.end(), [](const Event& a, const Event& b) {
              return a.key < b.key;
            })->key;
    for (const Event& event : from) buckets_[bucket(event.key)].push_back(event);
    from.clear();
  }

  std::array<std::vector<Event>, 65> buckets_;  // by the highest bit that differs from last_
  std::uint64_t last_ = 0;
  std::size_t next_ = 0;  // in buckets_[0]
  std::size_t size_ = 0;
};

}  // namespace weft::comm::simulate
