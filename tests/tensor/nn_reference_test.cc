// Sizes too large for finite differences: against the same operator from basic ones, f32 against
// f64, and one pool size against another.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>

#include "kernels/base/thread_pool.h"
#include "tests/tensor/gradcheck.h"
#include "tests/tensor/nn_fixtures.h"
#include "tests/tensor/nn_reference.h"

namespace weft::tests {
namespace {

// y and the gradients of the inputs, for a fixed random gradient of y.
std::vector<Tensor> run(const TensorFunction& function, const std::vector<Tensor>& inputs,
                        DType dtype = DType::f64) {
  std::vector<Tensor> leaves;
  for (const auto& input : inputs) {
    const bool floating = is_floating(input.dtype());
    leaves.push_back(floating ? input.detach().to(dtype).clone() : input);
    if (floating) leaves.back().set_requires_grad(true);
  }
  const Tensor y = function(leaves);
  y.backward(random_tensor(y.shape(), 99).to(dtype));
  std::vector<Tensor> results = {y.detach()};
  for (const auto& leaf : leaves) {
    if (is_floating(leaf.dtype())) results.push_back(leaf.grad());
  }
  return results;
}

void expect_close(const std::vector<Tensor>& found, const std::vector<Tensor>& expected,
                  double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(close(found[i], expected[i], tolerance)) << "result " << i;
  }
}

struct AttentionShape {
  std::int64_t batch, length, heads, width;
};
// Around the borders of tiles of 64 queries and 256 keys.
const std::vector<AttentionShape> kAttentionShapes = {
    {2, 63, 2, 5}, {1, 64, 3, 8}, {2, 65, 1, 17}, {1, 128, 2, 32}, {1, 257, 2, 5}, {1, 600, 1, 16}};

TEST(NnReferenceTest, AttentionIsSoftmaxOfProducts) {
  for (const auto& s : kAttentionShapes) {
    SCOPED_TRACE(s.length);
    const Tensor qkv = random_tensor({s.batch, s.length, 3 * s.heads * s.width}, 1);
    const auto expected =
        run([&](const auto& in) { return plain_attention(in[0], s.heads); }, {qkv});
    const auto fused = [&](const auto& in) { return ops::causal_attention(in[0], s.heads); };
    expect_close(run(fused, {qkv}), expected, 1e-12);
    expect_close(run(fused, {qkv}, DType::f32), expected, 1e-5);
    expect_close(run(fused, {qkv}, DType::f16), expected, 1e-2);
    expect_close(run(fused, {qkv}, DType::bf16), expected, 8e-2);
  }
}

TEST(NnReferenceTest, AttentionSurvivesLargeScores) {
  // Scores up to about 1e4: exponentials overflow without the running maximum.
  const Tensor qkv = ops::mul(random_tensor({1, 300, 24}, 2), 60.0);
  const auto expected = run([](const auto& in) { return plain_attention(in[0], 1); }, {qkv});
  const auto fused = [](const auto& in) { return ops::causal_attention(in[0], 1); };
  expect_close(run(fused, {qkv}), expected, 1e-10);
  for (const Tensor& result : run(fused, {qkv}, DType::f32)) {
    for (const float value : result.to_vector<float>()) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST(NnReferenceTest, AttentionDropsWhatTheStreamSays) {
  for (const auto& s : {AttentionShape{2, 7, 3, 4}, AttentionShape{1, 270, 2, 4}}) {
    for (const std::uint64_t offset : {0, 1, 6}) {
      const Tensor qkv = random_tensor({s.batch, s.length, 3 * s.heads * s.width}, 3);
      tensor::Generator generator(42, 7);
      generator.set_offset(offset);
      const Tensor mask = attention_mask(s.batch, s.heads, s.length, 0.25, generator);
      const auto expected =
          run([&](const auto& in) { return plain_attention(in[0], s.heads, mask); }, {qkv});
      const auto fused = [&](const auto& in) {
        tensor::Generator own = generator;
        return ops::causal_attention(in[0], s.heads, 0.25, &own);
      };
      expect_close(run(fused, {qkv}), expected, 1e-12);
      expect_close(run(fused, {qkv}, DType::f32), expected, 1e-5);
    }
  }
}

TEST(NnReferenceTest, FloatFollowsDouble) {
  const auto check = [](const TensorFunction& function, const std::vector<Tensor>& inputs,
                        double tolerance = 2e-5) {
    expect_close(run(function, inputs, DType::f32), run(function, inputs), tolerance);
  };
  const Tensor x = random_tensor({300, 129}, 1);
  check([](const auto& in) { return ops::layer_norm(in[0], in[1], in[2]); },
        {x, random_tensor({129}, 2), random_tensor({129}, 3)}, 1e-4);
  check([](const auto& in) { return ops::gelu(in[0], ops::GeluForm::tanh); }, {x});
  check([](const auto& in) { return ops::gelu(in[0], ops::GeluForm::exact); }, {x});
  check([](const auto& in) { return ops::softmax(in[0]); }, {x});
  check([](const auto& in) { return ops::log_softmax(in[0]); }, {x});
  std::vector<std::int64_t> targets;
  for (std::int64_t i = 0; i < 300; ++i) targets.push_back(i % 5 == 0 ? -1 : i * 31 % 129);
  check([](const auto& in) { return ops::cross_entropy(in[0], in[1]); },
        {x, Tensor::from(targets, {300})});
  check(
      [](const auto& in) {
        return ops::linear(in[0], in[1], in[2], ops::WeightLayout::out_in, ops::Activation::gelu);
      },
      {x, ops::mul(random_tensor({65, 129}, 4), 0.1), random_tensor({65}, 5)}, 1e-4);
  check([](const auto& in) { return ops::conv2d(in[0], in[1], in[2], 1, 1); },
        {random_tensor({35, 3, 9, 8}, 6), random_tensor({5, 3, 3, 3}, 7), random_tensor({5}, 8)},
        1e-4);
}

TEST(NnReferenceTest, ResultsDoNotDependOnTheNumberOfThreads) {
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < 2000; ++i) rows.push_back(i * i % 67);
  const Tensor indices = Tensor::from(rows, {2000});
  const Tensor x = random_tensor({2000, 67}, 1);
  const Tensor qkv = random_tensor({1, 600, 48}, 2), images = random_tensor({40, 2, 9, 9}, 3);
  const std::vector<std::pair<std::string, std::function<std::vector<Tensor>(DType)>>> all = {
      {"layer_norm",
       [&](DType t) {
         return run([](const auto& in) { return ops::layer_norm(in[0], in[1], in[2]); },
                    {x, random_tensor({67}, 4), random_tensor({67}, 5)}, t);
       }},
      {"softmax",
       [&](DType t) { return run([](const auto& in) { return ops::softmax(in[0]); }, {x}, t); }},
      {"gelu",
       [&](DType t) { return run([](const auto& in) { return ops::gelu(in[0]); }, {x}, t); }},
      {"cross_entropy",
       [&](DType t) {
         return run([](const auto& in) { return ops::cross_entropy(in[0], in[1]); }, {x, indices},
                    t);
       }},
      {"embedding",
       [&](DType t) {
         return run([](const auto& in) { return ops::embedding(in[0], in[1]); },
                    {random_tensor({67, 90}, 6), indices}, t);
       }},
      {"dropout",
       [&](DType t) {
         return run(
             [](const auto& in) {
               tensor::Generator generator(1);
               generator.set_offset(3);
               return ops::dropout(in[0], 0.1, generator);
             },
             {x}, t);
       }},
      {"attention",
       [&](DType t) {
         return run(
             [](const auto& in) {
               tensor::Generator generator(1);
               return ops::causal_attention(in[0], 2, 0.1, &generator);
             },
             {qkv}, t);
       }},
      {"conv2d",
       [&](DType t) {
         return run([](const auto& in) { return ops::conv2d(in[0], in[1], in[2], 1, 1); },
                    {images, random_tensor({3, 2, 3, 3}, 7), random_tensor({3}, 8)}, t);
       }},
      {"pools", [&](DType t) {
         return run(
             [](const auto& in) { return ops::avg_pool2d(ops::max_pool2d(in[0], 3, 1, 1), 2); },
             {images}, t);
       }}};
  for (const auto& [name, function] : all) {
    for (const DType type : {DType::f32, DType::bf16}) {
      ThreadPool one(1);
      std::vector<Tensor> expected;
      {
        const ScopedThreadPool scope(one);
        expected = function(type);
      }
      for (const int threads : {2, 3, 7}) {
        ThreadPool pool(threads);
        const ScopedThreadPool scope(pool);
        const auto found = function(type);
        for (std::size_t i = 0; i < found.size(); ++i) {
          const std::size_t bytes = bytes_of(Elems(found[i].numel()), type).size();
          EXPECT_EQ(
              std::memcmp(found[i].contiguous().data(), expected[i].contiguous().data(), bytes), 0)
              << name << " in " << name_of(type) << ", result " << i << ", " << threads
              << " threads";
        }
      }
    }
  }
}

}  // namespace
}  // namespace weft::tests
