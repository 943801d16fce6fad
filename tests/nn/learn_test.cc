// Small models learn: the whole path from data to falling loss.
#include "tensor/autograd/node.h"
#include "tensor/data/images.h"
#include "tensor/data/loader.h"
#include "tensor/data/tokenizer.h"
#include "tensor/nn/conv.h"
#include "tensor/nn/gpt.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"
#include "tensor/optim/clip.h"
#include "tensor/optim/schedule.h"
#include "tensor/optim/sgd.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

TEST(Learn, TinyGptOverfitsASentence) {
  const std::string text = "the quick brown fox jumps over the lazy dog; then it sleeps. ";
  const data::CharTokenizer tokenizer(text);
  const data::Tokens tokens(tokenizer.encode(text), tokenizer.vocab_size());
  const data::TokenDataset dataset(tokens, 32, 7);
  tensor::Generator generator(1);
  nn::GPT model({.block_size = 32,
                 .vocab_size = tokenizer.vocab_size(),
                 .n_layer = 2,
                 .n_head = 2,
                 .n_embd = 32},
                &generator);
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 5e-3, 0.1), {.beta2 = 0.95});
  const optim::CosineSchedule schedule({5e-3, 5e-4, 10, 200});
  const auto parameters = model.parameters();
  double loss = 0.0;
  for (int iteration = 0; iteration < 200; ++iteration) {
    const auto batch = dataset.batch(8, iteration);
    const auto output = model.forward(batch.inputs, batch.targets);
    output.loss.backward();
    optim::clip_grad_norm_(parameters, 1.0, true);
    optimizer.set_learning_rate(schedule.at(iteration));
    optimizer.step();
    optimizer.zero_grad();
    loss = output.loss.item();
  }
  EXPECT_LT(loss, 0.1);
  const auto prompt = tokenizer.encode("the quick");
  const auto tensor = Tensor::from(std::vector<std::int64_t>(prompt.begin(), prompt.end()),
                                   {1, static_cast<std::int64_t>(prompt.size())});
  const auto sample = model.generate(tensor, 16, {.temperature = 0.0}).to_vector<std::int64_t>();
  EXPECT_EQ(tokenizer.decode(sample), text.substr(0, 25));
}

double accuracy(nn::Layer& model, const data::ImageSet& set) {
  NoGrad no_grad;
  model.eval();
  const auto guessed = ops::argmax(model.forward(set.images), 1).to_vector<std::int64_t>();
  model.train();
  const auto labels = set.labels.to_vector<std::int64_t>();
  int right = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) right += guessed[i] == labels[i] ? 1 : 0;
  return static_cast<double>(right) / static_cast<double>(labels.size());
}

void fit(nn::Layer& model, optim::Optimizer& optimizer, const data::ImageSet& set, int epochs) {
  data::DataLoader loader(set.images, set.labels, {.batch_size = 32, .seed = 3});
  for (int epoch = 0; epoch < epochs; ++epoch) {
    loader.set_epoch(epoch);
    for (const auto& batch : loader) {
      ops::cross_entropy(model.forward(batch.inputs), batch.targets).backward();
      optimizer.step();
      optimizer.zero_grad();
    }
  }
}

data::ImageSet images(std::uint64_t seed) {
  return data::synthetic_images({.count = 320, .side = 14, .classes = 5, .seed = seed});
}

TEST(Learn, PerceptronReadsSyntheticImages) {
  tensor::Generator generator(2);
  nn::Sequential model;
  model.add<nn::Flatten>();
  model.add<nn::Linear>(14 * 14, 48, nn::LinearOptions{}, &generator);
  model.add<nn::Gelu>();
  model.add<nn::Linear>(48, 5, nn::LinearOptions{}, &generator);
  optim::Sgd optimizer({{model.named_parameters(), 0.1, 0.0}}, {.momentum = 0.9});
  fit(model, optimizer, images(1), 8);
  EXPECT_GT(accuracy(model, images(1)), 0.97);
  EXPECT_GT(accuracy(model, images(2)), 0.8);  // of a set it has not seen
}

TEST(Learn, ConvolutionalNetReadsSyntheticImages) {
  tensor::Generator generator(2);
  nn::Sequential model;
  model.add<nn::Conv2d>(1, 8, 3, nn::Conv2dOptions{.padding = 1}, &generator);
  model.add<nn::Relu>();
  model.add<nn::MaxPool2d>(2);
  model.add<nn::Conv2d>(8, 16, 3, nn::Conv2dOptions{.padding = 1}, &generator);
  model.add<nn::Relu>();
  model.add<nn::AvgPool2d>(2);
  model.add<nn::Flatten>();
  model.add<nn::Linear>(16 * 3 * 3, 5, nn::LinearOptions{}, &generator);
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 5e-3, 0.01));
  fit(model, optimizer, images(1), 6);
  EXPECT_GT(accuracy(model, images(1)), 0.97);
  EXPECT_GT(accuracy(model, images(2)), 0.9);
}

}  // namespace
}  // namespace weft::nn_test
