// One kernel over a whole list of flat tensors of any sizes, as multi-tensor operations need it.
//
// The list lies in tables that travel as kernel parameters (a longer list takes several launches).
// Each tensor is cut into chunks; blocks, as many as are resident at once, take every gridDim.x-th
// chunk. A thread of a chunk loads kUnroll packs of kPack elements from each array before it uses
// any, and neighbouring threads' packs are neighbours in memory, so that each access of a warp is
// one run of bytes: 16 bytes a thread for an operation's widest type, fewer for narrower ones.
// A tensor's first and last chunk, and tensors whose arrays do not reach a 16-byte boundary at the
// same element, go element by element, still coalesced.
//
// An operation is a type Op with
//   kArrays           pointers that a tensor has; the first decides where packs begin
//   kPack, kUnroll    elements in a pack; packs that a thread has in flight
//   kTensors          entries in a table, see table_entries()
//   Values            what else it is told
//   Op(const Values&) on the device, by all threads of a block
//   idle()            true: there is nothing to do; the same in all threads of a block
//   open(void* const* arrays, tag)   a tensor: called before its chunks
//   Operands<N>, load<N>(index), finish<N>(index, operands)   N elements from `index`
//   close()           after the last chunk, by all threads
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/launch.cuh"

namespace weft::kernels::cuda {

inline constexpr int kListThreads = 256;
inline constexpr int kParameterBytes = 4096;  // of a kernel, that every device takes

template <int kArrays, int kTensors>
struct TensorTable {
  std::int64_t first_chunk[kTensors + 1];  // of tensor t; the last one: chunks in all
  std::int64_t count[kTensors];
  void* arrays[kTensors][kArrays];
  std::uint8_t skew[kTensors];   // elements by which the tensor begins past a boundary
  std::uint8_t packs[kTensors];  // all arrays reach boundaries at the same elements
  std::uint8_t tag[kTensors];    // the operation's
  int tensors;
};

// Entries that fit beside `value_bytes` of other parameters.
constexpr int table_entries(int arrays, int value_bytes) {
  return (kParameterBytes - value_bytes - 48) / (16 + 8 * arrays + 3);
}

template <class Op>
struct ListParams {
  TensorTable<Op::kArrays, Op::kTensors> table;
  typename Op::Values values;

  template <class Visit>
  void pointers(const Visit& visit) const {
    for (int t = 0; t < table.tensors; ++t) {
      for (void* array : table.arrays[t]) visit(array);
    }
    visit_pointers(values, visit);
  }
};

// The chunk whose first element, counted from the tensor's, is `begin`: negative where the tensor
// begins past a boundary.
template <class Op>
WEFT_DEVICE void walk_chunk(Op& op, std::int64_t begin, std::int64_t count, bool packs) {
  constexpr int kPack = Op::kPack, kUnroll = Op::kUnroll;
  constexpr int kChunk = kListThreads * kPack * kUnroll;
  const int thread = static_cast<int>(threadIdx.x);
  if (packs && begin >= 0 && begin + kChunk <= count) {
    const std::int64_t first = begin + thread * kPack;
    typename Op::template Operands<kPack> operands[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      operands[u] = op.template load<kPack>(first + u * kListThreads * kPack);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      op.template finish<kPack>(first + u * kListThreads * kPack, operands[u]);
    }
    return;
  }
  constexpr int kBatch = kPack * kUnroll < 4 ? kPack * kUnroll : 4;
#pragma unroll 1
  for (int e = 0; e < kPack * kUnroll; e += kBatch) {
    const std::int64_t first = begin + e * kListThreads + thread;
    const auto inside = [=](int b) {
      const std::int64_t i = first + b * kListThreads;
      return i >= 0 && i < count;
    };
    typename Op::template Operands<1> operands[kBatch] = {};
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (inside(b)) operands[b] = op.template load<1>(first + b * kListThreads);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (inside(b)) op.template finish<1>(first + b * kListThreads, operands[b]);
    }
  }
}

template <class Op>
__global__ void __launch_bounds__(kListThreads)
    list_kernel(const __grid_constant__ ListParams<Op> params) {
  constexpr int kChunk = kListThreads * Op::kPack * Op::kUnroll;
  Op op(params.values);
  if (op.idle()) return;
  const auto& table = params.table;
  const std::int64_t chunks = table.first_chunk[table.tensors];
  int tensor = 0;
  op.open(table.arrays[0], table.tag[0]);
  for (std::int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    if constexpr (Op::kTensors > 1) {
      while (tensor + 1 < table.tensors && chunk >= table.first_chunk[tensor + 1]) {
        ++tensor;
        op.open(table.arrays[tensor], table.tag[tensor]);
      }
    }
    const std::int64_t begin = (chunk - table.first_chunk[tensor]) * kChunk - table.skew[tensor];
    walk_chunk(op, begin, table.count[tensor], table.packs[tensor] != 0);
  }
  op.close();
}

// resident_blocks() of kListThreads threads each, asked once a device: a launch costs a launch.
template <auto kKernel>
int resident_blocks_once() {
  constexpr int kDevicesMax = 64;
  static std::atomic<int> known[kDevicesMax];
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  if (device >= kDevicesMax) return resident_blocks(kKernel, kListThreads);
  int blocks = known[device].load(std::memory_order_relaxed);
  if (blocks == 0) {
    blocks = resident_blocks(kKernel, kListThreads);
    known[device].store(blocks, std::memory_order_relaxed);
  }
  return blocks;
}

// Collects a list and launches it, table by table; flush() launches what is left.
template <class Op>
class ListLauncher {
 public:
  using Arrays = std::array<void*, Op::kArrays>;
  using Sizes = std::array<int, Op::kArrays>;

  ListLauncher(const typename Op::Values& values, Stream stream) : stream_(stream) {
    static_assert(sizeof(ListParams<Op>) <= kParameterBytes);
    params_.values = values;
    clear();
  }

  // Pointers (or nullptr) to `count` elements of sizes[...] bytes each, aligned to their elements.
  // packs: false where an array that the operation knows of otherwise does not reach boundaries.
  void add(const Arrays& arrays, const Sizes& sizes, std::int64_t count, int tag = 0,
           bool packs = true) {
    if (count <= 0) return;
    auto& table = params_.table;
    const int t = table.tensors;
    const int skew = skew_of(arrays[0], sizes[0]);
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      table.arrays[t][a] = arrays[a];
      packs = packs && (arrays[a] == nullptr || reaches_boundary(arrays[a], sizes[a], skew));
    }
    table.count[t] = count;
    table.skew[t] = static_cast<std::uint8_t>(skew);
    table.packs[t] = packs ? 1 : 0;
    table.tag[t] = static_cast<std::uint8_t>(tag);
    table.first_chunk[t + 1] = table.first_chunk[t] + (skew + count + kChunk - 1) / kChunk;
    if (++table.tensors == Op::kTensors) flush();
  }

  void flush() {
    auto& table = params_.table;
    if (table.tensors == 0) return;
    const auto blocks = std::min<std::int64_t>(table.first_chunk[table.tensors],
                                               resident_blocks_once<list_kernel<Op>>());
    launch(list_kernel<Op>, Shape{static_cast<unsigned>(blocks), kListThreads}, stream_, params_);
    clear();
  }

  // Elements from the last boundary before `data` to it.
  static int skew_of(const void* data, int size) {
    return static_cast<int>(reinterpret_cast<std::uintptr_t>(data) / static_cast<unsigned>(size) %
                            Op::kPack);
  }
  // Whether a boundary lies `skew` elements before `data`.
  static bool reaches_boundary(const void* data, int size, int skew) {
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    const auto pack = static_cast<unsigned>(size * Op::kPack);
    return (address - static_cast<unsigned>(skew * size)) % pack == 0;
  }

 private:
  static constexpr std::int64_t kChunk = std::int64_t{kListThreads} * Op::kPack * Op::kUnroll;

  void clear() {
    params_.table.tensors = 0;
    params_.table.first_chunk[0] = 0;
  }

  ListParams<Op> params_;
  Stream stream_;
};

}  // namespace weft::kernels::cuda
