// Reads tests/fixtures/operators/*.txt (written by tests/fixtures/generate.py) and compares with
// them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace weft::tests {

using FixtureCase = std::map<std::string, Tensor>;

// The cases of one file, by name; floating tensors as f64.
inline std::map<std::string, FixtureCase> load_fixture(const std::string& name) {
  std::ifstream in(std::string(WEFT_SOURCE_DIR) + "/tests/fixtures/operators/" + name + ".txt");
  if (!in) throw std::runtime_error("no fixture " + name);
  std::map<std::string, FixtureCase> cases;
  FixtureCase* current = nullptr;
  for (std::string word; in >> word;) {
    if (word == "case") {
      in >> word;
      current = &cases[word];
      continue;
    }
    if (word != "tensor" || current == nullptr) throw std::runtime_error("malformed: " + name);
    std::string tensor, dtype, line;
    in >> tensor >> dtype;
    std::getline(in, line);
    Shape shape;
    std::istringstream sizes(line);
    for (std::int64_t size = 0; sizes >> size;) shape.push_back(size);
    std::vector<double> values(static_cast<std::size_t>(tensor::numel(shape)));
    for (double& value : values) in >> value;
    if (!in) throw std::runtime_error("truncated: " + name + " " + tensor);
    Tensor read = Tensor::from(values, shape);
    (*current)[tensor] = dtype == "i64" ? read.to(DType::i64) : read;
  }
  return cases;
}

// |found - expected| <= tolerance * (1 + |expected|), everywhere; says where not.
inline ::testing::AssertionResult close(const Tensor& found, const Tensor& expected,
                                        double tolerance) {
  if (!found.defined()) return ::testing::AssertionFailure() << "undefined";
  if (found.shape() != expected.shape()) {
    return ::testing::AssertionFailure() << "shape " << tensor::to_string(found.shape())
                                         << ", expected " << tensor::to_string(expected.shape());
  }
  const auto a = found.detach().to(DType::f64).to_vector<double>();
  const auto b = expected.detach().to(DType::f64).to_vector<double>();
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(b[i])))) {
      return ::testing::AssertionFailure() << "element " << i << " is " << a[i] << ", expected "
                                           << b[i] << " within " << tolerance;
    }
  }
  return ::testing::AssertionSuccess();
}

// The gap to an f64 result that each type is allowed in these tests: a few roundings of values of
// order 1.
inline double tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-12;
    case DType::f32:
      return 2e-5;
    case DType::f16:
      return 1e-2;
    default:
      return 8e-2;
  }
}

// Runs `function` on the case's inputs as `dtype`, and holds y and every gradient against the case.
template <class Function>
void expect_fixture(const FixtureCase& fixture, const std::vector<std::string>& inputs, DType dtype,
                    const Function& function, double slack = 1.0) {
  std::vector<Tensor> leaves;
  for (const auto& name : inputs) {
    Tensor leaf = fixture.at(name).detach();
    if (is_floating(leaf.dtype())) {
      leaf = leaf.to(dtype).clone();
      leaf.set_requires_grad(true);
    }
    leaves.push_back(leaf);
  }
  const double tolerance = slack * tolerance_of(dtype);
  const Tensor y = function(leaves);
  EXPECT_EQ(y.dtype(), dtype);
  EXPECT_TRUE(close(y, fixture.at("y"), tolerance)) << "y in " << name_of(dtype);
  y.backward(fixture.at("dy").to(dtype));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!is_floating(leaves[i].dtype())) continue;
    EXPECT_TRUE(close(leaves[i].grad(), fixture.at("d" + inputs[i]), tolerance))
        << "d" << inputs[i] << " in " << name_of(dtype);
  }
}

inline const std::vector<DType> kFloatingTypes = {DType::f64, DType::f32, DType::f16, DType::bf16};

}  // namespace weft::tests
