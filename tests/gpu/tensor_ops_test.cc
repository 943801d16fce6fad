// Every operator on a CUDA device against the same operator on the cpu: values and gradients.
#include <gmock/gmock.h>

#include <functional>

#include "kernels/cuda/gemm.h"
#include "tensor/ops/nn.h"
#include "tests/gpu/cuda_tensors.h"

namespace weft::tests {
namespace {

using Inputs = std::vector<Tensor>;

struct Case {
  std::string name;
  std::function<Inputs(DType)> inputs;  // on the cpu; floating ones get gradients
  std::function<Tensor(const Inputs&)> run;
};

// What one product or sum in a type may be off by, and a few more of those.
double tolerance(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 1e-12;
    case DType::f32:
      return 2e-5;
    case DType::f16:
      return 4e-3;
    default:
      return 3e-2;
  }
}

Inputs pair(DType t, const Shape& a, const Shape& b) { return {normal(a, 1, t), normal(b, 2, t)}; }
Tensor positive(const Shape& shape, std::uint64_t seed, DType t) {
  tensor::Generator generator(seed);
  return ops::add(Tensor::rand(shape, generator, {t, {}}), 0.5);
}

std::vector<Case> elementwise_cases() {
  const auto one = [](const Shape& shape) {
    return [shape](DType t) -> Inputs { return {normal(shape, 3, t)}; };
  };
  const auto above_zero = [](DType t) -> Inputs { return {positive({5, 33}, 3, t)}; };
  return {
      {"add",
       [](DType t) {
         return pair(t, {4, 33}, {4, 33});
       },
       [](const Inputs& in) { return ops::add(in[0], in[1]); }},
      {"add_broadcast",
       [](DType t) {
         return pair(t, {3, 1, 17}, {5, 1});
       },
       [](const Inputs& in) { return ops::add(in[0], in[1]); }},
      {"sub",
       [](DType t) {
         return pair(t, {4, 9}, {9});
       },
       [](const Inputs& in) { return ops::sub(in[0], in[1]); }},
      {"mul",
       [](DType t) {
         return pair(t, {2, 3, 8}, {3, 1});
       },
       [](const Inputs& in) { return ops::mul(in[0], in[1]); }},
      {"div",
       [](DType t) -> Inputs {
         return {normal({6, 7}, 1, t), positive({7}, 2, t)};
       },
       [](const Inputs& in) { return ops::div(in[0], in[1]); }},
      {"add_scalar", one({77}), [](const Inputs& in) { return ops::add(in[0], 1.5); }},
      {"mul_scalar", one({7, 11}),
       [](const Inputs& in) { return ops::mul(in[0].transpose(0, 1), -0.5); }},
      {"neg", one({65}), [](const Inputs& in) { return ops::neg(in[0]); }},
      {"exp", one({5, 33}), [](const Inputs& in) { return ops::exp(in[0]); }},
      {"log", above_zero, [](const Inputs& in) { return ops::log(in[0]); }},
      {"sqrt", above_zero, [](const Inputs& in) { return ops::sqrt(in[0]); }},
      {"pow", above_zero, [](const Inputs& in) { return ops::pow(in[0], 1.7); }},
      {"tanh", one({5, 33}), [](const Inputs& in) { return ops::tanh(in[0]); }},
      {"sigmoid", one({5, 33}), [](const Inputs& in) { return ops::sigmoid(in[0]); }},
      {"relu", one({5, 33}), [](const Inputs& in) { return ops::relu(in[0]); }},
      {"gelu_tanh", one({5, 33}), [](const Inputs& in) { return ops::gelu(in[0]); }},
      {"gelu_exact", one({5, 33}),
       [](const Inputs& in) { return ops::gelu(in[0], ops::GeluForm::exact); }},
      {"dropout", one({5, 33}),
       [](const Inputs& in) {
         tensor::Generator generator(11);
         generator.set_offset(3);
         return ops::dropout(in[0], 0.3, generator);
       }},
  };
}

std::vector<Case> shape_cases() {
  const auto cube = [](DType t) -> Inputs { return {normal({4, 5, 6}, 3, t)}; };
  return {
      {"sum_all", cube, [](const Inputs& in) { return ops::sum(in[0]); }},
      {"sum_middle", cube, [](const Inputs& in) { return ops::sum(in[0], {1}, true); }},
      {"sum_apart", cube,
       [](const Inputs& in) {
         return ops::sum(in[0], {0, 2});
       }},
      {"mean", cube, [](const Inputs& in) { return ops::mean(in[0], {2}); }},
      {"max", cube, [](const Inputs& in) { return ops::max(in[0], 1); }},
      {"softmax", cube, [](const Inputs& in) { return ops::softmax(in[0]); }},
      {"softmax_first", cube, [](const Inputs& in) { return ops::softmax(in[0], 0); }},
      {"log_softmax", cube, [](const Inputs& in) { return ops::log_softmax(in[0]); }},
      {"cat",
       [](DType t) {
         return pair(t, {2, 3}, {2, 4});
       },
       [](const Inputs& in) {
         return ops::cat({in[0], in[1]}, 1);
       }},
      {"stack",
       [](DType t) {
         return pair(t, {2, 3}, {2, 3});
       },
       [](const Inputs& in) {
         return ops::stack({in[0], in[1]}, 1);
       }},
      {"narrow", cube,
       [](const Inputs& in) {
         return ops::add(in[0].narrow(2, 0, 3), in[0].narrow(2, 2, 3).contiguous());
       }},
      {"reshape", cube,
       [](const Inputs& in) {
         return in[0].permute({2, 0, 1}).reshape({8, 15}).clone();
       }},
      {"expand",
       [](DType t) -> Inputs {
         return {normal({5, 1}, 3, t)};
       },
       [](const Inputs& in) {
         return in[0].expand({2, 5, 4}).contiguous();
       }},
  };
}

std::vector<Case> product_cases() {
  const auto dense = [](DType t) -> Inputs {
    return {normal({3, 5, 16}, 1, t), normal({24, 16}, 2, t), normal({24}, 3, t)};
  };
  const auto linear = [](ops::Activation activation) {
    return [activation](const Inputs& in) {
      return ops::linear(in[0], in[1], in[2], ops::WeightLayout::out_in, activation);
    };
  };
  return {
      {"matmul",
       [](DType t) {
         return pair(t, {7, 9}, {9, 5});
       },
       [](const Inputs& in) { return ops::matmul(in[0], in[1]); }},
      {"matmul_transposed",
       [](DType t) {
         return pair(t, {9, 7}, {5, 9});
       },
       [](const Inputs& in) { return ops::matmul(in[0].transpose(0, 1), in[1].transpose(0, 1)); }},
      {"matmul_batched",
       [](DType t) {
         return pair(t, {2, 3, 4, 6}, {3, 6, 5});
       },
       [](const Inputs& in) { return ops::matmul(in[0], in[1]); }},
      {"matmul_rows",
       [](DType t) {
         return pair(t, {2, 3, 6}, {6, 5});
       },
       [](const Inputs& in) { return ops::matmul(in[0], in[1]); }},
      {"linear", dense, linear(ops::Activation::none)},
      {"linear_gelu", dense, linear(ops::Activation::gelu)},
      {"linear_relu", dense, linear(ops::Activation::relu)},
      {"linear_in_out_no_bias",
       [](DType t) {
         return pair(t, {5, 16}, {16, 12});
       },
       [](const Inputs& in) {
         return ops::linear(in[0], in[1], {}, ops::WeightLayout::in_out, ops::Activation::gelu);
       }},
  };
}

std::vector<Case> network_cases() {
  return {
      {"layer_norm",
       [](DType t) -> Inputs {
         return {normal({6, 48}, 1, t), normal({48}, 2, t), normal({48}, 3, t)};
       },
       [](const Inputs& in) { return ops::layer_norm(in[0], in[1], in[2]); }},
      {"layer_norm_plain",
       [](DType t) -> Inputs {
         return {normal({6, 33}, 1, t)};
       },
       [](const Inputs& in) { return ops::layer_norm(in[0], {}, {}); }},
      {"attention",
       [](DType t) -> Inputs {
         return {normal({2, 19, 96}, 1, t)};
       },
       [](const Inputs& in) { return ops::causal_attention(in[0], 2); }},
      {"attention_dropout",
       [](DType t) -> Inputs {
         return {normal({1, 17, 48}, 1, t)};
       },
       [](const Inputs& in) {
         tensor::Generator generator(5);
         return ops::causal_attention(in[0], 1, 0.25, &generator);
       }},
      {"cross_entropy",
       [](DType t) -> Inputs {
         auto targets = integers({9}, 17, 4);
         targets.narrow(0, 2, 1).fill_(-1);
         return {normal({9, 17}, 1, t), targets};
       },
       [](const Inputs& in) { return ops::cross_entropy(in[0], in[1]); }},
      {"embedding",
       [](DType t) -> Inputs {
         return {normal({11, 8}, 1, t), integers({4, 9}, 11, 4, DType::i32)};
       },
       [](const Inputs& in) { return ops::embedding(in[0], in[1]); }},
      {"conv2d",
       [](DType t) -> Inputs {
         return {normal({2, 3, 7, 6}, 1, t), normal({4, 3, 3, 2}, 2, t), normal({4}, 3, t)};
       },
       [](const Inputs& in) { return ops::conv2d(in[0], in[1], in[2], 2, 1); }},
      {"max_pool2d",
       [](DType t) -> Inputs {
         return {normal({2, 3, 8, 7}, 1, t)};
       },
       [](const Inputs& in) { return ops::max_pool2d(in[0], 3, 2, 1); }},
      {"avg_pool2d",
       [](DType t) -> Inputs {
         return {normal({2, 3, 8, 7}, 1, t)};
       },
       [](const Inputs& in) { return ops::avg_pool2d(in[0], 2); }},
  };
}

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (const auto& part : {elementwise_cases(), shape_cases(), product_cases(), network_cases()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

Inputs leaves_on(const Inputs& inputs, Device device) {
  Inputs leaves;
  for (const auto& input : inputs) {
    leaves.push_back(input.to(device).detach());
    if (is_floating(input.dtype())) leaves.back().set_requires_grad(true);
  }
  return leaves;
}

class TensorOpsTest : public CudaTensorTest, public ::testing::WithParamInterface<Case> {};

TEST_P(TensorOpsTest, ValuesAndGradientsAreTheCpus) {
  const auto& test = GetParam();
  for (const auto dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    SCOPED_TRACE(std::string(name_of(dtype)));
    const auto inputs = test.inputs(dtype);
    const auto here = leaves_on(inputs, {}), there = leaves_on(inputs, kCuda);
    const auto wanted = test.run(here), found = test.run(there);
    ASSERT_EQ(found.device(), kCuda);
    ASSERT_EQ(found.dtype(), wanted.dtype());
    EXPECT_LE(relative_distance(found, wanted), tolerance(dtype));
    const auto gradient = normal(wanted.shape(), 77, dtype);
    wanted.backward(gradient);
    found.backward(gradient.to(kCuda));
    for (std::size_t i = 0; i < here.size(); ++i) {
      if (!here[i].requires_grad()) continue;
      ASSERT_TRUE(there[i].grad().defined()) << "input " << i;
      EXPECT_EQ(there[i].grad().device(), kCuda);
      EXPECT_LE(relative_distance(there[i].grad(), here[i].grad()), tolerance(dtype))
          << "gradient of input " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, TensorOpsTest, ::testing::ValuesIn(all_cases()),
                         [](const auto& tested) { return tested.param.name; });

class TensorValuesTest : public CudaTensorTest {};

TEST_F(TensorValuesTest, IntegersAddMultiplyAndSum) {
  for (const auto dtype : {DType::i64, DType::i32, DType::u8}) {
    const auto a = integers({3, 7}, 9, 1, dtype), b = integers({7}, 9, 2, dtype);
    const auto on = [](const Tensor& t) { return t.to(kCuda); };
    EXPECT_EQ(values_of(ops::add(on(a), on(b))), values_of(ops::add(a, b)));
    EXPECT_EQ(values_of(ops::mul(on(a), on(b))), values_of(ops::mul(a, b)));
    EXPECT_EQ(values_of(ops::sum(on(a), {0})), values_of(ops::sum(a, {0})));
    EXPECT_EQ(values_of(ops::argmax(on(a), 1)), values_of(ops::argmax(a, 1)));
  }
}

TEST_F(TensorValuesTest, EveryTypeIsConvertedToEveryOther) {
  for (const auto from : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::u8}) {
    for (const auto to : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i32}) {
      const auto here = ops::mul(normal({67}, 5, DType::f64), 30.0).to(from);
      EXPECT_EQ(values_of(here.to(kCuda).to(to)), values_of(here.to(to)))
          << name_of(from) << " to " << name_of(to);
    }
  }
}

TEST_F(TensorValuesTest, ABadIndexIsThrownWhereTheHostFirstWaits) {
  const auto table = normal({5, 4}, 1).to(kCuda);
  const auto rows =
      ops::embedding(table, Tensor::from(std::vector<std::int64_t>{1, 7}, {2}).to(kCuda));
  EXPECT_THAT([&] { rows.to_vector<float>(); },
              ::testing::ThrowsMessage<InvalidArgument>(::testing::HasSubstr("7")));
  const auto targets = Tensor::from(std::vector<std::int64_t>{0, 9}, {2}).to(kCuda);
  const auto loss = ops::cross_entropy(normal({2, 4}, 1).to(kCuda), targets);
  EXPECT_THAT([&] { loss.item(); },
              ::testing::ThrowsMessage<InvalidArgument>(::testing::HasSubstr("9")));
  EXPECT_EQ(Tensor::full({2}, 1.0, {DType::f32, kCuda}).to_vector<float>(),
            (std::vector<float>{1, 1}))
      << "it is told once";
}

TEST_F(TensorValuesTest, EmptyTensorsPassThroughEveryOperator) {
  const auto none = Tensor::empty({0, 4}, {DType::f32, kCuda});
  EXPECT_EQ(ops::add(none, none).shape(), (Shape{0, 4}));
  EXPECT_EQ(ops::linear(none, normal({3, 4}, 1).to(kCuda)).shape(), (Shape{0, 3}));
  EXPECT_EQ(ops::softmax(none).shape(), (Shape{0, 4}));
  EXPECT_EQ(ops::layer_norm(none, {}, {}).shape(), (Shape{0, 4}));
  EXPECT_EQ(values_of(ops::sum(none, {0})), std::vector<double>(4, 0.0));
  EXPECT_EQ(
      ops::embedding(none.transpose(0, 1).contiguous(), Tensor::empty({0}, {DType::i64, kCuda}))
          .shape(),
      (Shape{0, 0}));
}

}  // namespace
}  // namespace weft::tests
