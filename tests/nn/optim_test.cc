#include <cmath>
#include <functional>

#include "tensor/autograd/node.h"
#include "tensor/nn/layers.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"
#include "tensor/optim/clip.h"
#include "tensor/optim/schedule.h"
#include "tensor/optim/sgd.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

using Groups = std::vector<optim::ParameterGroup>;
using Make = std::function<std::unique_ptr<optim::Optimizer>(Groups)>;

struct Case {
  std::string name;
  Make make;
};

Make sgd(optim::SgdOptions options) {
  return [=](Groups groups) { return std::make_unique<optim::Sgd>(std::move(groups), options); };
}

const std::vector<Case>& runs() {
  static const std::vector<Case> all = {
      {"sgd", sgd({})},
      {"momentum", sgd({.momentum = 0.9, .dampening = 0.1})},
      {"nesterov", sgd({.momentum = 0.8, .nesterov = true})},
      {"adam",
       [](Groups g) {
         return std::make_unique<optim::Adam>(std::move(g), optim::AdamOptions{0.9, 0.95, 1e-8});
       }},
      {"adamw", [](Groups g) {
         return std::make_unique<optim::AdamW>(std::move(g), optim::AdamOptions{0.9, 0.95, 1e-8});
       }}};
  return all;
}

// Two parameters and their given gradients, as generate_gpt.py makes them.
struct Problem {
  checkpoint::SafeTensors file{fixture("optimizers.safetensors")};
  std::vector<nn::NamedTensor> parameters;
  explicit Problem(DType dtype) {
    for (int i = 0; i < 2; ++i) {
      auto start = file.tensor(fmt::format("start.{}", i)).to(dtype).clone();
      start.set_requires_grad(true);
      parameters.push_back({fmt::format("p{}", i), start});
    }
  }
  Groups groups() { return optim::decay_groups(parameters, 0.01, 0.1); }
  void set_gradients(int step) {
    for (int i = 0; i < 2; ++i) {
      auto& parameter = parameters[static_cast<std::size_t>(i)].tensor;
      const bool unused = step == 2 && i == 1;
      const auto gradient = file.tensor(fmt::format("grad.{}.{}", step, i));
      parameter.set_grad(unused ? Tensor() : gradient.to(parameter.dtype()).clone());
    }
  }
};

class Trajectory : public testing::TestWithParam<std::tuple<std::size_t, DType>> {
 protected:
  const Case& tested() const { return runs()[std::get<0>(GetParam())]; }
  DType dtype() const { return std::get<1>(GetParam()); }
};

TEST_P(Trajectory, MatchesPyTorch) {
  Problem problem(dtype());
  const auto optimizer = tested().make(problem.groups());
  const double tolerance = dtype() == DType::f64 ? 1e-12 : dtype() == DType::f32 ? 2e-6 : 8e-3;
  for (int step = 0; step < 6; ++step) {
    problem.set_gradients(step);
    optimizer->set_learning_rate(0.01 * (step + 1));
    optimizer->step();
    for (std::size_t i = 0; i < 2; ++i) {
      const auto expected = problem.file.tensor(fmt::format("{}.{}.{}", tested().name, step, i));
      EXPECT_LT(distance(problem.parameters[i].tensor, expected), tolerance)
          << tested().name << " step " << step << " parameter " << i;
    }
  }
}

TEST_P(Trajectory, GoesOnFromSavedState) {
  Problem first(dtype()), second(dtype());
  const auto one = tested().make(first.groups());
  const auto step = [](Problem& problem, optim::Optimizer& optimizer, int number) {
    problem.set_gradients(number);
    optimizer.step();
  };
  for (int i = 0; i < 3; ++i) step(first, *one, i);
  const auto two = tested().make(second.groups());
  two->load_state_dict(one->state_dict());
  for (std::size_t i = 0; i < 2; ++i) {
    NoGrad no_grad;
    second.parameters[i].tensor.copy_(first.parameters[i].tensor);
  }
  for (int i = 3; i < 6; ++i) {
    step(first, *one, i);
    step(second, *two, i);
  }
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(distance(first.parameters[i].tensor, second.parameters[i].tensor), 0.0);
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, Trajectory,
                         testing::Combine(testing::Range<std::size_t>(0, 5),
                                          testing::Values(DType::f64, DType::f32, DType::bf16)),
                         [](const auto& instance) {
                           return runs()[std::get<0>(instance.param)].name + "_" +
                                  std::string(name_of(std::get<1>(instance.param)));
                         });

TEST(Optimizer, HalfPrecisionParametersKeepSmallUpdates) {
  auto parameter = Tensor::full({4}, 256.0, {DType::bf16});  // its neighbour is 258
  parameter.set_requires_grad(true);
  optim::Sgd optimizer({{{{"p", parameter}}, 0.1, 0.0}});
  for (int i = 0; i < 40; ++i) {
    parameter.set_grad(Tensor::full({4}, -1.0, {DType::bf16}));
    optimizer.step();
  }
  EXPECT_EQ(parameter.to(DType::f64).to_vector<double>()[3], 260.0);
}

TEST(Optimizer, ScalesGradientsOnTheirWayIn) {
  Problem plain(DType::f64), scaled(DType::f64);
  optim::AdamW one(plain.groups()), two(scaled.groups());
  plain.set_gradients(0);
  scaled.set_gradients(0);
  for (auto& entry : scaled.parameters) entry.tensor.set_grad(entry.tensor.grad() * 8.0);
  one.step();
  two.step(0.125);
  EXPECT_LT(distance(scaled.parameters[0].tensor, plain.parameters[0].tensor), 1e-14);
}

TEST(Optimizer, DecayIsForMatricesOnly) {
  nn::Linear linear(3, 2);
  const auto groups = optim::decay_groups(linear.named_parameters(), 1e-3, 0.1);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].parameters[0].name, "weight");
  EXPECT_EQ(groups[0].weight_decay, 0.1);
  EXPECT_EQ(groups[1].parameters[0].name, "bias");
  EXPECT_EQ(groups[1].weight_decay, 0.0);
}

TEST(Optimizer, RefusesWhatMakesNoSense) {
  nn::Linear linear(3, 2);
  const auto all = linear.named_parameters();
  const auto group = [&](double rate, double decay) { return Groups{{all, rate, decay}}; };
  expect_error<InvalidArgument>([&] { optim::Sgd o(Groups{}); }, {"no parameter"});
  expect_error<InvalidArgument>([&] { optim::Sgd o(group(-1, 0)); }, {"learning rate", "-1"});
  expect_error<InvalidArgument>([&] { optim::Sgd o(group(1, NAN)); }, {"weight decay", "nan"});
  expect_error<InvalidArgument>([&] { optim::Sgd o(group(1, 0), {.nesterov = true}); },
                                {"nesterov"});
  expect_error<InvalidArgument>([&] { optim::AdamW o(group(1, 0), {.beta1 = 1.0}); }, {"beta1"});
  expect_error<InvalidArgument>(
      [&] {
        optim::Sgd o({{all, 1, 0}, {all, 1, 0}});
      },
      {"weight", "twice"});
  const nn::NamedTensor strided{"s", linear.weight().transpose(0, 1).detach()};
  expect_error<InvalidArgument>(
      [&] {
        optim::Sgd o(Groups{{{strided}, 1, 0}});
      },
      {"s must be", "strided"});
  optim::AdamW optimizer(group(1, 0));
  expect_error<InvalidArgument>([&] { optimizer.set_learning_rate(HUGE_VAL); }, {"inf"});
  auto state = optimizer.state_dict();
  for (auto& entry : state) entry.tensor = entry.tensor.clone();
  state.back().tensor.fill_(-3);
  expect_error<Mismatch>([&] { optimizer.load_state_dict(state); }, {"bias.step", "-3"});
  state.pop_back();
  expect_error<Mismatch>([&] { optimizer.load_state_dict(state); }, {"Missing: bias.step"});
}

TEST(Clip, NormAndValueMatchPyTorch) {
  Problem problem(DType::f64);
  const auto& file = problem.file;
  std::vector<Tensor> parameters;
  for (const auto& entry : problem.parameters) parameters.push_back(entry.tensor);
  problem.set_gradients(0);
  EXPECT_NEAR(optim::clip_grad_norm_(parameters, 0.5), file.tensor("clip.norm").item(), 1e-12);
  EXPECT_NEAR(optim::grad_norm(parameters), 0.5, 1e-6);
  EXPECT_LT(distance(parameters[0].grad(), file.tensor("clip.norm.0")), 1e-13);
  EXPECT_LT(distance(parameters[1].grad(), file.tensor("clip.norm.1")), 1e-13);
  const auto small = parameters[0].grad().to_vector<double>();
  optim::clip_grad_norm_(parameters, 10.0);  // already below: untouched
  EXPECT_EQ(parameters[0].grad().to_vector<double>(), small);
  problem.set_gradients(0);
  optim::clip_grad_value_(parameters, 0.7);
  EXPECT_EQ(distance(parameters[0].grad(), file.tensor("clip.value.0")), 0.0);
  EXPECT_EQ(distance(parameters[1].grad(), file.tensor("clip.value.1")), 0.0);
}

TEST(Clip, NonFiniteNormsAreErrorsWhereAskedAndLeaveGradientsAlone) {
  auto parameter = Tensor::zeros({3});
  parameter.set_requires_grad(true);
  const std::vector<Tensor> parameters{parameter};
  EXPECT_EQ(optim::clip_grad_norm_(parameters, 1.0), 0.0);  // no gradient yet
  parameter.set_grad(Tensor::from(std::vector<float>{1.0f, NAN, 2.0f}, {3}));
  expect_error<InvalidArgument>([&] { optim::clip_grad_norm_(parameters, 1.0, true); }, {"nan"});
  EXPECT_EQ(parameter.grad().to_vector<float>()[2], 2.0f);
  EXPECT_TRUE(std::isnan(optim::clip_grad_norm_(parameters, 1.0)));
  expect_error<InvalidArgument>([&] { optim::clip_grad_norm_(parameters, -1.0); }, {"-1"});
  expect_error<InvalidArgument>([&] { optim::clip_grad_value_(parameters, NAN); }, {"nan"});
}

TEST(Clip, ValuesOfEveryType) {
  for (const auto dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    auto parameter = Tensor::zeros({3}, {dtype});
    parameter.set_requires_grad(true);
    parameter.set_grad(Tensor::from(std::vector<float>{-3.0f, 0.25f, 9.0f}, {3}).to(dtype));
    optim::clip_grad_value_(std::vector<Tensor>{parameter}, 0.5);
    EXPECT_EQ(parameter.grad().to(DType::f64).to_vector<double>(),
              (std::vector<double>{-0.5, 0.25, 0.5}));
  }
}

TEST(Schedule, CosineHasNanoGptsValues) {
  const optim::CosineSchedule schedule({1e-3, 1e-4, 100, 2000});
  // nanoGPT's get_lr(), evaluated in Python.
  EXPECT_DOUBLE_EQ(schedule.at(0), 1e-3 / 101);
  EXPECT_DOUBLE_EQ(schedule.at(99), 1e-3 * 100 / 101);
  EXPECT_DOUBLE_EQ(schedule.at(100), 1e-3);
  EXPECT_NEAR(schedule.at(1050), 5.5e-4, 1e-18);
  EXPECT_NEAR(schedule.at(1999), 1e-4 + 0.5 * 9e-4 * (1 + std::cos(M_PI * 1899 / 1900)), 1e-18);
  EXPECT_NEAR(schedule.at(2000), 1e-4, 1e-18);
  EXPECT_EQ(schedule.at(5000), 1e-4);
  EXPECT_EQ(optim::CosineSchedule({1.0, 0.1, 5, 5}).at(5), 1.0);
  expect_error<InvalidArgument>([] { optim::CosineSchedule({1.0, 0.1, 6, 5}); }, {"6", "5"});
  expect_error<InvalidArgument>([] { optim::CosineSchedule({-1.0, 0.1, 1, 5}); }, {"-1"});
}

TEST(Schedule, StepsDown) {
  const optim::StepSchedule schedule(1.0, 10, 0.5);
  EXPECT_EQ(schedule.at(9), 1.0);
  EXPECT_EQ(schedule.at(10), 0.5);
  EXPECT_EQ(schedule.at(29), 0.25);
  expect_error<InvalidArgument>([] { optim::StepSchedule(1.0, 0); }, {"step_size"});
}

}  // namespace
}  // namespace weft::nn_test
