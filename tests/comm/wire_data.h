// Data that makes trouble for halves, and a world to try it in.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "tests/comm/world.h"
#include "tests/support/noise.h"

namespace weft::comm::testing {

inline const Backend kInproc{"inproc"};
inline const Backend kTwoLanes{"tcp", true, 2};

// What the ranks contribute; `kind` names the trouble it makes.
using Contribution = float (*)(int rank, std::int64_t i);
inline float plain(int rank, std::int64_t i) { return tests::noise(rank, i); }
inline float spread(int rank, std::int64_t i) {  // magnitudes from 2^-20 to 2^11
  return std::ldexp(tests::noise(rank, i), static_cast<int>((i * 7 + rank * 13) % 32) - 20);
}
inline float cancelling(int rank, std::int64_t i) {  // neighbours all but annihilate
  const float big = 1000.0f * tests::noise(0, i);
  return (rank % 2 == 0 ? big : -big) + 1e-3f * tests::noise(rank, i);
}
inline float below_tie(int rank, std::int64_t i) {  // each rounding is as wrong as it can be
  return rank == 0 ? 1.0f + static_cast<float>(i % 3) * 0x1p-8f : 0x1.fffp-9f;
}
inline float subnormal(int rank, std::int64_t i) { return std::ldexp(tests::noise(rank, i), -128); }
inline float tiny_half(int rank, std::int64_t i) { return std::ldexp(tests::noise(rank, i), -16); }
inline float huge(int rank, std::int64_t i) { return 4e37f * tests::noise(rank, i); }
inline float large_half(int rank, std::int64_t i) { return 8000.0f * tests::noise(rank, i); }

struct Data {
  const char* name;
  Contribution of;
};
inline constexpr Data kForBoth[] = {{"plain", plain},           {"spread", spread},
                                    {"cancelling", cancelling}, {"below_tie", below_tie},
                                    {"subnormal", subnormal},   {"tiny_half", tiny_half}};

inline std::vector<Data> data_for(DType wire) {
  std::vector<Data> all(std::begin(kForBoth), std::end(kForBoth));
  all.push_back(wire == DType::bf16 ? Data{"huge", huge} : Data{"large_half", large_half});
  return all;
}

// Runs one collective on every rank and gives what each rank's output holds.
using Body = std::function<std::vector<float>(Communicator&)>;
inline std::vector<std::vector<float>> outputs(const Backend& backend, int n, const Body& body) {
  std::vector<std::vector<float>> all(static_cast<std::size_t>(n));
  expect_world(backend, n, [&](Communicator& world) {
    all[static_cast<std::size_t>(world.rank())] = body(world);
  });
  return all;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return false;
  return a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline std::vector<float> share_of(const Data& data, int rank, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) values[static_cast<std::size_t>(i)] = data.of(rank, i);
  return values;
}

}  // namespace weft::comm::testing
