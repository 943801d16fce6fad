// The loss scale as a state machine, and what it does to gradients on the way.
#include "tensor/amp/grad_scaler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tensor/nn/layers.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"
#include "tensor/optim/clip.h"
#include "tensor/optim/sgd.h"

namespace weft {
namespace {

using amp::GradScaler;
using amp::GradScalerOptions;
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

// One weight and one bias; the gradient of the weight is what it is told to be.
class GradScalerTest : public testing::Test {
 protected:
  GradScalerTest() {
    layer_.weight().detach().fill_(1.0);
    layer_.bias().detach().fill_(1.0);
  }
  void backward(GradScaler& scaler, double gradient) {
    scaler.scaled(ops::sum(layer_.forward(Tensor::full({1, 1}, gradient)))).backward();
  }
  // A whole update; tells whether it stepped.
  bool train(GradScaler& scaler, double gradient) {
    optimizer_.zero_grad();
    backward(scaler, gradient);
    const bool stepped = scaler.step(optimizer_);
    scaler.update();
    return stepped;
  }
  double weight() { return layer_.weight().item(); }

  nn::Linear layer_{1, 1};
  optim::Sgd optimizer_{{{layer_.named_parameters(), 0.5, 0.0}}};
};

TEST_F(GradScalerTest, ScalesTheLossAndTheStepSeesPlainGradients) {
  GradScaler scaler;
  EXPECT_EQ(scaler.scale(), 65536.0);
  backward(scaler, 2.0);
  EXPECT_EQ(layer_.weight().grad().item(), 2.0 * 65536);
  EXPECT_TRUE(scaler.step(optimizer_));
  EXPECT_EQ(layer_.weight().grad().item(), 2.0);
  EXPECT_EQ(weight(), 0.0);
  scaler.update();
  EXPECT_EQ(scaler.state().clean_updates, 1);
}

TEST_F(GradScalerTest, GrowsAfterTwoThousandCleanUpdatesInARow) {
  GradScaler scaler;
  for (int i = 0; i < 1999; ++i) ASSERT_TRUE(train(scaler, 0.0));
  EXPECT_EQ(scaler.scale(), 65536.0);
  EXPECT_TRUE(train(scaler, 0.0));
  EXPECT_EQ(scaler.scale(), 131072.0);
  EXPECT_EQ(scaler.state().clean_updates, 0);
}

TEST_F(GradScalerTest, SkipsHalvesAndStartsCountingAnewOnOverflow) {
  GradScaler scaler({.growth_interval = 3});
  EXPECT_TRUE(train(scaler, 1.0));
  EXPECT_TRUE(train(scaler, 1.0));
  const double before = weight();
  for (const double bad : {kInfinity, -kInfinity, std::nan("")}) {
    EXPECT_FALSE(train(scaler, bad));
    EXPECT_EQ(weight(), before) << "nothing moves";
  }
  EXPECT_EQ(scaler.scale(), 65536.0 / 8);
  EXPECT_EQ(scaler.state().skipped_updates, 3);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(train(scaler, 1.0));
  EXPECT_EQ(scaler.scale(), 65536.0 / 8) << "two clean ones: the earlier two do not count";
  EXPECT_TRUE(train(scaler, 1.0));
  EXPECT_EQ(scaler.scale(), 65536.0 / 4);
}

TEST_F(GradScalerTest, AnOverflowOfTheScaleItselfIsFound) {
  GradScaler scaler({.initial_scale = 0x1p120});
  EXPECT_FALSE(train(scaler, 1024.0)) << "2^130 is no f32, though the gradient is harmless";
  EXPECT_FALSE(train(scaler, 1024.0));
  EXPECT_FALSE(train(scaler, 1024.0));
  EXPECT_TRUE(train(scaler, 1024.0));
  EXPECT_EQ(scaler.scale(), 0x1p117);
}

TEST_F(GradScalerTest, TheScaleStaysAnF32) {
  GradScaler scaler({.initial_scale = 0x1p127, .growth_interval = 1});
  EXPECT_TRUE(train(scaler, 0.5));
  EXPECT_EQ(scaler.scale(), 0x1p127);
}

TEST_F(GradScalerTest, AdamsCountOfStepsKnowsNothingOfSkippedOnes) {
  optim::AdamW adam({{layer_.named_parameters(), 0.1, 0.0}});
  GradScaler scaler;
  const auto steps = [&] { return nn::find(adam.state_dict(), "weight.step")->item(); };
  backward(scaler, kInfinity);
  EXPECT_FALSE(scaler.step(adam));
  scaler.update();
  EXPECT_EQ(steps(), 0);
  adam.zero_grad();
  backward(scaler, 1.0);
  EXPECT_TRUE(scaler.step(adam));
  EXPECT_EQ(steps(), 1);
}

TEST_F(GradScalerTest, GradientsAreUnscaledOnceAndBeforeTheyAreClipped) {
  GradScaler scaler;
  backward(scaler, 3.0);
  scaler.unscale(optimizer_);
  EXPECT_TRUE(scaler.is_unscaled(optimizer_));
  EXPECT_THAT(message_of<InvalidArgument>([&] { scaler.unscale(optimizer_); }),
              HasSubstr("unscaled already"));
  const auto parameters = layer_.parameters();
  EXPECT_NEAR(optim::clip_grad_norm_(parameters, 1.0), std::sqrt(10.0), 1e-6);
  EXPECT_TRUE(scaler.step(optimizer_)) << "not unscaled a second time";
  EXPECT_NEAR(layer_.weight().grad().item(), 3 / std::sqrt(10.0), 1e-6);
  EXPECT_THAT(message_of<InvalidArgument>([&] { scaler.step(optimizer_); }),
              HasSubstr("call update()"));
}

TEST_F(GradScalerTest, AccumulatesUnderOneScaleAndAcrossAChange) {
  GradScaler scaler;
  scaler.prepare(optimizer_);
  backward(scaler, 1.0);
  scaler.unscale(optimizer_);  // looked at in between
  EXPECT_EQ(layer_.weight().grad().item(), 1.0);
  scaler.prepare(optimizer_);
  backward(scaler, 2.0);
  EXPECT_EQ(layer_.weight().grad().item(), 3.0 * 65536);
  scaler.load_state({.scale = 1024});
  scaler.prepare(optimizer_);
  EXPECT_TRUE(scaler.admit(optimizer_));
}

TEST_F(GradScalerTest, TwoOptimizersShareAScaleAndKeepWhatTheirGradientsCarry) {
  nn::Linear other(1, 1);
  optim::Sgd second({{other.named_parameters(), 0.5, 0.0}});
  GradScaler scaler({.growth_interval = 1});
  scaler.prepare(optimizer_);
  scaler.prepare(second);
  backward(scaler, 1.0);
  scaler.scaled(ops::sum(other.forward(Tensor::full({1, 1}, 4.0)))).backward();
  EXPECT_TRUE(scaler.step(optimizer_));
  scaler.update();
  EXPECT_EQ(scaler.scale(), 131072.0);
  EXPECT_TRUE(scaler.step(second));
  EXPECT_EQ(other.weight().grad().item(), 4.0) << "by the scale it was made under";
}

TEST_F(GradScalerTest, AStepWithoutABackwardTakesGradientsAsTheyAre) {
  GradScaler scaler;
  scaler.prepare(optimizer_);
  backward(scaler, 1.0);
  EXPECT_TRUE(scaler.step(optimizer_));
  scaler.update();
  EXPECT_TRUE(scaler.step(optimizer_));
  EXPECT_EQ(layer_.weight().grad().item(), 1.0);
}

TEST_F(GradScalerTest, GivesUpAtTheSmallestScaleAndNamesWhatOverflowed) {
  GradScaler scaler({.initial_scale = 2.0});
  EXPECT_FALSE(train(scaler, kInfinity));
  EXPECT_EQ(scaler.scale(), 1.0);
  const auto message = message_of<NotFinite>([&] { train(scaler, kInfinity); });
  EXPECT_THAT(message, HasSubstr("smallest, 1"));
  EXPECT_THAT(message, HasSubstr("those of weight."));
  EXPECT_THAT(message, HasSubstr("bf16-mixed")) << "what to do";
  EXPECT_EQ(weight(), 1.0);
  EXPECT_EQ(scaler.state().skipped_updates, 2);
}

TEST_F(GradScalerTest, ANegativeVerdictOfOthersSkipsHereToo) {
  GradScaler scaler;
  std::vector<bool> asked;
  scaler.set_verdict([&](bool here) {
    asked.push_back(here);
    return true;
  });
  EXPECT_FALSE(train(scaler, 1.0));
  EXPECT_EQ(asked, std::vector<bool>{false}) << "asked once an update, whatever was found here";
  EXPECT_EQ(scaler.scale(), 32768.0);
  scaler.load_state({.scale = 1.0});
  EXPECT_THAT(message_of<NotFinite>([&] { train(scaler, 1.0); }), HasSubstr("another rank"));
}

TEST_F(GradScalerTest, WithoutGradientsThereIsNothingToSkip) {
  GradScaler scaler;
  EXPECT_TRUE(scaler.step(optimizer_));
  EXPECT_EQ(weight(), 1.0);
}

TEST_F(GradScalerTest, LowLossesAreWidenedFirst) {
  GradScaler scaler;
  EXPECT_EQ(scaler.scaled(Tensor::full({}, 2.0, {DType::f16})).item(), 131072.0);
  EXPECT_EQ(scaler.scaled(Tensor::full({}, 2.0, {DType::f64})).dtype(), DType::f64);
  EXPECT_THROW(scaler.scaled({}), InvalidArgument);
}

TEST_F(GradScalerTest, RefusesOptionsAndStatesThatMakeNoSense) {
  for (const GradScalerOptions& bad :
       {GradScalerOptions{.initial_scale = 0}, GradScalerOptions{.initial_scale = kInfinity},
        GradScalerOptions{.initial_scale = 0.5}, GradScalerOptions{.growth_factor = 1.0},
        GradScalerOptions{.backoff_factor = 1.0}, GradScalerOptions{.backoff_factor = 0.0},
        GradScalerOptions{.growth_interval = 0}, GradScalerOptions{.minimum_scale = -1}}) {
    EXPECT_THROW(GradScaler{bad}, InvalidArgument);
  }
  GradScaler scaler;
  EXPECT_THROW(scaler.update(), InvalidArgument) << "nothing has stepped";
  EXPECT_THAT(message_of<Corrupt>([&] { scaler.load_state({.scale = -2}, "FILE"); }),
              HasSubstr("FILE"));
  EXPECT_THROW(scaler.load_state({.scale = std::nan("")}), Corrupt);
  EXPECT_THROW(scaler.load_state({.clean_updates = -1}), Corrupt);
  EXPECT_EQ(scaler.scale(), 65536.0);
}

TEST_F(GradScalerTest, ItsStateGoesThroughText) {
  for (const double scale : {65536.0, 1.0 / 3, 0x1.fffffep127}) {
    const amp::GradScalerState state{scale, 12, 3};
    EXPECT_EQ(amp::parse_grad_scaler_state(tensor::amp::to_string(state), "here"), state);
  }
  for (const char* bad : {"", "1", "1 2", "1 2 3 4", "one 2 3", "1 2 3x"}) {
    EXPECT_THAT(message_of<Corrupt>([&] { amp::parse_grad_scaler_state(bad, "FILE"); }),
                HasSubstr("FILE"))
        << bad;
  }
}

}  // namespace
}  // namespace weft
