// Matrix products: layouts, batches, gradients.
#include <gmock/gmock.h>

#include <array>

#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

// By the definition, on operands broadcast to whole batches.
std::vector<double> plain_product(const Tensor& a, const Tensor& b) {
  const auto m = a.size(-2), k = a.size(-1), n = b.size(-1);
  const Shape a_batch(a.shape().begin(), a.shape().end() - 2);
  const Shape b_batch(b.shape().begin(), b.shape().end() - 2);
  auto a_shape = tensor::broadcast_shapes(a_batch, b_batch), b_shape = a_shape;
  const auto batches = tensor::numel(a_shape);
  a_shape.insert(a_shape.end(), {m, k});
  b_shape.insert(b_shape.end(), {k, n});
  const auto left = a.expand(a_shape).to_vector<double>();
  const auto right = b.expand(b_shape).to_vector<double>();
  std::vector<double> out(static_cast<std::size_t>(batches * m * n));
  for (std::int64_t p = 0; p < batches; ++p) {
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0.0;
        for (std::int64_t l = 0; l < k; ++l) {
          sum += left[static_cast<std::size_t>((p * m + i) * k + l)] *
                 right[static_cast<std::size_t>((p * k + l) * n + j)];
        }
        out[static_cast<std::size_t>((p * m + i) * n + j)] = sum;
      }
    }
  }
  return out;
}

void expect_product(const Tensor& a, const Tensor& b, double tolerance = 1e-13) {
  SCOPED_TRACE(tensor::to_string(a.shape()) + " x " + tensor::to_string(b.shape()) + ", strides " +
               tensor::to_string(a.strides()) + " x " + tensor::to_string(b.strides()));
  const auto found = ops::matmul(a, b).to_vector<double>();
  const auto expected = plain_product(a, b);
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], tolerance);
}

// (..., rows, cols) in several memory layouts.
std::vector<Tensor> layouts(const Shape& batch, std::int64_t rows, std::int64_t cols,
                            std::uint64_t seed) {
  const auto with = [&](std::int64_t r, std::int64_t c) {
    auto shape = batch;
    shape.insert(shape.end(), {r, c});
    return random_tensor(shape, seed);
  };
  return {with(rows, cols), with(cols, rows).transpose(-1, -2),
          with(rows, cols + 3).narrow(-1, 1, cols),
          with(cols, rows + 2).narrow(-1, 0, rows).transpose(-1, -2),
          with(rows, 2 * cols)
              .view([&] {
                auto shape = batch;
                shape.insert(shape.end(), {rows, cols, 2});
                return shape;
              }())
              .select(-1, 1)};  // no unit stride: copied
}

TEST(MatmulTest, EveryLayout) {
  for (const auto& a : layouts({}, 3, 4, 1)) {
    for (const auto& b : layouts({}, 4, 5, 2)) expect_product(a, b);
  }
  for (const auto& a : layouts({2}, 3, 4, 1)) {
    for (const auto& b : layouts({2}, 4, 5, 2)) expect_product(a, b);
  }
}

TEST(MatmulTest, RepeatedRowsAndColumns) {
  const auto b = random_tensor({4, 5}, 2);
  for (const auto& a :
       {random_tensor({1, 4}, 1).expand({3, 4}), random_tensor({3, 1}, 1).expand({3, 4}),
        random_tensor({1, 1}, 1).expand({3, 4})}) {
    expect_product(a, b);
    expect_product(b.transpose(0, 1), a.transpose(0, 1));
  }
}

TEST(MatmulTest, VectorsAsMatricesAndEmptySides) {
  for (const auto& [m, k, n] : std::vector<std::array<std::int64_t, 3>>{
           {1, 4, 5}, {3, 1, 5}, {3, 4, 1}, {1, 1, 1}, {0, 4, 5}, {3, 4, 0}}) {
    for (const auto& a : layouts({}, m, k, 1)) {
      for (const auto& b : layouts({}, k, n, 2)) expect_product(a, b);
    }
  }
  // An empty sum is zero, and the memory it is written to was somebody's before.
  for (int i = 0; i < 3; ++i) Tensor::full({3, 5}, 9.0);
  EXPECT_THAT(ops::matmul(Tensor::zeros({3, 0}), Tensor::zeros({0, 5})).to_vector<float>(),
              Each(0));
}

TEST(MatmulTest, BatchesBroadcast) {
  const std::vector<std::pair<Shape, Shape>> batches = {
      {{2}, {}},        {{}, {2}},  {{2, 3}, {3}}, {{2, 1}, {1, 3}},
      {{2, 3}, {2, 1}}, {{1}, {4}}, {{0}, {1}}};
  for (const auto& [a_batch, b_batch] : batches) {
    auto a_shape = a_batch, b_shape = b_batch;
    a_shape.insert(a_shape.end(), {3, 2});
    b_shape.insert(b_shape.end(), {2, 4});
    const auto a = random_tensor(a_shape, 1), b = random_tensor(b_shape, 2);
    expect_product(a, b);
    EXPECT_TRUE(gradcheck([](const auto& in) { return ops::matmul(in[0], in[1]); }, {a, b}))
        << tensor::to_string(a_shape) << tensor::to_string(b_shape);
  }
  // Heads split out of one tensor: batch strides that merge with nothing.
  const auto packed = random_tensor({2, 5, 3, 4}, 3);
  const auto heads = packed.transpose(1, 2);  // (2, 3, 5, 4)
  expect_product(heads, heads.transpose(-1, -2));
}

TEST(MatmulTest, Gradients) {
  for (const auto& a : layouts({}, 3, 2, 1)) {
    for (const auto& b : layouts({}, 2, 4, 2)) {
      EXPECT_TRUE(gradcheck([](const auto& in) { return ops::matmul(in[0], in[1]); }, {a, b}));
    }
  }
  for (const auto& a : layouts({2}, 3, 2, 1)) {
    for (const auto& b : layouts({2}, 2, 2, 2)) {
      EXPECT_TRUE(gradcheck([](const auto& in) { return ops::matmul(in[0], in[1]); }, {a, b}));
    }
    const auto fixed = random_tensor({2, 2}, 3);
    EXPECT_TRUE(gradcheck([&](const auto& in) { return ops::matmul(in[0], fixed); }, {a}));
    EXPECT_TRUE(gradcheck([&](const auto& in) { return ops::matmul(a, in[0]); }, {fixed}));
  }
  EXPECT_TRUE(gradcheck([](const auto& in) { return ops::matmul(in[0], in[0].transpose(0, 1)); },
                        {random_tensor({3, 2}, 1)}));
  EXPECT_TRUE(gradcheck([](const auto& in) { return ops::matmul(in[0], in[1]); },
                        {random_tensor({3, 0}, 1), random_tensor({0, 2}, 1)}));
}

TEST(MatmulTest, RandomBatchesOfRandomLayouts) {
  tensor::Generator generator(5);
  const auto pick = [&](std::uint64_t below) {
    return static_cast<std::int64_t>(generator.next_below(below));
  };
  for (std::uint64_t round = 0; round < 300; ++round) {
    const Shape sizes = {1 + pick(3), 1 + pick(3), 1 + pick(3)};
    const auto m = 1 + pick(3), k = 1 + pick(3), n = 1 + pick(3);
    const auto operand = [&](std::int64_t rows, std::int64_t cols, std::uint64_t seed) {
      Shape wanted = sizes;  // broadcast dimensions, then two of five shuffled in memory
      for (auto& size : wanted) size = pick(4) == 0 ? 1 : size;
      wanted.insert(wanted.end(), {rows, cols});
      std::vector<std::int64_t> order = {0, 1, 2, 3, 4}, back(5);
      for (std::uint64_t i = 4; i > 0; --i) {
        std::swap(order[i], order[static_cast<std::size_t>(pick(i + 1))]);
      }
      Shape stored(5);
      for (std::size_t i = 0; i < 5; ++i) {
        stored[i] = wanted[static_cast<std::size_t>(order[i])];
        back[static_cast<std::size_t>(order[i])] = static_cast<std::int64_t>(i);
      }
      auto tensor = random_tensor(stored, seed).permute(back);
      while (tensor.size(0) == 1 && pick(2) == 0 && tensor.dim() > 2) tensor = tensor.squeeze(0);
      return tensor;
    };
    const auto a = operand(m, k, 2 * round), b = operand(k, n, 2 * round + 1);
    expect_product(a, b);
    if (round % 10 == 0) {
      EXPECT_TRUE(gradcheck([](const auto& in) { return ops::matmul(in[0], in[1]); }, {a, b}));
    }
  }
}

TEST(MatmulTest, EveryFloatingType) {
  const auto a = random_tensor({17, 33}, 1), b = random_tensor({33, 9}, 2);
  const auto expected = plain_product(a, b);
  for (const auto& [dtype, tolerance] : std::vector<std::pair<DType, double>>{
           {DType::f64, 1e-13}, {DType::f32, 2e-5}, {DType::f16, 2e-2}, {DType::bf16, 2e-1}}) {
    const auto found = ops::matmul(a.to(dtype), b.to(dtype));
    EXPECT_EQ(found.dtype(), dtype);
    const auto values = found.to_vector<double>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(values[i], expected[i], tolerance) << name_of(dtype) << " element " << i;
    }
  }
}

TEST(MatmulTest, MismatchesNameTheShapes) {
  EXPECT_THAT(
      [] {
        ops::matmul(Tensor::zeros({2, 3}), Tensor::zeros({2, 3}));
      },
      ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("matmul"), HasSubstr("(2, 3)"))));
  EXPECT_THROW(ops::matmul(Tensor::zeros({3}), Tensor::zeros({3, 2})), InvalidArgument);
  EXPECT_THROW(ops::matmul(Tensor::zeros({2, 2, 3}), Tensor::zeros({3, 3, 2})), InvalidArgument);
  EXPECT_THROW(ops::matmul(Tensor::zeros({2, 3}), Tensor::zeros({3, 2}, {DType::f64, {}})),
               InvalidArgument);
  const TensorOptions integers{DType::i32, {}};
  EXPECT_THROW(ops::matmul(Tensor::zeros({2, 3}, integers), Tensor::zeros({3, 2}, integers)),
               InvalidArgument);
}

}  // namespace
}  // namespace weft::tests
