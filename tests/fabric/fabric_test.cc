// Fabric on one rank, in this process. Several ranks: tests/fabric/ranks_test.cc.
#include "launcher/fabric.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "tensor/nn/layers.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"
#include "tensor/random.h"
#include "tests/support/scratch.h"

namespace weft {
namespace {

using testing::Each;
using testing::HasSubstr;

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

class FabricTest : public testing::Test {
 protected:
  void SetUp() override { fabric_.launch(); }
  Fabric fabric_;
};

TEST(FabricBeforeLaunchTest, SaysWhatIsMissing) {
  Fabric fabric;
  EXPECT_THAT(message_of([&] { fabric.world_size(); }), HasSubstr("call launch() first"));
  EXPECT_THAT(message_of([&] { fabric.backward(Tensor::scalar(1)); }),
              HasSubstr("Fabric::backward()"));
}

TEST_F(FabricTest, IsAWorldOfOne) {
  EXPECT_EQ(fabric_.world_size(), 1);
  EXPECT_EQ(fabric_.global_rank(), 0);
  EXPECT_EQ(fabric_.local_rank(), 0);
  EXPECT_EQ(fabric_.node_rank(), 0);
  EXPECT_TRUE(fabric_.is_global_zero());
  EXPECT_THAT(message_of([&] { fabric_.launch(); }), HasSubstr("twice"));
}

TEST_F(FabricTest, CollectivesOfOneRankGiveWhatWentIn) {
  const auto x = Tensor::arange(4, {DType::f32});
  EXPECT_EQ(fabric_.all_reduce(x).to_vector<float>(), x.to_vector<float>());
  EXPECT_EQ(fabric_.all_gather(x).shape(), (Shape{1, 4}));
  EXPECT_EQ(fabric_.broadcast(x).to_vector<float>(), x.to_vector<float>());
  EXPECT_EQ(fabric_.all_reduce(2.5, "sum"), 2.5);
  fabric_.barrier("for the reader");
  EXPECT_THAT(message_of([&] { fabric_.all_reduce(x, "median"); }), HasSubstr("'median'"));
  EXPECT_THAT(message_of([&] { fabric_.broadcast(x, 1); }), HasSubstr("root"));
}

TEST_F(FabricTest, TrainsAndAccumulates) {
  nn::Linear layer(3, 1);
  fabric_.setup(layer);
  optim::AdamW optimizer(optim::decay_groups(layer.named_parameters(), 0.1, 0.0));
  const auto x = Tensor::full({2, 3}, 1.0);
  {
    const auto no_sync = fabric_.no_backward_sync(layer);
    fabric_.backward(ops::sum(layer.forward(x)));
  }
  fabric_.backward(ops::sum(layer.forward(x)));
  EXPECT_THAT(layer.weight().grad().to_vector<float>(), Each(4.0f));
  const auto before = layer.weight().to_vector<float>();
  optimizer.step();
  EXPECT_NE(layer.weight().to_vector<float>(), before);
}

TEST_F(FabricTest, ClipsByExactlyOneRule) {
  nn::Linear layer(3, 1, {.bias = false});
  fabric_.setup(layer);
  fabric_.backward(ops::sum(layer.forward(Tensor::full({1, 3}, 2.0))));
  EXPECT_THAT(message_of([&] { fabric_.clip_gradients(layer, {}); }), HasSubstr("exactly one"));
  EXPECT_THAT(message_of([&] { fabric_.clip_gradients(layer, {.clip_val = 1, .max_norm = 1}); }),
              HasSubstr("exactly one"));
  EXPECT_NEAR(fabric_.clip_gradients(layer, {.max_norm = 1.0}), std::sqrt(12.0), 1e-6);
  EXPECT_NEAR(layer.weight().grad().to_vector<float>()[0], 1 / std::sqrt(3.0), 1e-5);
  fabric_.clip_gradients(layer, {.clip_val = 0.25});
  EXPECT_THAT(layer.weight().grad().to_vector<float>(), Each(0.25f));
}

TEST_F(FabricTest, RefusesGradientsThatAreNotFinite) {
  nn::Linear layer(2, 1, {.bias = false});
  fabric_.setup(layer);
  fabric_.backward(
      ops::sum(layer.forward(Tensor::full({1, 2}, std::numeric_limits<double>::infinity()))));
  EXPECT_NE(message_of([&] { fabric_.clip_gradients(layer, {.max_norm = 1.0}); }), "no error");
  EXPECT_NE(message_of([&] { fabric_.clip_gradients(layer, {.clip_val = 1.0}); }), "no error");
}

TEST_F(FabricTest, OneModuleIsSetUpOnce) {
  nn::Linear layer(2, 1), stranger(2, 1);
  fabric_.setup(layer);
  EXPECT_THAT(message_of([&] { fabric_.setup(layer); }), HasSubstr("already"));
  EXPECT_THAT(message_of([&] { fabric_.clip_gradients(stranger, {.max_norm = 1}); }),
              HasSubstr("not set up"));
}

TEST(FabricPrecisionTest, DoubleConvertsParametersAndInputs) {
  Fabric fabric({.precision = "64-true"});
  fabric.launch();
  nn::Linear layer(2, 1);
  optim::AdamW early(optim::decay_groups(layer.named_parameters(), 0.1, 0.0));
  EXPECT_THAT(message_of([&] { fabric.setup(layer, early); }), HasSubstr("after setup(module)"));
  EXPECT_EQ(layer.weight().dtype(), DType::f64);
  EXPECT_EQ(fabric.to_device(Tensor::zeros({1})).dtype(), DType::f64);
  EXPECT_EQ(fabric.to_device(Tensor::arange(3, {DType::i64})).dtype(), DType::i64);
}

TEST_F(FabricTest, SavesAndLoadsModuleOptimizerAndTexts) {
  const auto path = tests::scratch("fabric_test.safetensors");
  nn::Linear layer(3, 2);
  fabric_.setup(layer);
  optim::AdamW optimizer(optim::decay_groups(layer.named_parameters(), 0.1, 0.0));
  fabric_.backward(ops::sum(layer.forward(Tensor::full({1, 3}, 1.0))));
  optimizer.step();
  std::string note = "iteration 1";
  const Fabric::State state{{{"model", &layer}}, {{"adamw", &optimizer}}, {{"note", &note}}};
  fabric_.save(path, state);

  const auto saved = layer.weight().to_vector<float>();
  layer.weight().detach().zero_();
  note.clear();
  fabric_.load(path, state);
  EXPECT_EQ(layer.weight().to_vector<float>(), saved);
  EXPECT_EQ(note, "iteration 1");

  nn::Linear wider(4, 2);
  EXPECT_THAT(message_of([&] {
                fabric_.load(path, {{{"model", &wider}}, {}, {}});
              }),
              HasSubstr("weight"));
  EXPECT_THAT(message_of([&] { fabric_.load("/nonexistent/file", state); }),
              HasSubstr("/nonexistent/file"));
  EXPECT_THAT(message_of([&] { fabric_.save("/nonexistent/file", state); }),
              HasSubstr("/nonexistent/file"));
  std::filesystem::remove(path);
}

TEST_F(FabricTest, SharesOutALoader) {
  const data::DataLoader all(Tensor::zeros({10, 2}), Tensor::arange(10, {DType::i64}),
                             {.batch_size = 4});
  const auto mine = fabric_.setup_dataloaders(all);
  EXPECT_EQ(mine.size(), 3);
  EXPECT_EQ(mine.sampler().options().world, 1);
}

TEST_F(FabricTest, SeedsTheDefaultGenerator) {
  EXPECT_EQ(fabric_.seed_everything(42), 42u);
  const auto first = tensor::default_generator().next_u32();
  fabric_.seed_everything(42);
  EXPECT_EQ(tensor::default_generator().next_u32(), first);
  setenv("WEFT_SEED", "7", 1);
  EXPECT_EQ(fabric_.seed_everything(), 7u);
  setenv("WEFT_SEED", "seven", 1);
  EXPECT_THAT(message_of([&] { fabric_.seed_everything(); }), HasSubstr("WEFT_SEED='seven'"));
  unsetenv("WEFT_SEED");
}

}  // namespace
}  // namespace weft
