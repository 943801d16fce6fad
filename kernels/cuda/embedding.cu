// Embedding: rows gathered in words of up to 16 bytes; gradients summed in two kernels, without
// sorting and without atomics on memory.
//
//   order:  a block owns a range of entries. Its warps each count, over a run of the indices, those
//           of the range; a scan over entries and warps turns counts into places; a second reading
//           puts each position in its place. That lists the positions of every entry, in order.
//   sum:    a warp an entry and 32 packs of columns; entries with many gradients take the block.
#include "kernels/cuda/embedding.h"

#include "kernels/cuda/checks.h"
#include "kernels/cuda/faults.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/scratch.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kGatherThreads = 256;
constexpr int kOrderWarps = 16;
constexpr int kOrderThreads = kOrderWarps * 32;
constexpr std::int64_t kOrderBlocks = 132;  // one for each multiprocessor of the largest device
constexpr int kEntriesMax = kOrderThreads;  // of a block: one a thread; 32 KiB of counts
constexpr int kSumWarps = 8;

// A warp a row.
template <class Word, class I>
__global__ void __launch_bounds__(kGatherThreads)
    gather_kernel(const Word* table, const I* indices, std::int64_t count, std::int64_t words,
                  FaultSink sink, Word* y) {
  constexpr int kWarps = kGatherThreads / 32;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kWarps;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
       i < count; i += step) {
    const std::int64_t index = indices[i];
    const bool good = index >= 0 && index < sink.bound;
    if (!good && lane == 0) report_fault(sink, i, index);
    const Word* const row = table + (good ? index : 0) * words;
#pragma unroll 4
    for (std::int64_t w = lane; w < words; w += kWarp) y[i * words + w] = good ? row[w] : Word{};
  }
}

// The places of positions by entry: positions[starts[e] .. starts[e + 1]) of entry e, ascending.
struct Order {
  std::int32_t* starts;     // (entries + 1)
  std::int32_t* positions;  // (count)

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(starts);
    visit(positions);
  }
};

// A block's part of the entries, and what one of its warps goes through of the indices.
struct Range {
  std::int64_t first, entries;  // of the block
  std::int64_t begin, end;      // of the warp
  __device__ bool has(std::int64_t index) const {
    return index >= first && index < first + entries;
  }
};

// counts[warp][entry] becomes the place where that warp puts its first position of that entry;
// `below` positions belong to entries before the range. A thread an entry.
__device__ void places_from_counts(int (&counts)[kOrderWarps][kEntriesMax],
                                   int (&totals)[kOrderWarps], const Range& range, int below,
                                   std::int64_t entries, std::int32_t* starts) {
  const int e = static_cast<int>(threadIdx.x), lane = e % 32, warp = e / 32;
  const bool mine = e < range.entries;
  int of_entry = 0;
  for (int w = 0; mine && w < kOrderWarps; ++w) of_entry += counts[w][e];
  int up_to = of_entry;  // inclusive scan over the warp
#pragma unroll
  for (int apart = 1; apart < 32; apart *= 2) {
    const int other = warp_shuffle_idx(up_to, lane >= apart ? lane - apart : lane);
    if (lane >= apart) up_to += other;
  }
  if (lane == 31) totals[warp] = up_to;
  __syncthreads();
  int place = below + up_to - of_entry;
  for (int w = 0; w < warp; ++w) place += totals[w];
  if (mine) {
    starts[range.first + e] = place;
    for (int w = 0; w < kOrderWarps; ++w) {
      const int count = counts[w][e];
      counts[w][e] = place;
      place += count;
    }
    if (range.first + e + 1 == entries) starts[entries] = place;
  }
  __syncthreads();
}

// Puts the positions of one group of 32 indices, those of this warp's lanes, in their places.
__device__ void place_group(int (&cursors)[kEntriesMax], bool here, int entry, int position,
                            std::int32_t* positions) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  unsigned waiting = warp_ballot(here);
  while (waiting != 0) {
    const int leader = __ffs(static_cast<int>(waiting)) - 1;
    const int wanted = warp_shuffle_idx(entry, leader);
    const unsigned same = warp_ballot(here && entry == wanted);
    const int place = cursors[wanted];
    if (here && entry == wanted) {
      positions[place + __popc(same & ((1u << lane) - 1u))] = position;
    }
    __syncwarp();
    if (lane == leader) cursors[wanted] = place + __popc(same);
    __syncwarp();
    waiting &= ~same;
  }
}

template <class I>
__global__ void __launch_bounds__(kOrderThreads)
    order_kernel(const I* indices, std::int64_t count, std::int64_t entries,
                 std::int64_t block_entries, FaultSink sink, Order order) {
  __shared__ int counts[kOrderWarps][kEntriesMax];
  __shared__ int totals[kOrderWarps];
  __shared__ double slots[kWarpsMax];
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  for (int w = 0; w < kOrderWarps; ++w) counts[w][threadIdx.x] = 0;
  Range range;
  range.first = blockIdx.x * block_entries;
  range.entries = min(block_entries, entries - range.first);
  const std::int64_t run = (count + kOrderThreads - 1) / kOrderThreads * 32;
  range.begin = min(warp * run, count);
  range.end = min(range.begin + run, count);
  __syncthreads();
  int below = 0;
#pragma unroll 4
  for (std::int64_t i = range.begin + lane; i < range.end; i += kWarp) {
    const std::int64_t index = indices[i];
    if (range.has(index)) atomicAdd(&counts[warp][index - range.first], 1);
    if (index >= 0 && index < range.first) ++below;
    if (blockIdx.x == 0) index_is_good(sink, i, index);
  }
  below = BlockTeam{slots}.sum(below);  // and every count is there
  places_from_counts(counts, totals, range, below, entries, order.starts);
  constexpr int kGroups = 4;  // read together
  for (std::int64_t start = range.begin; start < range.end; start += kGroups * kWarp) {
    std::int64_t index[kGroups];
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const std::int64_t i = start + g * kWarp + lane;
      index[g] = i < range.end ? static_cast<std::int64_t>(indices[i]) : -1;
    }
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const bool here = range.has(index[g]);
      place_group(counts[warp], here, here ? static_cast<int>(index[g] - range.first) : 0,
                  static_cast<int>(start + g * kWarp + lane), order.positions);
    }
  }
}

template <class T>
struct Sum {
  std::int64_t entries, width;
  std::int64_t chunks;  // of 32 packs of columns
  Order order;
  const T* dy;
  T* dtable;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(dy);
    visit(dtable);
  }
};

// sums += the gradients at positions[begin .. end), in order, in this lane's N columns.
template <int N, class T>
__device__ __forceinline__ void add_gradients(const Sum<T>& p, std::int32_t begin, std::int32_t end,
                                              std::int64_t column, ComputeOf<T> (&sums)[N]) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const bool inside = column < p.width;
  for (std::int32_t base = begin; base < end; base += kWarp) {
    const std::int32_t mine = base + lane < end ? p.order.positions[base + lane] : 0;
    const int here = min(end - base, static_cast<std::int32_t>(kWarp));
#pragma unroll 4
    for (int k = 0; k < here; ++k) {
      const std::int64_t position = warp_shuffle_idx(mine, k);
      if (!inside) continue;
      ComputeOf<T> gradient[N];
      widen(load_pack<Pack<T, N>>(p.dy + position * p.width + column), gradient);
#pragma unroll
      for (int i = 0; i < N; ++i) sums[i] += gradient[i];
    }
  }
}

template <int N, class T>
__global__ void __launch_bounds__(kSumWarps * 32) sum_kernel(Sum<T> p) {
  using R = ComputeOf<T>;
  __shared__ R parts[kSumWarps][32 * N];
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int warp = static_cast<int>(threadIdx.x / kWarp);
  const std::int64_t first = blockIdx.x / p.chunks * kSumWarps;
  const std::int64_t chunk_column = blockIdx.x % p.chunks * 32 * N;
  const std::int64_t column = chunk_column + lane * N;
  const std::int64_t entry = first + warp;
  if (entry < p.entries) {
    const std::int32_t begin = p.order.starts[entry], end = p.order.starts[entry + 1];
    if (end - begin <= kEmbeddingAloneMax) {
      R sums[N] = {};
      add_gradients<N>(p, begin, end, column, sums);
      if (column < p.width) {
        store_pack(p.dtable + entry * p.width + column, narrow<T>(sums));
      }
    }
  }
  // Entries with many gradients: a run of them a warp.
  for (int e = 0; e < kSumWarps && first + e < p.entries; ++e) {
    const std::int32_t begin = p.order.starts[first + e], end = p.order.starts[first + e + 1];
    const std::int64_t many = end - begin;
    if (many <= kEmbeddingAloneMax) continue;  // the same for the whole block
    R sums[N] = {};
    add_gradients<N>(p, begin + static_cast<std::int32_t>(many * warp / kSumWarps),
                     begin + static_cast<std::int32_t>(many * (warp + 1) / kSumWarps), column,
                     sums);
#pragma unroll
    for (int i = 0; i < N; ++i) parts[warp][lane * N + i] = sums[i];
    __syncthreads();
    const int c = static_cast<int>(threadIdx.x);
    if (c < 32 * N && chunk_column + c < p.width) {
      R total = parts[0][c];
      for (int w = 1; w < kSumWarps; ++w) total += parts[w][c];
      p.dtable[(first + e) * p.width + chunk_column + c] = narrow<T>(total);
    }
    __syncthreads();
  }
}

void check_count(std::int64_t count) {
  if (count < std::int64_t{1} << 31) return;
  refuse("embedding: " + std::to_string(count) +
         " indices: the CUDA backend takes fewer than 2^31 at once; split the batch.");
}

template <int N, class T>
void launch_sum(Sum<T> p, Stream stream) {
  p.chunks = (p.width + 32 * N - 1) / (32 * N);
  const std::int64_t groups = (p.entries + kSumWarps - 1) / kSumWarps;
  launch(sum_kernel<N, T>, Shape{static_cast<unsigned>(groups * p.chunks), kSumWarps * 32}, stream,
         p);
}

template <class T, class I>
void scatter(const Embedding& problem, const void* dy, void* dtable, Stream stream) {
  const std::int64_t entries = problem.entries, count = problem.count;
  if (entries == 0 || problem.width == 0) return;
  const Scratch scratch(
      Bytes((entries + 1 + count) * static_cast<std::int64_t>(sizeof(std::int32_t))), stream);
  auto* const starts = static_cast<std::int32_t*>(scratch.data());
  const Order order{starts, starts + entries + 1};
  const std::int64_t block_entries =
      std::min<std::int64_t>(kEntriesMax, (entries + kOrderBlocks - 1) / kOrderBlocks);
  const std::int64_t blocks = (entries + block_entries - 1) / block_entries;
  launch(order_kernel<I>, Shape{static_cast<unsigned>(blocks), kOrderThreads}, stream,
         static_cast<const I*>(problem.indices), count, entries, block_entries,
         fault_sink(FaultKind::embedding, entries), order);
  const Sum<T> p{
      entries, problem.width, 0, order, static_cast<const T*>(dy), static_cast<T*>(dtable)};
  if (are_whole_packs<T>(problem.width, {dy, dtable})) {
    launch_sum<kWidth<T>>(p, stream);
  } else {
    launch_sum<1>(p, stream);
  }
}

// The widest word that rows and addresses are whole multiples of.
std::int64_t word_bytes(std::int64_t row_bytes, const void* table, const void* y) {
  std::uintptr_t bits = static_cast<std::uintptr_t>(row_bytes) | 16u;
  bits |= reinterpret_cast<std::uintptr_t>(table) | reinterpret_cast<std::uintptr_t>(y);
  return static_cast<std::int64_t>(bits & (~bits + 1));
}

template <class Word, class I>
void gather(const Embedding& problem, const void* table, void* y, Stream stream) {
  const std::int64_t words =
      bytes_of(Elems(problem.width), problem.dtype).value / static_cast<std::int64_t>(sizeof(Word));
  launch(gather_kernel<Word, I>,
         Shape{grid_for(problem.count, kGatherThreads / 32, kRowBlocksMax), kGatherThreads}, stream,
         static_cast<const Word*>(table), static_cast<const I*>(problem.indices), problem.count,
         words, fault_sink(FaultKind::embedding, problem.entries), static_cast<Word*>(y));
}

}  // namespace

void embedding(const Embedding& problem, const void* table, void* y, Stream stream) {
  check_count(problem.count);
  dispatch_index(problem.index_type, "embedding", [&]<class I>() {
    if (problem.count == 0) return;
    const std::int64_t row_bytes = bytes_of(Elems(problem.width), problem.dtype).value;
    switch (word_bytes(row_bytes, table, y)) {
      case 16:
        return gather<uint4, I>(problem, table, y, stream);
      case 8:
        return gather<std::uint64_t, I>(problem, table, y, stream);
      case 4:
        return gather<std::uint32_t, I>(problem, table, y, stream);
      case 2:
        return gather<std::uint16_t, I>(problem, table, y, stream);
      default:
        return gather<std::uint8_t, I>(problem, table, y, stream);
    }
  });
}

void embedding_backward(const Embedding& problem, const void* dy, void* dtable, Stream stream) {
  check_count(problem.count);
  dispatch_floating(problem.dtype, "embedding", [&]<class T>() {
    dispatch_index(problem.index_type, "embedding",
                   [&]<class I>() { scatter<T, I>(problem, dy, dtable, stream); });
  });
}

}  // namespace weft::kernels::cuda
