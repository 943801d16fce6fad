#include "kernels/optimizer.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <vector>

#include "kernels/base/thread_pool.h"
#include "kernels/cast.h"
#include "kernels/cpu/optimizer_lanes.h"
#include "kernels/optimizer_checks.h"

namespace weft::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;
constexpr std::int64_t kPiece = 2048;  // elements that are converted and worked on in one go

std::byte* at(void* data, std::int64_t index, DType dtype) {
  return static_cast<std::byte*>(data) + index * size_of(dtype).value;
}
const std::byte* at(const void* data, std::int64_t index, DType dtype) {
  return static_cast<const std::byte*>(data) + index * size_of(dtype).value;
}

template <class Tensor>
std::int64_t total_count(std::span<const Tensor> tensors) {
  std::int64_t total = 0;
  for (const Tensor& tensor : tensors) total += tensor.count.value;
  return total;
}

// Shares all elements of all tensors out over the pool, whatever their sizes; work(tensor, begin,
// count) gets at most kPiece elements of one tensor. Only for work whose results do not depend on
// where pieces end.
template <class Tensor, class Work>
void for_each_piece(std::span<const Tensor> tensors, const Work& work) {
  parallel_for(total_count(tensors), kGrain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t first = 0;  // position of the tensor's first element among all
    for (const Tensor& tensor : tensors) {
      const std::int64_t last = first + tensor.count.value;
      for (std::int64_t i = std::max(begin, first); i < std::min(end, last); i += kPiece) {
        work(tensor, i - first, std::min({kPiece, end - i, last - i}));
      }
      first = last;
      if (first >= end) break;
    }
  });
}

// The gradient's piece in the parameter's type: itself, or converted into `buffer`.
template <class Tensor>
const void* gradient_piece(const Tensor& tensor, std::int64_t begin, std::int64_t count,
                           void* buffer) {
  const std::byte* const gradient = at(tensor.gradient, begin, tensor.gradient_type);
  if (tensor.gradient_type == tensor.parameter_type) return gradient;
  cast(buffer, tensor.parameter_type, gradient, tensor.gradient_type, Elems(count));
  return buffer;
}

template <class Tensor>
void copy_out(const Tensor& tensor, std::int64_t begin, std::int64_t count) {
  if (tensor.low_precision_copy == nullptr) return;
  cast(at(tensor.low_precision_copy, begin, tensor.copy_type), tensor.copy_type,
       at(tensor.parameter, begin, tensor.parameter_type), tensor.parameter_type, Elems(count));
}

// True where a result is not finite.
bool scale_piece(const FlatTensor& tensor, std::int64_t begin, std::int64_t count, double factor) {
  std::byte* const data = at(tensor.data, begin, tensor.dtype);
  const auto length = static_cast<std::size_t>(count);
  if (!is_half(tensor.dtype)) {
    return lanes::scale_and_check(tensor.dtype, data, length, factor, overflow_limit(tensor.dtype));
  }
  alignas(64) float wide[kPiece];
  cast(wide, DType::f32, data, tensor.dtype, Elems(count));
  const bool bad =
      lanes::scale_and_check(DType::f32, wide, length, factor, overflow_limit(tensor.dtype));
  cast(data, tensor.dtype, wide, DType::f32, Elems(count));
  return bad;
}

// Lane l takes lane l + kCount / 2, and so on until one is left: widths that the compiler knows.
template <int kCount>
double fold_in_halves(double* sums) {
  if constexpr (kCount == 1) {
    return sums[0];
  } else {
    for (int lane = 0; lane < kCount / 2; ++lane) sums[lane] += sums[lane + kCount / 2];
    return fold_in_halves<kCount / 2>(sums);
  }
}

// The chunks' sums in their lanes. Lanes that no chunk reaches would add zeros: they are left out.
double fold_partial(std::span<const double> partial) {
  double sums[kPartialLanes];
  const std::size_t lanes =
      std::min<std::size_t>(std::bit_ceil(std::max<std::size_t>(partial.size(), 1)), kPartialLanes);
  std::fill_n(sums, lanes, 0.0);
  for (std::size_t i = 0; i < partial.size(); ++i) sums[i % kPartialLanes] += partial[i];
  for (std::size_t width = lanes / 2; width > 0; width /= 2) {
    for (std::size_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

double chunk_squares(const FlatTensor& tensor, std::int64_t begin, std::int64_t count) {
  alignas(64) double sums[kSquareLanes] = {};
  alignas(64) float wide[kPiece];
  for (std::int64_t i = begin; i < begin + count; i += kPiece) {
    const std::int64_t length = std::min(kPiece, begin + count - i);
    const void* data = at(tensor.data, i, tensor.dtype);
    DType dtype = tensor.dtype;
    if (is_half(dtype)) {
      cast(wide, DType::f32, data, dtype, Elems(length));
      data = wide;
      dtype = DType::f32;
    }
    lanes::add_squares(dtype, data, static_cast<std::size_t>(length), sums);
  }
  return fold_in_halves<kSquareLanes>(sums);
}

}  // namespace

void adam(std::span<const AdamTensor> tensors, const AdamParams& params) {
  check_adam(tensors, params);
  const AdamFactors factors = adam_factors(params);
  for_each_piece(tensors, [&](const AdamTensor& tensor, std::int64_t begin, std::int64_t count) {
    alignas(64) std::byte buffer[kPiece * 8];
    const DType type = tensor.parameter_type;
    std::byte* const parameter = at(tensor.parameter, begin, type);
    lanes::adam(type, parameter, gradient_piece(tensor, begin, count, buffer),
                at(tensor.exp_avg, begin, type), at(tensor.exp_avg_sq, begin, type),
                static_cast<std::size_t>(count), factors);
    copy_out(tensor, begin, count);
  });
}

void sgd(std::span<const SgdTensor> tensors, const SgdParams& params) {
  check_sgd(tensors, params);
  for_each_piece(tensors, [&](const SgdTensor& tensor, std::int64_t begin, std::int64_t count) {
    alignas(64) std::byte buffer[kPiece * 8];
    const DType type = tensor.parameter_type;
    void* const momentum = params.momentum != 0.0 ? at(tensor.momentum, begin, type) : nullptr;
    lanes::sgd(type, at(tensor.parameter, begin, type),
               gradient_piece(tensor, begin, count, buffer), momentum,
               static_cast<std::size_t>(count), params);
    copy_out(tensor, begin, count);
  });
}

double squared_norm(std::span<const FlatTensor> tensors) {
  check_flat("squared_norm", tensors);
  struct Chunk {
    const FlatTensor* tensor;
    std::int64_t begin, count;
  };
  std::vector<Chunk> chunks;
  for (const FlatTensor& tensor : tensors) {
    for (std::int64_t i = 0; i < tensor.count.value; i += kSquareChunk) {
      chunks.push_back({&tensor, i, std::min(kSquareChunk, tensor.count.value - i)});
    }
  }
  std::vector<double> partial(chunks.size());
  parallel_for(
      static_cast<std::int64_t>(chunks.size()), 4, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          partial[i] = chunk_squares(*chunks[i].tensor, chunks[i].begin, chunks[i].count);
        }
      });
  return fold_partial(partial);
}

void scale(std::span<const FlatTensor> tensors, double factor) {
  check_flat("scale", tensors);
  for_each_piece(tensors, [&](const FlatTensor& tensor, std::int64_t begin, std::int64_t count) {
    scale_piece(tensor, begin, count, factor);
  });
}

bool unscale_and_check(std::span<const FlatTensor> tensors, double scale) {
  check_flat("unscale_and_check", tensors);
  check_unscale(scale);
  const double inverse = 1.0 / scale;
  std::atomic<bool> found{false};
  for_each_piece(tensors, [&](const FlatTensor& tensor, std::int64_t begin, std::int64_t count) {
    if (scale_piece(tensor, begin, count, inverse)) found.store(true, std::memory_order_relaxed);
  });
  return found.load();
}

}  // namespace weft::kernels
