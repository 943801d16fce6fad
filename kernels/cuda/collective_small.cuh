// Small collectives: everybody writes what it has into everybody's slots, 4 bytes of payload beside
// a 4-byte flag, and reads its own slots until the flags say that all is there. One trip between
// members, no fence. The flag is the low half of the epoch: what lies in a slot from an earlier
// epoch is never taken for this one's (the 2^32nd epoch after it would have to find it untouched).
//
// The idea of a flag in each word is NCCL's LL protocol (Hu et al., "Demystifying NCCL", 2025).
#pragma once

#include <cstring>

#include "kernels/cuda/collective_fold.cuh"
#include "kernels/cuda/collective_lane.cuh"

namespace weft::kernels::cuda::collective {

// 8 bytes of payload as they travel: two words that each tell whether they have come.
struct alignas(16) Flagged {
  std::uint32_t first;
  std::uint32_t first_flag;
  std::uint32_t second;
  std::uint32_t second_flag;
};

struct alignas(8) Unit {
  std::uint32_t words[2];
};

template <class T>
__device__ inline T element_of(const Unit& unit, int e) {
  T value;
  memcpy(&value, reinterpret_cast<const unsigned char*>(&unit) + e * sizeof(T), sizeof(T));
  return value;
}
template <class T>
__device__ inline void set_element(Unit& unit, int e, T value) {
  memcpy(reinterpret_cast<unsigned char*>(&unit) + e * sizeof(T), &value, sizeof(T));
}

__device__ inline Flagged* small_slot(const Party& party, int owner, std::uint64_t epoch,
                                      int from) {
  const std::uint64_t slot =
      (epoch & 1) * static_cast<std::uint64_t>(party.size) + static_cast<std::uint64_t>(from);
  return reinterpret_cast<Flagged*>(party.arenas[owner] + party.small_offset +
                                    slot * party.small_bytes * 2);
}

__device__ inline Unit load_unit(const void* from, std::uint64_t bytes) {
  Unit unit;
  unit.words[0] = unit.words[1] = 0;
  if (bytes >= 8 && reinterpret_cast<std::uintptr_t>(from) % 8 == 0) {
    return *static_cast<const Unit*>(from);
  }
  for (int b = 0; b < 8 && static_cast<std::uint64_t>(b) < bytes; ++b) {
    set_element(unit, b, static_cast<const std::uint8_t*>(from)[b]);
  }
  return unit;
}

__device__ inline void store_unit(void* to, const Unit& unit, std::uint64_t bytes) {
  if (bytes >= 8 && reinterpret_cast<std::uintptr_t>(to) % 8 == 0) {
    *static_cast<Unit*>(to) = unit;
    return;
  }
  for (int b = 0; b < 8 && static_cast<std::uint64_t>(b) < bytes; ++b) {
    static_cast<std::uint8_t*>(to)[b] = element_of<std::uint8_t>(unit, b);
  }
}

// One thread: the unit at `slot`, once it has come.
__device__ inline bool await_unit(const Party& party, Lane& lane, int peer, const Flagged* slot,
                                  Unit& unit) {
  const auto flag = static_cast<std::uint32_t>(lane.epoch);
  return wait_until(party, lane, peer, [&] {
    const Flagged found = load_volatile<Flagged>(slot);
    unit.words[0] = found.first;
    unit.words[1] = found.second;
    return found.first_flag == flag && found.second_flag == flag;
  });
}

// What kernels::reduce does with the elements of one unit, operand by operand.
template <class T>
struct UnitFold {
  static constexpr int kPer = 8 / static_cast<int>(sizeof(T));
  ReduceCompute<T> sums[kPer] = {};

  __device__ void start(const Unit& unit) {
    for (int e = 0; e < kPer; ++e) sums[e] = widened(element_of<T>(unit, e));
  }
  template <ReduceOp kOp>
  __device__ void add(const Unit& unit) {
    for (int e = 0; e < kPer; ++e)
      sums[e] = reduce_pair<kOp>(sums[e], widened(element_of<T>(unit, e)));
  }
  __device__ void add(ReduceOp op, const Unit& unit) {
    switch (op) {
      case ReduceOp::prod:
        return add<ReduceOp::prod>(unit);
      case ReduceOp::min:
        return add<ReduceOp::min>(unit);
      case ReduceOp::max:
        return add<ReduceOp::max>(unit);
      default:
        return add<ReduceOp::sum>(unit);
    }
  }
  __device__ Unit finish(ReduceOp op, int divisor) const {
    Unit unit;
    const Mean<ReduceCompute<T>> mean(divisor);
    for (int e = 0; e < kPer; ++e) {
      const auto value = op == ReduceOp::avg ? mean(sums[e]) : sums[e];
      set_element(unit, e, narrowed<T>(value));
    }
    return unit;
  }
};

// One thread: its units, from everybody, in the order of members.
template <class T>
__device__ inline bool take_units(const Party& party, Lane& lane, const SmallCall& call,
                                  std::uint64_t i, const Unit& own) {
  const std::uint64_t left = call.bytes - i * 8;
  std::byte* const output = static_cast<std::byte*>(call.output) + i * 8;
  UnitFold<T> fold;
  for (int m = 0; m < party.size; ++m) {
    if (call.kind == Small::broadcast && m != call.root) continue;
    Unit unit = own;
    const Flagged* const slot = small_slot(party, party.self, lane.epoch, m) + i;
    if (m != party.self && !await_unit(party, lane, m, slot, unit)) return false;
    if (call.kind == Small::gather) {
      store_unit(output + static_cast<std::uint64_t>(m) * call.bytes, unit, left);
    } else if (call.kind == Small::broadcast) {
      if (m != party.self) store_unit(output, unit, left);
    } else if (m == 0) {
      fold.start(unit);
    } else {
      fold.add(call.op, unit);
    }
  }
  // A contribution of one member alone is copied as it is, NaNs and all.
  if (call.kind == Small::fold) store_unit(output, fold.finish(call.op, call.divisor), left);
  return true;
}

template <class T>
__global__ void __launch_bounds__(kLaneThreadsMax)
    run_small_call(const Party party, const SmallCall call) {
  __shared__ Lane lane;
  bool whole = enter(party, lane, call, kPostAbsent, kPostAbsent);
  const std::uint64_t units = (call.bytes + 7) / 8;
  const std::uint64_t first = blockIdx.x * static_cast<std::uint64_t>(blockDim.x) + threadIdx.x;
  const std::uint64_t step = gridDim.x * static_cast<std::uint64_t>(blockDim.x);
  const bool gives = call.kind != Small::broadcast || party.self == call.root;
  const auto* const input = static_cast<const std::byte*>(call.input);
  if (whole) {
    for (std::uint64_t i = first; gives && i < units; i += step) {
      const Unit unit = load_unit(input + i * 8, call.bytes - i * 8);
      const auto flag = static_cast<std::uint32_t>(lane.epoch);
      const Flagged flagged{unit.words[0], flag, unit.words[1], flag};
      for (int k = 1; k < party.size; ++k) {
        const int to = (party.self + k) % party.size;
        store_volatile(small_slot(party, to, lane.epoch, party.self) + i, flagged);
      }
    }
    meet(party, lane);
    whole = goes_on(lane);
  }
  for (std::uint64_t i = first; whole && i < units; i += step) {
    const Unit own = load_unit(input + i * 8, call.bytes - i * 8);
    if (!take_units<T>(party, lane, call, i, own)) break;
  }
  leave(party, lane, call.finish);
}

}  // namespace weft::kernels::cuda::collective
