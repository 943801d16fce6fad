// Precision through Fabric, on one rank in this process. Several ranks: tests/examples.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>

#include "launcher/fabric.h"
#include "tensor/amp/autocast.h"
#include "tensor/nn/gpt.h"
#include "tensor/nn/layers.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"
#include "tensor/random.h"
#include "tests/support/scratch.h"

namespace weft {
namespace {

using testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class E>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "no such error";
}

nn::GPTConfig small_gpt() {
  return {.block_size = 16, .vocab_size = 11, .n_layer = 2, .n_head = 2, .n_embd = 32};
}

// Counts upwards: learnt in a moment.
std::pair<Tensor, Tensor> batch(int step) {
  std::vector<std::int64_t> tokens, targets;
  for (int row = 0; row < 4; ++row) {
    for (int i = 0; i < 16; ++i) {
      tokens.push_back((step * 3 + row + i) % 11);
      targets.push_back((step * 3 + row + i + 1) % 11);
    }
  }
  return {Tensor::from(tokens, {4, 16}), Tensor::from(targets, {4, 16})};
}

struct Named {
  const char* given;
  const char* resolved;
  DType parameters, logits;
};
void PrintTo(const Named& named, std::ostream* out) { *out << named.given; }

class PrecisionTest : public testing::TestWithParam<Named> {};

TEST_P(PrecisionTest, TrainsAGptAndKeepsItsTypes) {
  const auto& named = GetParam();
  Fabric fabric({.precision = named.given});
  fabric.launch();
  fabric.seed_everything(5);
  EXPECT_EQ(fabric.settings().precision, named.resolved);
  nn::GPT model(small_gpt());
  fabric.setup(model);
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
  fabric.setup_optimizers(optimizer);
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    const auto [tokens, targets] = batch(step);
    const auto output = model.forward(tokens, targets);
    EXPECT_EQ(output.logits.dtype(), named.logits);
    EXPECT_EQ(output.loss.dtype(), named.logits);
    fabric.backward(output.loss);
    for (const auto& [name, parameter] : model.named_parameters()) {
      ASSERT_TRUE(parameter.grad().defined()) << name;
      ASSERT_EQ(parameter.dtype(), named.parameters) << name;
      ASSERT_EQ(parameter.grad().dtype(), named.parameters) << name;
    }
    EXPECT_TRUE(std::isfinite(fabric.clip_gradients(model, {.max_norm = 1.0})));
    EXPECT_TRUE(optimizer.step());
    optimizer.zero_grad();
    last = output.loss.item();
    if (step == 0) first = last;
  }
  EXPECT_NEAR(first, std::log(11.0), 0.2);
  EXPECT_LT(last, 0.35 * first);
  EXPECT_FALSE(amp::autocast_enabled()) << "no scope is left behind";
  const auto text = model.generate(Tensor::from(std::vector<std::int64_t>{3, 4, 5}, {1, 3}), 4,
                                   {.temperature = 0.0});
  EXPECT_EQ(text.to_vector<std::int64_t>(), (std::vector<std::int64_t>{3, 4, 5, 6, 7, 8, 9}));
}

constexpr auto kF32 = DType::f32, kF64 = DType::f64, kF16 = DType::f16, kBf16 = DType::bf16;
INSTANTIATE_TEST_SUITE_P(Names, PrecisionTest,
                         testing::Values(Named{"32-true", "32-true", kF32, kF32},
                                         Named{"32", "32-true", kF32, kF32},
                                         Named{"64-true", "64-true", kF64, kF64},
                                         Named{"64", "64-true", kF64, kF64},
                                         Named{"16-mixed", "bf16-mixed", kF32, kF32},
                                         Named{"16", "bf16-mixed", kF32, kF32},
                                         Named{"bf16-mixed", "bf16-mixed", kF32, kF32},
                                         Named{"bf16", "bf16-mixed", kF32, kF32},
                                         Named{"16-true", "16-true", kF16, kF16},
                                         Named{"bf16-true", "bf16-true", kBf16, kBf16}),
                         [](const auto& tested) {
                           std::string name = tested.param.given;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(PrecisionPolicyTest, InputsAndOutputsOfALayerAreCast) {
  const auto types = [](const char* precision) {
    Fabric fabric({.precision = precision});
    fabric.launch();
    nn::Linear layer(4, 3);
    fabric.setup(layer);
    const auto from_f32 = layer.forward(Tensor::full({2, 4}, 1.0)).dtype();
    const auto from_f64 = layer.forward(Tensor::full({2, 4}, 1.0, {kF64})).dtype();
    const auto autocast = fabric.autocast();
    const auto product = ops::matmul(Tensor::zeros({2, 2}), Tensor::zeros({2, 2})).dtype();
    return std::vector{from_f32, from_f64, product, fabric.to_device(Tensor::zeros({1})).dtype()};
  };
  EXPECT_EQ(types("32-true"), (std::vector{kF32, kF32, kF32, kF32}));
  EXPECT_EQ(types("bf16-mixed"), (std::vector{kF32, kF32, kBf16, kF32}));
  EXPECT_EQ(types("64-true"), (std::vector{kF64, kF64, kF32, kF64}));
  EXPECT_EQ(types("16-true"), (std::vector{kF16, kF16, kF32, kF16}));
}

TEST(PrecisionPolicyTest, SixteenMixedOnTheCpuWarnsOnce) {
  Fabric fabric({.precision = "16-mixed"});
  EXPECT_EQ(fabric.grad_scaler(), nullptr);
  testing::internal::CaptureStderr();
  fabric.launch();
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::AllOf(HasSubstr("warning"), HasSubstr("bf16-mixed")));
  Fabric other({.precision = "bf16-mixed"});
  testing::internal::CaptureStderr();
  other.launch();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

// 16-mixed in full, as a GPU runs it: f16 and a loss scale.
class SixteenMixedTest : public testing::Test {
 protected:
  SixteenMixedTest() {
    fabric_.launch();
    layer_.weight().detach().fill_(0.5);
    fabric_.setup(layer_);
    optimizer_.emplace(std::vector{optim::ParameterGroup{layer_.named_parameters(), 0.1, 0.0}});
  }
  void backward(double x) { fabric_.backward(ops::sum(layer_.forward(Tensor::full({1, 2}, x)))); }
  std::vector<float> weight() { return layer_.weight().to_vector<float>(); }

  // 65536, the default, times a gradient of 1 is no f16.
  Fabric fabric_{{.precision = "16-mixed", .grad_scaler = {{.initial_scale = 1024}}}};
  nn::Linear layer_{2, 1, {.bias = false}};
  std::optional<optim::AdamW> optimizer_;
};

TEST_F(SixteenMixedTest, ComputesInF16AndUnscalesBeforeClippingAndStepping) {
  EXPECT_EQ(fabric_.settings().precision, "16-mixed");
  fabric_.setup_optimizers(*optimizer_);
  backward(3.0);
  EXPECT_EQ(layer_.weight().grad().to_vector<float>(), std::vector<float>(2, 3.0f * 1024));
  EXPECT_NEAR(fabric_.clip_gradients(layer_, {.max_norm = 1.0}), 3 * std::sqrt(2.0), 1e-6);
  EXPECT_NEAR(layer_.weight().grad().to_vector<float>()[0], 1 / std::sqrt(2.0), 1e-6);
  EXPECT_TRUE(optimizer_->step());
  EXPECT_NE(weight()[0], 0.5f);
}

TEST_F(SixteenMixedTest, AccumulatesInsideNoBackwardSync) {
  fabric_.setup_optimizers(*optimizer_);
  {
    const auto no_sync = fabric_.no_backward_sync(layer_);
    backward(1.0);
    backward(2.0);
  }
  backward(4.0);
  EXPECT_TRUE(optimizer_->step());
  EXPECT_EQ(layer_.weight().grad().to_vector<float>(), std::vector<float>(2, 7.0f));
}

TEST_F(SixteenMixedTest, OverflowSkipsTheStepAndIsNoErrorForClipping) {
  fabric_.setup_optimizers(*optimizer_);
  const auto before = weight();
  backward(1e6);  // no f16
  EXPECT_FALSE(std::isfinite(fabric_.clip_gradients(layer_, {.max_norm = 1.0})));
  EXPECT_FALSE(optimizer_->step());
  EXPECT_EQ(weight(), before);
  EXPECT_EQ(fabric_.grad_scaler()->scale(), 512.0);
  optimizer_->zero_grad();
  backward(1.0);
  EXPECT_TRUE(optimizer_->step());
  EXPECT_EQ(fabric_.grad_scaler()->state(), (amp::GradScalerState{512, 1, 1}));
}

TEST_F(SixteenMixedTest, SmallGradientsSurvive) {
  fabric_.setup_optimizers(*optimizer_);
  const auto x = Tensor::full({1, 2}, 0x1p-20);
  fabric_.backward(ops::mul(ops::sum(layer_.forward(x)), 0x1p-10));  // 2^-30: no f16 without scale
  EXPECT_TRUE(optimizer_->step());
  EXPECT_EQ(layer_.weight().grad().to_vector<float>(), std::vector<float>(2, 0x1p-30f));
}

TEST_F(SixteenMixedTest, AnOptimizerThatWasNotSetUpIsMissed) {
  EXPECT_THAT(message_of<InvalidArgument>([&] { backward(1.0); }), HasSubstr("setup_optimizers"));
  fabric_.setup_optimizers(*optimizer_);
  EXPECT_THAT(message_of<InvalidArgument>([&] { fabric_.setup_optimizers(*optimizer_); }),
              HasSubstr("already"));
  nn::Linear stranger(2, 1);
  optim::AdamW of_stranger({{stranger.named_parameters(), 0.1, 0.0}});
  EXPECT_THAT(message_of<InvalidArgument>([&] { fabric_.setup_optimizers(of_stranger); }),
              HasSubstr("no module set up"));
  backward(1.0);
  optimizer_.reset();
  EXPECT_THAT(message_of<InvalidArgument>([&] { backward(1.0); }), HasSubstr("setup_optimizers"))
      << "it is gone";
}

TEST_F(SixteenMixedTest, TheScaleIsSavedAndLoaded) {
  const auto path = tests::scratch("sixteen_mixed.safetensors");
  fabric_.setup_optimizers(*optimizer_);
  backward(kInfinity);
  optimizer_->step();
  optimizer_->zero_grad();
  backward(1.0);
  optimizer_->step();
  const Fabric::State state{{{"model", &layer_}}, {{"adamw", &*optimizer_}}, {}};
  fabric_.save(path, state);
  const auto saved = weight();
  fabric_.grad_scaler()->load_state({});
  layer_.weight().detach().zero_();
  fabric_.load(path, state);
  EXPECT_EQ(weight(), saved);
  EXPECT_EQ(fabric_.grad_scaler()->state(), (amp::GradScalerState{512, 1, 1}));

  // Another precision's run takes the rest; and one without a scale gives none.
  Fabric plain({.precision = "bf16-mixed"});
  plain.launch();
  nn::Linear same(2, 1, {.bias = false});
  plain.setup(same);
  plain.load(path, {{{"model", &same}}, {}, {}});
  EXPECT_EQ(same.weight().to_vector<float>(), saved);
  plain.save(path, {{{"model", &same}}, {}, {}});
  fabric_.load(path, {{{"model", &layer_}}, {}, {}});
  EXPECT_EQ(fabric_.grad_scaler()->scale(), 512.0);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace weft
