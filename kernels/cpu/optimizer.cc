#include "kernels/optimizer.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/base/thread_pool.h"
#include "kernels/cast.h"
#include "kernels/cpu/optimizer_lanes.h"

namespace weft::kernels {
namespace {

constexpr std::int64_t kGrain = 16384;
constexpr std::int64_t kPiece = 2048;  // elements that are converted and worked on in one go
constexpr std::int64_t kNormChunk = 16384;

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

void check_pointer(const char* operation, std::size_t index, const char* what, const void* data,
                   Elems count) {
  if (count.value < 0 || (data == nullptr && count.value > 0)) {
    fail<InvalidArgument>("{}: tensor {}: {} is null or the count of {} is negative.", operation,
                          index, what, count.value);
  }
}

template <class Tensor>
void check_types(const char* operation, std::size_t index, const Tensor& tensor) {
  const bool parameter_ok =
      tensor.parameter_type == DType::f32 || tensor.parameter_type == DType::f64;
  if (!parameter_ok || !is_floating(tensor.gradient_type)) {
    fail<InvalidArgument>(
        "{}: tensor {}: parameter of {}, gradient of {}: expected a parameter of f32 or f64 (keep "
        "half parameters as low_precision_copy) and a floating gradient.",
        operation, index, name_of(tensor.parameter_type), name_of(tensor.gradient_type));
  }
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

void check(std::span<const AdamTensor> tensors, const AdamParams& params) {
  if (params.step < 1) {
    fail<InvalidArgument>("adam: step {}: expected 1 on the first call.", params.step);
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const AdamTensor& tensor = tensors[i];
    check_types("adam", i, tensor);
    check_pointer("adam", i, "parameter", tensor.parameter, tensor.count);
    check_pointer("adam", i, "gradient", tensor.gradient, tensor.count);
    check_pointer("adam", i, "exp_avg", tensor.exp_avg, tensor.count);
    check_pointer("adam", i, "exp_avg_sq", tensor.exp_avg_sq, tensor.count);
  }
}

void check(std::span<const SgdTensor> tensors, const SgdParams& params) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const SgdTensor& tensor = tensors[i];
    check_types("sgd", i, tensor);
    check_pointer("sgd", i, "parameter", tensor.parameter, tensor.count);
    check_pointer("sgd", i, "gradient", tensor.gradient, tensor.count);
    if (params.momentum != 0.0) {
      check_pointer("sgd", i, "momentum", tensor.momentum, tensor.count);
    }
  }
}

void check(const char* operation, std::span<const FlatTensor> tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    check_pointer(operation, i, "data", tensors[i].data, tensors[i].count);
    if (!is_floating(tensors[i].dtype)) {
      fail<InvalidArgument>("{}: tensor {} is of {}: expected a floating type.", operation, i,
                            name_of(tensors[i].dtype));
    }
  }
}

// The least magnitude that the type rounds to infinity: half-way past its largest number, where the
// tie goes to even.
double overflow_of(DType dtype) {
  if (dtype == DType::f16) return 65520.0;
  if (dtype == DType::bf16) return 0x1.ffp127;
  return std::numeric_limits<double>::infinity();
}

// True where a result is not finite.
bool scale_piece(const FlatTensor& tensor, std::int64_t begin, std::int64_t count, double factor) {
  std::byte* const data = at(tensor.data, begin, tensor.dtype);
  const auto length = static_cast<std::size_t>(count);
  if (!is_half(tensor.dtype)) {
    return lanes::scale_and_check(tensor.dtype, data, length, factor, overflow_of(tensor.dtype));
  }
  alignas(64) float wide[kPiece];
  cast(wide, DType::f32, data, tensor.dtype, Elems(count));
  const bool bad =
      lanes::scale_and_check(DType::f32, wide, length, factor, overflow_of(tensor.dtype));
  cast(data, tensor.dtype, wide, DType::f32, Elems(count));
  return bad;
}

double chunk_squares(const FlatTensor& tensor, std::int64_t begin, std::int64_t count) {
  alignas(64) double sums[lanes::kSquareLanes] = {};
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
  for (std::size_t width = lanes::kSquareLanes / 2; width > 0; width /= 2) {
    for (std::size_t lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

}  // namespace

void adam(std::span<const AdamTensor> tensors, const AdamParams& params) {
  check(tensors, params);
  const lanes::AdamFactors factors(params);
  for_each_piece(tensors, [&](const AdamTensor& tensor, std::int64_t begin, std::int64_t count) {
    alignas(64) std::byte buffer[kPiece * 8];
    const DType type = tensor.parameter_type;
    std::byte* const parameter = at(tensor.parameter, begin, type);
    lanes::adam(type, parameter, gradient_piece(tensor, begin, count, buffer),
                at(tensor.exp_avg, begin, type), at(tensor.exp_avg_sq, begin, type),
                static_cast<std::size_t>(count), factors);
    if (tensor.low_precision_copy != nullptr) {
      cast(at(tensor.low_precision_copy, begin, tensor.copy_type), tensor.copy_type, parameter,
           type, Elems(count));
    }
  });
}

void sgd(std::span<const SgdTensor> tensors, const SgdParams& params) {
  check(tensors, params);
  for_each_piece(tensors, [&](const SgdTensor& tensor, std::int64_t begin, std::int64_t count) {
    alignas(64) std::byte buffer[kPiece * 8];
    const DType type = tensor.parameter_type;
    void* const momentum = params.momentum != 0.0 ? at(tensor.momentum, begin, type) : nullptr;
    lanes::sgd(type, at(tensor.parameter, begin, type),
               gradient_piece(tensor, begin, count, buffer), momentum,
               static_cast<std::size_t>(count), params);
  });
}

double squared_norm(std::span<const FlatTensor> tensors) {
  check("squared_norm", tensors);
  struct Chunk {
    const FlatTensor* tensor;
    std::int64_t begin, count;
  };
  std::vector<Chunk> chunks;
  for (const FlatTensor& tensor : tensors) {
    for (std::int64_t i = 0; i < tensor.count.value; i += kNormChunk) {
      chunks.push_back({&tensor, i, std::min(kNormChunk, tensor.count.value - i)});
    }
  }
  std::vector<double> partial(chunks.size());
  parallel_for(
      static_cast<std::int64_t>(chunks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
          partial[i] = chunk_squares(*chunks[i].tensor, chunks[i].begin, chunks[i].count);
        }
      });
  double sum = 0.0;
  for (const double squares : partial) sum += squares;
  return sum;
}

void scale(std::span<const FlatTensor> tensors, double factor) {
  check("scale", tensors);
  for_each_piece(tensors, [&](const FlatTensor& tensor, std::int64_t begin, std::int64_t count) {
    scale_piece(tensor, begin, count, factor);
  });
}

bool unscale_and_check(std::span<const FlatTensor> tensors, double scale) {
  check("unscale_and_check", tensors);
  if (!(scale > 0.0)) {
    fail<InvalidArgument>("unscale_and_check: scale {}: expected more than 0.", scale);
  }
  const double inverse = 1.0 / scale;
  std::atomic<bool> found{false};
  for_each_piece(tensors, [&](const FlatTensor& tensor, std::int64_t begin, std::int64_t count) {
    if (scale_piece(tensor, begin, count, inverse)) found.store(true, std::memory_order_relaxed);
  });
  return found.load();
}

}  // namespace weft::kernels
