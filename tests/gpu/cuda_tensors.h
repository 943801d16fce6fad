// Tensors on a CUDA device in tests: a fixture that is skipped where there is none, and how results
// are compared with the cpu's.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/cuda/runtime.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"
#include "tensor/random.h"
#include "tensor/stream.h"
#include "tensor/tensor.h"

namespace weft::tests {

inline constexpr Device kCuda{DeviceType::cuda, 0};

class CudaTensorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (tensor::cuda_device_count() == 0) {
      GTEST_SKIP() << "no GPU: " << kernels::cuda::reason_for_none();
    }
  }
};

inline std::vector<double> values_of(const Tensor& tensor) { return tensor.to_vector<double>(); }

// |found - wanted| / |wanted| over all elements, in the 2-norm; infinite where shapes differ or
// something is not finite.
inline double relative_distance(const Tensor& found, const Tensor& wanted) {
  if (found.shape() != wanted.shape()) return HUGE_VAL;
  const auto a = values_of(found), b = values_of(wanted);
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  if (!std::isfinite(difference)) return HUGE_VAL;
  return difference == 0 ? 0.0 : std::sqrt(difference / std::max(size, 1e-300));
}

inline Tensor normal(Shape shape, std::uint64_t seed, DType dtype = DType::f32) {
  tensor::Generator generator(seed);
  return Tensor::randn(std::move(shape), generator, {dtype, {}});
}

inline Tensor integers(Shape shape, std::int64_t below, std::uint64_t seed,
                       DType dtype = DType::i64) {
  tensor::Generator generator(seed);
  std::vector<std::int64_t> values(static_cast<std::size_t>(tensor::numel(shape)));
  for (auto& v : values) {
    v = static_cast<std::int64_t>(generator.next_below(static_cast<std::uint64_t>(below)));
  }
  return Tensor::from(values, std::move(shape)).to(dtype);
}

}  // namespace weft::tests
