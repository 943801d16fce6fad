// Training on a CUDA device: whole-model gradients against the cpu's f64, optimizers, clipping,
// loaders, checkpoints.
#include <gmock/gmock.h>

#include <filesystem>

#include "tensor/amp/grad_scaler.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/data/loader.h"
#include "tensor/nn/gpt.h"
#include "tensor/optim/adam.h"
#include "tensor/optim/clip.h"
#include "tensor/optim/sgd.h"
#include "tests/gpu/cuda_tensors.h"
#include "tests/support/scratch.h"

namespace weft::tests {
namespace {

class TrainingTest : public CudaTensorTest {};

nn::GPTConfig tiny() {
  nn::GPTConfig config;
  config.block_size = 16;
  config.vocab_size = 29;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 32;
  config.dropout = 0.0;
  return config;
}

struct Sample {
  Tensor tokens = integers({2, 16}, 29, 3, DType::i32);
  Tensor targets = integers({2, 16}, 29, 4, DType::i32);
};

// The same values in every type and place: those of f32.
std::unique_ptr<nn::GPT> model_on(DType dtype, Device device,
                                  const nn::GPTConfig& config = tiny()) {
  tensor::Generator generator(1);
  auto model = std::make_unique<nn::GPT>(config, &generator);
  model->to(dtype);
  model->to(device);
  return model;
}

// Over all parameters together: |found - wanted| / |wanted|.
double gradient_distance(nn::GPT& found, nn::GPT& wanted) {
  const auto a = found.named_parameters(), b = wanted.named_parameters();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto x = values_of(a[i].tensor.grad()), y = values_of(b[i].tensor.grad());
    for (std::size_t k = 0; k < x.size(); ++k) {
      difference += (x[k] - y[k]) * (x[k] - y[k]);
      size += y[k] * y[k];
    }
  }
  return std::sqrt(difference / size);
}

TEST_F(TrainingTest, WholeModelGradientsMatchTheCpusF64) {
  const Sample sample;
  // Values that bf16 holds, so that only the arithmetic differs.
  const auto reference = model_on(DType::bf16, {});
  reference->to(DType::f64);
  reference->forward(sample.tokens, sample.targets).loss.backward();
  for (const auto& [dtype, limit] : {std::pair{DType::f32, 1e-4}, std::pair{DType::bf16, 1e-2}}) {
    auto model = model_on(DType::bf16, kCuda);
    model->to(dtype);
    const auto loss = model->forward(sample.tokens.to(kCuda), sample.targets.to(kCuda)).loss;
    loss.backward();
    EXPECT_LE(gradient_distance(*model, *reference), limit) << name_of(dtype);
  }
}

TEST_F(TrainingTest, ModulesMoveWithTiedParametersAndBack) {
  auto model = model_on(DType::f32, kCuda);
  for (const auto& [name, parameter] : model->named_parameters()) {
    EXPECT_EQ(parameter.device(), kCuda) << name;
    EXPECT_TRUE(parameter.requires_grad()) << name;
  }
  const Sample sample;
  const auto there = model->forward(sample.tokens.to(kCuda)).logits;
  model->to(Device{});
  EXPECT_LE(relative_distance(there, model->forward(sample.tokens).logits), 1e-5);
}

// Both on the same gradients, made on the cpu.
template <class Optimizer, class... Options>
void check_optimizer(DType dtype, const Options&... options) {
  tensor::Generator generator(3);
  std::vector<nn::NamedTensor> here, there;
  for (int i = 0; i < 3; ++i) {
    auto value = Tensor::randn({5 + 40 * i, 3}, generator, {dtype, {}});
    here.push_back({fmt::format("p{}", i), value.clone().detach().set_requires_grad(true)});
    there.push_back({fmt::format("p{}", i), value.to(kCuda).detach().set_requires_grad(true)});
  }
  Optimizer on_cpu({{here, 0.05, 0.1}}, options...);
  Optimizer on_cuda({{there, 0.05, 0.1}}, options...);
  for (int step = 0; step < 5; ++step) {
    for (std::size_t i = 0; i < here.size(); ++i) {
      const bool none = (step == 2 && i == 1) || (step == 3 && i == 0);  // counts part
      const auto gradient = Tensor::randn(here[i].tensor.shape(), generator, {dtype, {}});
      here[i].tensor.set_grad(none ? Tensor() : gradient);
      there[i].tensor.set_grad(none ? Tensor() : gradient.to(kCuda));
    }
    if (step == 4) on_cpu.set_learning_rate(0.01), on_cuda.set_learning_rate(0.01);
    on_cpu.step(0.5);
    on_cuda.step(0.5);
  }
  const double limit = dtype == DType::bf16 ? 1e-2 : 1e-6;
  for (std::size_t i = 0; i < here.size(); ++i) {
    EXPECT_LE(relative_distance(there[i].tensor, here[i].tensor), limit) << here[i].name;
  }
  // State goes from one to the other, counts of steps included.
  const auto saved = on_cuda.state_dict();
  for (const auto& [name, value] : on_cpu.state_dict()) {
    const auto* found = nn::find(saved, name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_LE(relative_distance(*found, value), 1e-5) << name;
  }
  on_cpu.load_state_dict(saved);
  on_cuda.load_state_dict(on_cpu.state_dict());
  for (std::size_t i = 0; i < here.size(); ++i) {
    const auto gradient = Tensor::randn(here[i].tensor.shape(), generator, {dtype, {}});
    here[i].tensor.set_grad(gradient);
    there[i].tensor.set_grad(gradient.to(kCuda));
  }
  on_cpu.step();
  on_cuda.step();
  for (std::size_t i = 0; i < here.size(); ++i) {
    EXPECT_LE(relative_distance(there[i].tensor, here[i].tensor), limit) << here[i].name;
  }
}

TEST_F(TrainingTest, AdamAndAdamWStepAsOnTheCpu) {
  for (const auto dtype : {DType::f32, DType::f64, DType::bf16}) {
    SCOPED_TRACE(std::string(name_of(dtype)));
    check_optimizer<optim::Adam>(dtype);
    check_optimizer<optim::AdamW>(dtype, optim::AdamOptions{.beta1 = 0.8, .beta2 = 0.9});
  }
}

TEST_F(TrainingTest, SgdStepsAsOnTheCpu) {
  for (const auto dtype : {DType::f32, DType::bf16}) {
    SCOPED_TRACE(std::string(name_of(dtype)));
    check_optimizer<optim::Sgd>(dtype);
    check_optimizer<optim::Sgd>(dtype, optim::SgdOptions{.momentum = 0.9, .nesterov = true});
  }
}

TEST_F(TrainingTest, ASkippedStepChangesNothingAndDoesNotCount) {
  auto p = Tensor::full({10}, 1.0, {DType::f32, kCuda});
  p.set_requires_grad(true);
  optim::AdamW optimizer({{{{"p", p}}, 0.1, 0.0}});
  optim::DeviceInputs inputs;
  inputs.found_inf = Tensor::full({}, 1.0, {DType::i32, kCuda});
  inputs.gradient_scale = Tensor::full({}, 0.25, {DType::f64, kCuda});
  p.set_grad(Tensor::full({10}, 4.0, {DType::f32, kCuda}));
  optimizer.step(1.0, inputs);
  EXPECT_EQ(values_of(p), std::vector<double>(10, 1.0));
  EXPECT_EQ(nn::find(optimizer.state_dict(), "p.step")->item(), 0.0);
  inputs.found_inf.fill_(0.0);
  optimizer.step(1.0, inputs);
  EXPECT_EQ(nn::find(optimizer.state_dict(), "p.step")->item(), 1.0);
  EXPECT_NEAR(values_of(p)[3], 0.9, 1e-6);  // Adam's first step is the rate
  EXPECT_NEAR(values_of(*nn::find(optimizer.state_dict(), "p.exp_avg"))[0], 0.1, 1e-6)
      << "a tenth of the scaled gradient";
}

TEST_F(TrainingTest, ClippingGivesTheNormAndScalesAsOnTheCpu) {
  std::vector<Tensor> here, there;
  for (int i = 0; i < 3; ++i) {
    auto p = Tensor::zeros({31 + 500 * i});
    auto q = p.to(kCuda).detach();
    p.set_requires_grad(true);
    q.set_requires_grad(true);
    const auto gradient = normal({31 + 500 * i}, static_cast<std::uint64_t>(i + 1));
    p.set_grad(gradient.clone());
    q.set_grad(gradient.to(kCuda));
    here.push_back(p);
    there.push_back(q);
  }
  const double norm = optim::grad_norm(here);
  EXPECT_NEAR(optim::grad_norm(there), norm, 1e-9 * norm);
  EXPECT_NEAR(optim::clip_grad_norm_(there, 2.0, true), optim::clip_grad_norm_(here, 2.0),
              1e-9 * norm);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_LE(relative_distance(there[i].grad(), here[i].grad()), 1e-6);
  }
  optim::clip_grad_value_(here, 0.01);
  optim::clip_grad_value_(there, 0.01);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(values_of(there[i].grad()), values_of(here[i].grad()));
  }
  there[1].set_grad(Tensor::full({531}, HUGE_VAL, {DType::f32, kCuda}));
  EXPECT_THROW(optim::clip_grad_norm_(there, 1.0, true), InvalidArgument);
  EXPECT_EQ(values_of(there[0].grad()), values_of(here[0].grad())) << "nothing was scaled";
  there[0].set_grad(Tensor());
  std::vector<Tensor> mixed{here[0], there[2]};
  EXPECT_THAT([&] { optim::grad_norm(mixed); },
              ::testing::ThrowsMessage<InvalidArgument>(
                  ::testing::AllOf(::testing::HasSubstr("cpu"), ::testing::HasSubstr("cuda:0"))));
}

TEST_F(TrainingTest, ATinyGptLearnsAsItDoesOnTheCpu) {
  const Sample sample;
  const auto train = [&](Device device) {
    auto model = model_on(DType::f32, device);
    optim::AdamW optimizer(optim::decay_groups(model->named_parameters(), 1e-2, 0.1));
    const auto tokens = sample.tokens.to(device), targets = sample.targets.to(device);
    std::vector<double> losses;
    for (int step = 0; step < 8; ++step) {
      optimizer.zero_grad();
      const auto loss = model->forward(tokens, targets).loss;
      loss.backward();
      optim::clip_grad_norm_tensor_(model->parameters(), 1.0);
      optimizer.step();
      losses.push_back(loss.item());
    }
    return losses;
  };
  const auto here = train({}), there = train(kCuda);
  EXPECT_LT(there.back(), there.front() - 0.5);
  for (std::size_t i = 0; i < here.size(); ++i) EXPECT_NEAR(there[i], here[i], 2e-3) << i;
}

TEST_F(TrainingTest, ALossScaleFindsOverflowsOnTheDevice) {
  auto p = Tensor::full({6}, 1.0, {DType::f32, kCuda});
  p.set_requires_grad(true);
  optim::Sgd optimizer({{{{"p", p}}, 0.5, 0.0}});
  amp::GradScaler scaler({.initial_scale = 8.0});
  scaler.scaled(ops::sum(ops::mul(p, 2.0))).backward();
  EXPECT_EQ(values_of(p.grad()), std::vector<double>(6, 16.0));
  EXPECT_TRUE(scaler.step(optimizer));
  scaler.update();
  EXPECT_EQ(values_of(p), std::vector<double>(6, 0.0));
  p.set_grad(Tensor::full({6}, HUGE_VAL, {DType::f32, kCuda}));
  EXPECT_TRUE(scaler.step(optimizer)) << "queued: the device passes over it";
  scaler.update();
  EXPECT_EQ(scaler.scale(), 4.0);
  EXPECT_EQ(values_of(p), std::vector<double>(6, 0.0));
}

TEST_F(TrainingTest, GenerationGivesTheCpusTokens) {
  auto here = model_on(DType::f32, {}), there = model_on(DType::f32, kCuda);
  const auto prompt = integers({2, 3}, 29, 8);
  nn::GenerateOptions options;
  options.temperature = 0.0;
  EXPECT_EQ(values_of(there->generate(prompt, 5, options)),
            values_of(here->generate(prompt, 5, options)));
}

TEST_F(TrainingTest, LoadersBringBatchesToTheDevice) {
  const auto inputs = normal({10, 6}, 1);
  const auto targets = integers({10}, 4, 2);
  data::DataLoader loader(inputs, targets, {.batch_size = 4, .seed = 5});
  auto there = loader.on(kCuda);
  auto wanted = loader.begin();
  int batches = 0;
  for (const auto& batch : there) {
    EXPECT_EQ(batch.inputs.device(), kCuda);
    EXPECT_EQ(values_of(batch.inputs), values_of((*wanted).inputs));
    EXPECT_EQ(values_of(batch.targets), values_of((*wanted).targets));
    ++wanted;
    ++batches;
  }
  EXPECT_EQ(batches, 3);
  EXPECT_THROW(data::DataLoader(inputs.to(kCuda), targets, {}), InvalidArgument);
}

TEST_F(TrainingTest, CheckpointsAreWrittenFromAndReadToTheDevice) {
  const auto path = std::filesystem::path(tests::scratch("cuda.safetensors"));
  auto model = model_on(DType::f32, kCuda);
  checkpoint::save_safetensors(path, model->state_dict(), {});
  auto config = tiny();
  tensor::Generator other(99);
  nn::GPT loaded(config, &other);
  loaded.to(kCuda);
  loaded.load_state_dict(checkpoint::SafeTensors(path).state_dict());
  const auto wanted = model->state_dict(), found = loaded.state_dict();
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(found[i].tensor.device(), kCuda);
    EXPECT_EQ(values_of(found[i].tensor), values_of(wanted[i].tensor)) << wanted[i].name;
  }
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace weft::tests
