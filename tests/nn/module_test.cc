#include "tensor/nn/module.h"

#include <cmath>

#include "tensor/nn/conv.h"
#include "tensor/nn/init.h"
#include "tensor/nn/layers.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

using testing::ElementsAre;

std::vector<std::string> names_of(const std::vector<nn::NamedTensor>& entries) {
  std::vector<std::string> names;
  for (const auto& entry : entries) names.push_back(entry.name);
  return names;
}

// Two layers that share their weight, a parameter and a buffer of its own.
class Tied : public nn::Module {
 public:
  Tied() : first_(4, 4), second_(4, 4) {
    second_.weight() = first_.weight();
    scale_ = Tensor::full({1}, 2.0);
    count_ = Tensor::zeros({2}, {DType::i64});
    register_module("first", first_);
    register_module("second", second_);
    register_parameter("scale", scale_);
    register_buffer("count", count_);
  }
  nn::Linear first_, second_;
  Tensor scale_, count_;
};

TEST(Module, NamesComeInRegistrationOrderAndTiedOnesOnce) {
  Tied tied;
  EXPECT_THAT(names_of(tied.named_parameters()),
              ElementsAre("scale", "first.weight", "first.bias", "second.bias"));
  EXPECT_THAT(names_of(tied.named_buffers()), ElementsAre("count"));
  EXPECT_THAT(names_of(tied.state_dict()),
              ElementsAre("scale", "count", "first.weight", "first.bias", "second.bias"));
  EXPECT_EQ(tied.parameter_count(), 1 + 16 + 4 + 4);
  std::vector<std::string> modules;
  for (const auto& [name, module] : tied.named_modules()) modules.push_back(name);
  EXPECT_THAT(modules, ElementsAre("", "first", "second"));
  for (const auto& parameter : tied.parameters()) EXPECT_TRUE(parameter.requires_grad());
  for (const auto& entry : tied.state_dict()) EXPECT_FALSE(entry.tensor.requires_grad());
}

TEST(Module, ConversionKeepsTiesAndIntegers) {
  Tied tied;
  tied.to(DType::bf16);
  EXPECT_TRUE(tied.first_.weight().same_as(tied.second_.weight()));
  EXPECT_EQ(tied.first_.weight().dtype(), DType::bf16);
  EXPECT_TRUE(tied.first_.weight().requires_grad());
  EXPECT_TRUE(tied.first_.weight().is_leaf());
  EXPECT_EQ(tied.count_.dtype(), DType::i64);
  expect_error<InvalidArgument>([&] { tied.to(DType::i32); }, {"i32"});
}

TEST(Module, TrainAndEvalReachEveryPart) {
  nn::Sequential net;
  auto& dropout = net.add<nn::Dropout>(0.5);
  net.eval();
  EXPECT_FALSE(dropout.is_training());
  const auto x = Tensor::full({8}, 1.0);
  EXPECT_EQ(dropout.forward(x).to_vector<float>(), x.to_vector<float>());
  net.train();
  EXPECT_TRUE(dropout.is_training());
}

TEST(Module, StateDictRoundTrip) {
  tensor::Generator one(1), two(2);
  nn::Linear from(5, 3, {}, &one), to(5, 3, {}, &two);
  EXPECT_GT(distance(to.weight(), from.weight()), 0.1);
  const auto report = to.load_state_dict(from.state_dict());
  EXPECT_TRUE(report.missing.empty() && report.unexpected.empty());
  EXPECT_EQ(to.weight().to_vector<float>(), from.weight().to_vector<float>());
  EXPECT_EQ(to.bias().to_vector<float>(), from.bias().to_vector<float>());
}

TEST(Module, EveryMisfitIsNamedAndNothingIsLoaded) {
  nn::Linear linear(5, 3);
  const auto before = linear.weight().to_vector<float>();
  const auto other = Tensor::full({3, 5}, 7.0);
  nn::StateDict given{{"weight", other}, {"bias", Tensor::zeros({4})}, {"gain", other}};
  expect_error<Mismatch>(
      [&] {
        linear.load_state_dict(given, {true, "file.safetensors"});
      },
      {"file.safetensors", "bias: expected shape (3,), found (4,)", "Unexpected: gain",
       "Nothing was loaded"});
  expect_error<Mismatch>([&] { linear.load_state_dict({{"weight", other}}); }, {"Missing: bias"});
  expect_error<Mismatch>(
      [&] {
        linear.load_state_dict({{"weight", other}, {"weight", other}});
      },
      {"weight: given twice"});
  expect_error<Mismatch>(
      [&] {
        linear.load_state_dict({{"weight", Tensor::zeros({3, 5}, {DType::i32})}}, {false, "x"});
      },
      {"weight: expected f32, found i32"});
  EXPECT_EQ(linear.weight().to_vector<float>(), before);
  const auto report = linear.load_state_dict({{"weight", other}, {"gain", other}}, {false, "x"});
  EXPECT_THAT(report.missing, ElementsAre("bias"));
  EXPECT_THAT(report.unexpected, ElementsAre("gain"));
  EXPECT_EQ(linear.weight().to_vector<float>(), other.to_vector<float>());
}

TEST(Module, TheSecondNameOfATieIsAcceptedWhereItAgrees) {
  Tied tied;
  auto given = tied.state_dict();
  for (auto& entry : given) entry.tensor = entry.tensor.clone();
  const auto weight = *nn::find(given, "first.weight");
  given.push_back({"second.weight", weight.clone()});
  EXPECT_NO_THROW(tied.load_state_dict(given));
  given.back().tensor.fill_(3.0);
  expect_error<Mismatch>([&] { tied.load_state_dict(given); }, {"first.weight", "second.weight"});
  std::erase_if(given, [](const auto& entry) { return entry.name == "first.weight"; });
  EXPECT_NO_THROW(tied.load_state_dict(given));  // under the second name alone
  EXPECT_EQ(tied.first_.weight().to_vector<float>()[0], 3.0f);
}

TEST(Init, LinearIsKaimingUniformAsInPyTorch) {
  tensor::Generator generator(3);
  nn::Linear linear(100, 200, {}, &generator);
  double square = 0.0, largest = 0.0;
  const auto values = linear.weight().to_vector<float>();
  for (const double v : values) {
    square += v * v / static_cast<double>(values.size());
    largest = std::max(largest, std::abs(v));
  }
  EXPECT_LE(largest, 0.1);  // 1 / sqrt(100)
  EXPECT_GT(largest, 0.0999);
  EXPECT_NEAR(square, 0.01 / 3, 1e-4);  // of a uniform distribution
}

TEST(Layers, ShapesAndBadSizes) {
  nn::Sequential net;
  net.add<nn::Conv2d>(1, 4, 3, nn::Conv2dOptions{.padding = 1});
  net.add<nn::Relu>();
  net.add<nn::MaxPool2d>(2);
  net.add<nn::AvgPool2d>(2);
  net.add<nn::Flatten>();
  net.add<nn::Linear>(4 * 2 * 2, 10);
  EXPECT_EQ(net.forward(Tensor::zeros({3, 1, 8, 8})).shape(), (Shape{3, 10}));
  EXPECT_THAT(names_of(net.named_parameters()),
              ElementsAre("0.weight", "0.bias", "5.weight", "5.bias"));
  expect_error<InvalidArgument>([] { nn::Linear(0, 3); }, {"Linear", "0"});
  expect_error<InvalidArgument>([] { nn::Embedding(3, -1); }, {"Embedding", "-1"});
  expect_error<InvalidArgument>([] { nn::Dropout(1.0); }, {"Dropout", "1"});
  expect_error<InvalidArgument>([] { nn::Conv2d(1, 1, 0); }, {"Conv2d", "0"});
  expect_error<InvalidArgument>([] { nn::MaxPool2d(2, -1); }, {"MaxPool2d", "-1"});
}

}  // namespace
}  // namespace weft::nn_test
