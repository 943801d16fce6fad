// What the lanes of a warp tell one another: one call of __shfl_sync, __ballot_sync, __syncwarp or
// mma, which each of its lanes joins.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace weft::emulated {

inline constexpr std::uint64_t kLaneTrue = 1, kLaneFalse = 0;
// What a lane that took no part seems to say.
inline constexpr std::uint64_t kLanePoison = 0xFFFFFFFFFFFFFFFFull;

struct WarpCall {
  unsigned mask = 0;  // 0: unused
  unsigned arrived = 0, left = 0;
  bool complete = false;
  std::uint64_t values[32];

  WarpCall() {
    for (auto& value : values) value = kLanePoison;
  }
};

class Warp {
 public:
  unsigned alive = 0;  // lanes that exist and have not ended

  // For a new block.
  void begin() {
    alive = 0;
    for (const auto& call : calls_) *call = WarpCall{};
  }
  // The call with this mask that has not begun to end, or a new one. A lane can be one call ahead
  // of others at most.
  WarpCall& join(unsigned mask) {
    WarpCall* unused = nullptr;
    for (const auto& call : calls_) {
      if (call->mask == mask && !call->complete) return *call;
      if (call->mask == 0) unused = call.get();
    }
    if (unused == nullptr) unused = calls_.emplace_back(std::make_unique<WarpCall>()).get();
    unused->mask = mask;
    return *unused;
  }
  // Calls that lanes wait in.
  const std::vector<std::unique_ptr<WarpCall>>& calls() const { return calls_; }

 private:
  std::vector<std::unique_ptr<WarpCall>> calls_;
};

}  // namespace weft::emulated
