// A row that a team of threads reads from memory once and then goes over several times.
//
// RegisterRow holds it in registers: rows of whole aligned packs, at most kPacks of them a thread.
// LongRow takes rows of any length and alignment, and holds them in shared memory where they fit,
// else reads them again. Both offer the same: each(neutral, body) calls body(chunk, values) for the
// packs of this thread, values outside the row being `neutral`; put() and get() move the same
// columns of other memory.
#pragma once

#include "kernels/cuda/access.cuh"
#include "kernels/cuda/team.cuh"

namespace weft::kernels::cuda {

template <class T, class Team, int kPacks>
class RegisterRow {
 public:
  static constexpr int kN = kWidth<T>;
  using R = ComputeOf<T>;
  using Chunk = int;  // the first column

  __device__ RegisterRow(const T* row, std::int64_t columns, Team team)
      : team_(team), columns_(static_cast<int>(columns)) {
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      const int at = column(k);
      if (at < columns_) packs_[k] = load_pack<FullPack<T>>(row + at);
    }
  }

  template <class Body>
  __device__ void each(R /*neutral*/, Body body) const {
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      if (column(k) >= columns_) continue;
      R values[kN];
      widen(packs_[k], values);
      body(column(k), values);
    }
  }
  // Of another row at the same columns; it is aligned too. Nothing given: `otherwise`.
  __device__ void get(Chunk chunk, const T* row, R otherwise, R (&values)[kN]) const {
    if (row == nullptr) {
#pragma unroll
      for (int i = 0; i < kN; ++i) values[i] = otherwise;
    } else {
      widen(load_pack<FullPack<T>>(row + chunk), values);
    }
  }
  __device__ void put(Chunk chunk, T* row, const R (&values)[kN]) const {
    store_pack(row + chunk, narrow<T>(values));
  }

  // The pack that this thread holds as its k-th: where it begins, whether it is there, what is in.
  __device__ int column(int k) const { return (k * team_.size() + team_.rank()) * kN; }
  __device__ bool has(int k) const { return column(k) < columns_; }
  __device__ void values(int k, R (&values)[kN]) const { widen(packs_[k], values); }

 private:
  Team team_;
  int columns_;
  FullPack<T> packs_[kPacks] = {};
};

template <class T>
class LongRow {
 public:
  static constexpr int kN = kWidth<T>;
  using R = ComputeOf<T>;
  struct Chunk {
    std::int64_t column;  // of the first value; before the row's begin in a partial chunk
    bool whole;
  };

  // `held`: shared memory for packs_of(columns) packs, or nullptr.
  __device__ LongRow(const T* row, std::int64_t columns, FullPack<T>* held)
      : row_(row), columns_(columns), skew_(skew_of<T>(row, kN)), held_(held) {}

  WEFT_HD static std::int64_t packs_of(std::int64_t columns) { return columns / kN + 2; }

  template <class Body>
  __device__ void each(R neutral, Body body) {
    const std::int64_t packs = (columns_ + skew_ + kN - 1) / kN;
#pragma unroll 4
    for (std::int64_t p = threadIdx.x; p < packs; p += blockDim.x) {
      const Chunk chunk = chunk_of(p);
      FullPack<T> pack;
      if (filled_) {
        pack = held_[p];
      } else {
        pack = load(chunk);
        if (held_ != nullptr) held_[p] = pack;
      }
      R values[kN];
      widen(pack, values);
      if (!chunk.whole) blank(chunk, neutral, values);
      body(chunk, values);
    }
    filled_ = held_ != nullptr;  // each thread reads back what it wrote itself
  }
  __device__ void get(Chunk chunk, const T* row, R otherwise, R (&values)[kN]) const {
    if (row != nullptr && chunk.whole && aligned_for<FullPack<T>>(row + chunk.column)) {
      widen(load_pack<FullPack<T>>(row + chunk.column), values);
      return;
    }
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      values[i] = row != nullptr && has(chunk, i) ? widen(row[chunk.column + i]) : otherwise;
    }
  }
  __device__ void put(Chunk chunk, T* row, const R (&values)[kN]) const {
    const FullPack<T> pack = narrow<T>(values);
    if (chunk.whole && aligned_for<FullPack<T>>(row + chunk.column)) {
      store_pack(row + chunk.column, pack);
      return;
    }
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      if (has(chunk, i)) row[chunk.column + i] = pack[i];
    }
  }

 private:
  __device__ Chunk chunk_of(std::int64_t pack) const {
    const std::int64_t column = pack * kN - skew_;
    return {column, column >= 0 && column + kN <= columns_};
  }
  __device__ bool has(Chunk chunk, int i) const {
    return chunk.whole || (chunk.column + i >= 0 && chunk.column + i < columns_);
  }
  __device__ FullPack<T> load(Chunk chunk) const {
    if (chunk.whole) return load_pack<FullPack<T>>(row_ + chunk.column);
    FullPack<T> pack{};
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      if (has(chunk, i)) pack[i] = row_[chunk.column + i];
    }
    return pack;
  }
  __device__ void blank(Chunk chunk, R neutral, R (&values)[kN]) const {
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      if (!has(chunk, i)) values[i] = neutral;
    }
  }

  const T* row_;
  std::int64_t columns_;
  int skew_;
  FullPack<T>* held_;
  bool filled_ = false;
};

// Blocks of kernels that give each a row at a time; rows beyond are taken in turn.
inline constexpr std::int64_t kRowBlocksMax = 1 << 20;

// How a kernel over long rows is launched: a block a row, four packs or so a thread.
struct LongRows {
  unsigned threads;
  unsigned shared_bytes;  // to hold a row; 0: it does not fit, or is not wanted
};
// Dynamic shared memory that a block may have on the current device, less what kernels over rows
// have of their own: 227 KiB less 1 on sm_90, 163 less 1 on sm_80.
inline unsigned held_bytes_max() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "cudaDeviceGetAttribute");
  constexpr int kOwnBytes = 1024;
  return bytes > kOwnBytes ? static_cast<unsigned>(bytes - kOwnBytes) : 0;
}

template <class T>
LongRows long_rows(std::int64_t columns, bool held) {
  const std::int64_t packs = LongRow<T>::packs_of(columns);
  unsigned threads = kWarp;
  while (threads < 1024 && threads * 4 < packs) threads *= 2;
  const std::int64_t bytes = packs * kAccessBytes;
  return {threads, held && bytes <= held_bytes_max() ? static_cast<unsigned>(bytes) : 0};
}

// Whether rows can be held in registers: whole packs of each operand's rows, all aligned.
template <class T>
bool are_whole_packs(std::int64_t columns, std::initializer_list<const void*> operands) {
  if (columns % kWidth<T> != 0) return false;
  for (const void* operand : operands) {
    if (!aligned_for<FullPack<T>>(operand)) return false;
  }
  return true;
}

}  // namespace weft::kernels::cuda
