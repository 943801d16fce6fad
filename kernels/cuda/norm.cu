// The global norm in two stages whose shape kernels/functors/norm.h fixes, and clipping.
#include <cmath>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/list.cuh"
#include "kernels/cuda/list_checks.h"
#include "kernels/cuda/multi_tensor.h"
#include "kernels/functors/norm.h"
#include "kernels/optimizer_checks.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kEntries = 100;

// Chunks of all tensors of one type; a chunk's sum goes to partial[its number in the whole list].
struct SquaresParams {
  std::int64_t first_chunk[kEntries + 1];  // of tensor t in this launch
  std::int64_t first_partial[kEntries];
  std::int64_t count[kEntries];
  const void* data[kEntries];
  int tensors;
  double* partial;

  template <class Visit>
  void pointers(const Visit& visit) const {
    for (int t = 0; t < tensors; ++t) visit(data[t]);
    visit(partial);
  }
};
static_assert(sizeof(SquaresParams) <= kParameterBytes);

// A chunk belongs to a team of threads, each to kOwn neighbouring ones of its lanes.
template <class T>
struct Team {
  static constexpr int kOwn = sizeof(T) == 8 ? 2 : 4;
  static constexpr int kThreads = kSquareLanes / kOwn;
  static constexpr int kRows = static_cast<int>(kSquareChunk) / kSquareLanes;
  static constexpr int kTeams = kListThreads / kThreads;
};

template <class T, int N>
WEFT_DEVICE void add_squares(double (&sums)[N], const Pack<T, N>& x) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const double value = converted<double>(x[k]);
    sums[k] = std::fma(value, value, sums[k]);
  }
}

// data: the first element of the thread's lanes; count: elements from there to the chunk's end.
template <class T, int N>
WEFT_DEVICE void add_rows(double (&sums)[N], const T* data, std::int64_t count) {
  constexpr int kRows = Team<T>::kRows, kUnroll = 8;
  if (aligned_for<Pack<T, N>>(data) && count > (kRows - 1) * kSquareLanes + N - 1) {
#pragma unroll 1
    for (int row = 0; row < kRows; row += kUnroll) {
      Pack<T, N> x[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) x[u] = load_pack<N>(data + (row + u) * kSquareLanes);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) add_squares(sums, x[u]);
    }
    return;
  }
#pragma unroll 4
  for (int row = 0; row < kRows; ++row) {
    Pack<T, N> x;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const int i = row * kSquareLanes + k;
      x[k] = i < count ? data[i] : T(0.0f);
    }
    add_squares(sums, x);
  }
}

template <class T>
__global__ void __launch_bounds__(kListThreads)
    squares_kernel(const __grid_constant__ SquaresParams params) {
  constexpr int kOwn = Team<T>::kOwn, kThreads = Team<T>::kThreads, kTeams = Team<T>::kTeams;
  const int team = static_cast<int>(threadIdx.x) / kThreads;
  const int thread = static_cast<int>(threadIdx.x) % kThreads;
  const std::int64_t chunks = params.first_chunk[params.tensors];
  int tensor = 0;
  for (std::int64_t first = std::int64_t{blockIdx.x} * kTeams; first < chunks;
       first += std::int64_t{gridDim.x} * kTeams) {
    const std::int64_t chunk = first + team;
    const bool mine = chunk < chunks;
    double sums[kOwn] = {};
    if (mine) {
      while (chunk >= params.first_chunk[tensor + 1]) ++tensor;
      const std::int64_t begin =
          (chunk - params.first_chunk[tensor]) * kSquareChunk + thread * kOwn;
      add_rows(sums, static_cast<const T*>(params.data[tensor]) + begin,
               params.count[tensor] - begin);
    }
    // Lane l takes lane l + 32, then l + 16, ...: between threads, then within.
#pragma unroll
    for (int apart = kThreads / 2; apart > 0; apart /= 2) {
#pragma unroll
      for (int k = 0; k < kOwn; ++k) sums[k] += warp_shuffle_xor(sums[k], apart);
    }
#pragma unroll
    for (int width = kOwn / 2; width > 0; width /= 2) {
#pragma unroll
      for (int k = 0; k < width; ++k) sums[k] += sums[k + width];
    }
    if (mine && thread == 0) {
      params.partial[params.first_partial[tensor] + chunk - params.first_chunk[tensor]] = sums[0];
    }
  }
}

// What the norm is for: all but the sum of squares may be nullptr.
struct NormResults {
  double* squared;
  double* norm;
  double* factor;
  double max_norm;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(squared);
    visit(norm);
    visit(factor);
  }
};

WEFT_DEVICE void conclude(double squared, const NormResults& results) {
  const double norm = std::sqrt(squared);
  if (results.norm != nullptr) *results.norm = norm;
  if (results.factor != nullptr) {
    const double factor = kernels::clip_factor(norm, results.max_norm);
    *results.factor = factor >= 1.0 ? 1.0 : factor;  // a NaN stays
  }
}

__global__ void __launch_bounds__(kPartialLanes)
    fold_kernel(const double* partial, std::int64_t chunks, NormResults results) {
  __shared__ double sums[kPartialLanes];
  const int lane = static_cast<int>(threadIdx.x);
  double sum = 0.0;
#pragma unroll 8
  for (std::int64_t i = lane; i < chunks; i += kPartialLanes) sum += partial[i];
  sums[lane] = sum;
  __syncthreads();
  for (int width = kPartialLanes / 2; width > 0; width /= 2) {
    if (lane < width) sums[lane] += sums[lane + width];
    __syncthreads();
  }
  if (lane != 0) return;
  *results.squared = sums[0];
  conclude(sums[0], results);
}

std::int64_t chunks_of(const FlatTensor& tensor) {
  return (tensor.count.value + kSquareChunk - 1) / kSquareChunk;
}

std::int64_t chunks_of(std::span<const FlatTensor> tensors) {
  std::int64_t chunks = 0;
  for (const FlatTensor& tensor : tensors) chunks += chunks_of(tensor);
  return chunks;
}

template <class T>
void launch_squares(std::span<const FlatTensor> tensors, double* partial, Stream stream) {
  SquaresParams params{};
  params.partial = partial;
  const auto flush = [&] {
    const std::int64_t chunks = params.first_chunk[params.tensors];
    if (chunks == 0) return;
    const std::int64_t blocks = (chunks + Team<T>::kTeams - 1) / Team<T>::kTeams;
    const auto resident = std::min<std::int64_t>(blocks, resident_blocks_once<squares_kernel<T>>());
    launch(squares_kernel<T>, Shape{static_cast<unsigned>(resident), kListThreads}, stream, params);
    params.tensors = 0;
  };
  std::int64_t first_partial = 0;
  for (const FlatTensor& tensor : tensors) {
    const std::int64_t chunks = chunks_of(tensor);
    if (tensor.dtype == dtype_of<T> && chunks > 0) {
      const int t = params.tensors++;
      params.first_chunk[t + 1] = params.first_chunk[t] + chunks;
      params.first_partial[t] = first_partial;
      params.count[t] = tensor.count.value;
      params.data[t] = tensor.data;
      if (params.tensors == kEntries) flush();
    }
    first_partial += chunks;
  }
  flush();
}

void norm_of(const char* operation, std::span<const FlatTensor> tensors, void* workspace,
             const NormResults& results, Stream stream) {
  check_flat(operation, tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    check_aligned(operation, i, "data", tensors[i].data, tensors[i].dtype);
  }
  check_present(operation, 0, "the workspace", workspace, DType::f64);
  auto* const partial = static_cast<double*>(workspace);
  launch_squares<float>(tensors, partial, stream);
  launch_squares<BFloat16>(tensors, partial, stream);
  launch_squares<Half>(tensors, partial, stream);
  launch_squares<double>(tensors, partial, stream);
  launch(fold_kernel, Shape{1, kPartialLanes}, stream, partial, chunks_of(tensors), results);
}

}  // namespace

// The chunks' sums, then the sum of squares and the factor of a clip.
Bytes norm_workspace(std::span<const FlatTensor> tensors) {
  return Bytes((chunks_of(tensors) + 2) * static_cast<std::int64_t>(sizeof(double)));
}

void squared_norm(std::span<const FlatTensor> tensors, void* workspace, double* result,
                  Stream stream) {
  check_present("squared_norm", 0, "the result", result, DType::f64);
  norm_of("squared_norm", tensors, workspace, {result, nullptr, nullptr, 0.0}, stream);
}

void clip_norm(std::span<const FlatTensor> tensors, double max_norm, void* workspace, double* norm,
               Stream stream) {
  check_max_norm("clip_norm", max_norm);
  check_present("clip_norm", 0, "the workspace", workspace, DType::f64);
  double* const rest = static_cast<double*>(workspace) + chunks_of(tensors);
  norm_of("clip_norm", tensors, workspace, {rest, norm, rest + 1, max_norm}, stream);
  scale(tensors, rest + 1, stream);
}

}  // namespace weft::kernels::cuda
