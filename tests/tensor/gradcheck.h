// Gradients against central finite differences, in f64.
//
//   EXPECT_TRUE(gradcheck([](const auto& in) { return ops::matmul(in[0], in[1]); },
//                         {random_tensor({2, 3}, 1), random_tensor({3, 4}, 2)}));
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace weft::tests {

using TensorFunction = std::function<Tensor(const std::vector<Tensor>&)>;

inline Tensor random_tensor(Shape shape, std::uint64_t seed, DType dtype = DType::f64) {
  tensor::Generator generator(seed);
  return Tensor::randn(std::move(shape), generator, {dtype, {}});
}

// As random_tensor, but away from zero on the positive side: for log, sqrt, div.
inline Tensor positive_tensor(Shape shape, std::uint64_t seed, DType dtype = DType::f64) {
  tensor::Generator generator(seed);
  return ops::add(Tensor::rand(std::move(shape), generator, {dtype, {}}), 0.5);
}

struct GradcheckOptions {
  double step = 1e-6;
  double relative = 1e-6;  // of the larger gradient
  double absolute = 1e-7;
};

// Checks d<w, f(inputs)>/d(inputs), for a fixed random w of the output's shape, at every element of
// every floating input (all f64; integer inputs, indices say, are passed as they are). `function`
// must be deterministic and must not keep its inputs. Inputs of any strides; they are left as
// found.
inline ::testing::AssertionResult gradcheck(const TensorFunction& function,
                                            const std::vector<Tensor>& inputs,
                                            GradcheckOptions options = {}) {
  std::vector<Tensor> leaves;  // share elements with `inputs`, so that a nudge there is seen here
  for (const auto& input : inputs) {
    leaves.push_back(input.detach());
    if (!is_floating(input.dtype())) continue;
    if (input.dtype() != DType::f64) return ::testing::AssertionFailure() << "inputs must be f64";
    leaves.back().set_requires_grad(true);
  }
  const auto output = function(leaves);
  if (output.dtype() != DType::f64) return ::testing::AssertionFailure() << "the output is not f64";
  const auto weights = random_tensor(output.shape(), 12345);
  output.backward(weights);
  const auto value = [&] {
    const NoGrad no_grad;
    const auto now = function(leaves).to_vector<double>();
    const auto by = weights.to_vector<double>();
    double sum = 0.0;
    for (std::size_t i = 0; i < now.size(); ++i) sum += now[i] * by[i];
    return sum;
  };
  for (std::size_t n = 0; n < inputs.size(); ++n) {
    if (!is_floating(inputs[n].dtype())) continue;
    const auto gradient = leaves[n].grad();
    if (!gradient.defined())
      return ::testing::AssertionFailure() << "input " << n << ": no gradient";
    if (gradient.shape() != inputs[n].shape()) {
      return ::testing::AssertionFailure()
             << "input " << n << ": gradient of shape " << tensor::to_string(gradient.shape());
    }
    const auto computed = gradient.to_vector<double>();
    const auto& shape = inputs[n].shape();
    for (std::int64_t i = 0; i < inputs[n].numel(); ++i) {
      std::int64_t at = 0, rest = i;  // of element i in memory
      for (std::size_t d = shape.size(); d-- > 0;) {
        at += rest % shape[d] * inputs[n].strides()[d];
        rest /= shape[d];
      }
      double& element = inputs[n].data<double>()[at];
      const double kept = element;
      element = kept + options.step;
      const double above = value();
      element = kept - options.step;
      const double below = value();
      element = kept;
      const double expected = (above - below) / (2 * options.step);
      const double found = computed[static_cast<std::size_t>(i)];
      const double size = std::max(std::abs(expected), std::abs(found));
      if (!(std::abs(found - expected) <= options.absolute + options.relative * size)) {
        return ::testing::AssertionFailure()
               << "input " << n << " of shape " << tensor::to_string(shape) << ", element " << i
               << ": backward gives " << found << ", finite differences " << expected;
      }
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace weft::tests
