// The loss scale in device memory: what the host decides for the CPU, decided there, by a step that
// waits for nothing and can be a graph.
#include "tensor/amp/grad_scaler.h"

#include <gmock/gmock.h>

#include <limits>

#include "launcher/fabric.h"
#include "tensor/amp/autocast.h"
#include "tensor/cuda_graph.h"
#include "tensor/nn/layers.h"
#include "tensor/ops/nn.h"
#include "tensor/optim/adam.h"
#include "tensor/optim/clip.h"
#include "tensor/optim/sgd.h"
#include "tests/gpu/cuda_tensors.h"

namespace weft::tests {
namespace {

using amp::GradScaler;
using amp::GradScalerOptions;
using tensor::GraphedStep;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class CudaGradScalerTest : public CudaTensorTest {};

Tensor batch(int step, bool bad) {
  auto x = normal({4, 6}, static_cast<std::uint64_t>(30 + step));
  if (bad) x.narrow(1, 2, 1).fill_(kInfinity);
  return x;
}

// A layer trained in 16-mixed, gradients clipped on the way.
struct Trainee {
  Trainee(Device device, const GradScalerOptions& options)
      : layer(6, 3, {}, &start), scaler(options) {
    layer.to(device);
    optimizer = std::make_unique<optim::AdamW>(
        std::vector<optim::ParameterGroup>{{layer.named_parameters(), 0.01, 0.1}});
  }
  Tensor step(const Tensor& x) {
    optimizer->zero_grad();
    const auto loss = [&] {
      const amp::Autocast autocast(DType::f16);
      const auto y = layer.forward(x);
      return ops::sum(ops::mul(y, y));
    }();
    scaler.prepare(*optimizer);
    scaler.scaled(loss).backward();
    scaler.unscale(*optimizer);
    const auto parameters = layer.parameters();
    optim::clip_grad_norm_tensor_(parameters, 2.0);
    scaler.step(*optimizer);
    scaler.update();
    return loss.detach();
  }
  double steps() const { return nn::find(optimizer->state_dict(), "weight.step")->item(); }

  tensor::Generator start{4};
  nn::Linear layer;
  GradScaler scaler;
  std::unique_ptr<optim::AdamW> optimizer;
};

bool is_bad(int step) { return step == 1 || step == 5 || step == 6; }
constexpr GradScalerOptions kQuick{.initial_scale = 1024, .growth_interval = 2};

TEST_F(CudaGradScalerTest, GoesThroughTheStatesThatItHasOnTheCpu) {
  Trainee here({}, kQuick), there(kCuda, kQuick);
  for (int step = 0; step < 10; ++step) {
    const auto x = batch(step, is_bad(step));
    here.step(x);
    there.step(x.to(kCuda));
    EXPECT_EQ(there.scaler.state(), here.scaler.state()) << "step " << step;
    EXPECT_EQ(there.steps(), here.steps()) << "step " << step;
    EXPECT_LE(relative_distance(there.layer.weight(), here.layer.weight()), 1e-3) << step;
  }
  EXPECT_EQ(there.scaler.state().skipped_updates, 3);
}

TEST_F(CudaGradScalerTest, AWholeStepIsAGraphOverflowsIncluded) {
  Trainee eager(kCuda, kQuick), graphed(kCuda, kQuick);
  GraphedStep step(
      [&](const std::vector<Tensor>& in) -> std::vector<Tensor> { return {graphed.step(in[0])}; });
  for (int i = 0; i < 10; ++i) {
    const auto x = batch(i, is_bad(i));
    eager.step(x.to(kCuda));
    const auto before = values_of(graphed.layer.weight());
    step({x});
    EXPECT_EQ(graphed.scaler.state(), eager.scaler.state()) << "step " << i;
    EXPECT_EQ(graphed.steps(), eager.steps()) << "step " << i;
    EXPECT_EQ(values_of(graphed.layer.weight()), values_of(eager.layer.weight())) << "step " << i;
    EXPECT_EQ(values_of(graphed.layer.weight()) == before, is_bad(i)) << "step " << i;
  }
  EXPECT_EQ(step.launches(), 8) << "captured with the third, and two of them overflowed";
  EXPECT_EQ(graphed.scaler.state(), (amp::GradScalerState{512, 1, 3}));
}

TEST_F(CudaGradScalerTest, TheFirstStepIsNotCaptured) {
  Trainee trainee(kCuda, kQuick);
  const auto x = batch(0, false).to(kCuda);
  auto stream = tensor::Stream::create(kCuda);
  int calls = 0;
  GraphedStep step([&](const std::vector<Tensor>& in) -> std::vector<Tensor> {
    return {++calls > 2 ? trainee.scaler.scaled(ops::sum(in[0])) : in[0]};
  });
  step({x});
  step({x});
  EXPECT_THAT([&] { step({x}); }, ThrowsMessage<InvalidArgument>(HasSubstr("make one step")));
}

TEST_F(CudaGradScalerTest, GivesUpUnderTheSmallestScaleTwoUpdatesLater) {
  Trainee trainee(kCuda, {.initial_scale = 2.0});
  const auto bad = batch(0, true).to(kCuda);
  trainee.step(bad);  // the scale is 1 now
  trainee.step(bad);  // lost
  trainee.step(bad);
  EXPECT_THAT([&] { trainee.step(bad); },
              ThrowsMessage<NotFinite>(
                  AllOf(HasSubstr("smallest, 1"), HasSubstr("weight"), HasSubstr("bf16-mixed"))));
  EXPECT_EQ(trainee.steps(), 0.0);
  EXPECT_THAT([&] { trainee.scaler.check(*trainee.optimizer); },
              ThrowsMessage<NotFinite>(HasSubstr("weight")))
      << "two more since";
  trainee.scaler.check(*trainee.optimizer);
}

TEST_F(CudaGradScalerTest, CheckSaysWhatAGraphFound) {
  Trainee trainee(kCuda, {.initial_scale = 1.0});
  GraphedStep step(
      [&](const std::vector<Tensor>& in) -> std::vector<Tensor> { return {trainee.step(in[0])}; });
  for (int i = 0; i < 4; ++i) step({batch(i, false)});
  trainee.scaler.check(*trainee.optimizer);
  step({batch(4, true)});
  EXPECT_THAT([&] { trainee.scaler.check(*trainee.optimizer); },
              ThrowsMessage<NotFinite>(HasSubstr("weight")));
}

// A leaf whose gradient is what it is told to be.
struct Leaf {
  explicit Leaf(Device device) {
    value = Tensor::full({6}, 1.0, {DType::f32, device}).set_requires_grad(true);
    optimizer = std::make_unique<optim::Sgd>(
        std::vector<optim::ParameterGroup>{{{{"p", value}}, 0.5, 0.0}});
  }
  void backward(GradScaler& scaler, double gradient) {
    scaler.scaled(ops::sum(ops::mul(value, gradient))).backward();
  }
  std::vector<double> gradient() const { return values_of(value.grad()); }
  Tensor value;
  std::unique_ptr<optim::Sgd> optimizer;
};

const std::vector<double>& six(double value) {
  static thread_local std::vector<double> values;
  return values = std::vector<double>(6, value);
}

TEST_F(CudaGradScalerTest, AccumulatesUnderOneScaleAndAcrossAChange) {
  Leaf leaf(kCuda);
  GradScaler scaler;
  scaler.prepare(*leaf.optimizer);
  leaf.backward(scaler, 1.0);
  scaler.unscale(*leaf.optimizer);
  EXPECT_EQ(leaf.gradient(), six(1.0));
  EXPECT_THROW(scaler.unscale(*leaf.optimizer), InvalidArgument);
  scaler.prepare(*leaf.optimizer);
  leaf.backward(scaler, 2.0);
  EXPECT_EQ(leaf.gradient(), six(3.0 * 65536));
  scaler.load_state({.scale = 1024, .clean_updates = 7, .skipped_updates = 2});
  EXPECT_EQ(scaler.state(), (amp::GradScalerState{1024, 7, 2}));
}

TEST_F(CudaGradScalerTest, TwoOptimizersShareAScaleAndKeepWhatTheirGradientsCarry) {
  Leaf one(kCuda), other(kCuda);
  GradScaler scaler({.growth_interval = 1});
  scaler.prepare(*one.optimizer);
  scaler.prepare(*other.optimizer);
  one.backward(scaler, kInfinity);
  other.backward(scaler, 4.0);
  scaler.step(*one.optimizer);
  scaler.update();
  EXPECT_EQ(scaler.scale(), 32768.0);
  scaler.step(*other.optimizer);
  scaler.update();
  EXPECT_EQ(values_of(one.value), six(1.0)) << "skipped";
  EXPECT_EQ(other.gradient(), six(4.0)) << "by the scale it was made under";
  EXPECT_EQ(values_of(other.value), six(-1.0));
  EXPECT_EQ(scaler.scale(), 65536.0);
}

TEST_F(CudaGradScalerTest, AdmissionWithoutInputsIsTheVerdict) {
  Leaf leaf(kCuda);
  GradScaler scaler;
  leaf.backward(scaler, kInfinity);
  EXPECT_FALSE(scaler.admit(*leaf.optimizer));
  scaler.update();
  leaf.optimizer->zero_grad();
  leaf.backward(scaler, 1.0);
  EXPECT_TRUE(scaler.admit(*leaf.optimizer));
  scaler.update();
  optim::DeviceInputs taken;
  taken.found_inf = Tensor::zeros({}, {DType::i32, kCuda});
  EXPECT_THAT([&] { scaler.admit(*leaf.optimizer, &taken); },
              ThrowsMessage<InvalidArgument>(HasSubstr("found_inf of its own")));
}

TEST_F(CudaGradScalerTest, TheHostDecidesWhereAHookIsAskedOrPlacesAreSeveral) {
  Leaf leaf(kCuda);
  GradScaler scaler({.initial_scale = 8.0});
  leaf.backward(scaler, 2.0);
  scaler.set_verdict([](bool) { return true; });
  EXPECT_FALSE(scaler.step(*leaf.optimizer));
  EXPECT_EQ(leaf.gradient(), six(2.0)) << "what they carried was known";
  scaler.update();
  EXPECT_EQ(scaler.scale(), 4.0);

  Leaf here({}), there(kCuda);
  GradScaler both({.initial_scale = 8.0});
  there.backward(both, kInfinity);
  both.unscale(*there.optimizer);
  here.backward(both, 3.0);  // and so the state comes home
  EXPECT_FALSE(both.step(*there.optimizer));
  EXPECT_TRUE(both.step(*here.optimizer));
  EXPECT_EQ(here.gradient(), six(3.0));
  both.update();
  EXPECT_EQ(both.state(), (amp::GradScalerState{4, 0, 1}));
}

// What the fused loss made for a factor of 1 is multiplied by the scale.
TEST_F(CudaGradScalerTest, TheGradientOfALossIsScaled) {
  const auto run = [](Device device) {
    auto x = normal({5, 7}, 3).to(device).detach().set_requires_grad(true);
    const auto targets = integers({5}, 7, 4).to(device);
    GradScaler scaler({.initial_scale = 1024});
    scaler.scaled(ops::cross_entropy(ops::mul(x, 2.0), targets)).backward();
    return x.grad();
  };
  EXPECT_LE(relative_distance(run(kCuda), run({})), 1e-6);
}

TEST_F(CudaGradScalerTest, AFabricsStepIsAGraph) {
  Fabric fabric({.accelerator = "cuda",
                 .devices = "1",
                 .precision = "16-mixed",
                 .grad_scaler = {{.initial_scale = 1024, .growth_interval = 2}}});
  fabric.launch();
  tensor::Generator start(4);
  nn::Linear layer(6, 3, {}, &start);
  fabric.setup(layer);
  optim::AdamW optimizer({{layer.named_parameters(), 0.01, 0.1}});
  fabric.setup_optimizers(optimizer);
  GraphedStep step([&](const std::vector<Tensor>& in) -> std::vector<Tensor> {
    optimizer.zero_grad();
    const auto y = layer.forward(in[0]);
    const auto loss = ops::sum(ops::mul(y, y));
    fabric.backward(loss);
    const auto norm = fabric.clip_gradients_tensor(layer, 2.0);
    optimizer.step();
    return {loss.detach(), norm};
  });
  Trainee alone(kCuda, kQuick);
  for (int i = 0; i < 8; ++i) {
    const auto x = batch(i, is_bad(i));
    step({x});
    alone.step(x.to(kCuda));
    EXPECT_EQ(fabric.grad_scaler()->state(), alone.scaler.state()) << "step " << i;
    EXPECT_LE(relative_distance(layer.weight(), alone.layer.weight()), 1e-3) << "step " << i;
  }
  EXPECT_EQ(step.launches(), 6);
}

}  // namespace
}  // namespace weft::tests
