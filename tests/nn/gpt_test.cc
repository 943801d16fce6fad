#include "tensor/nn/gpt.h"

#include <cmath>

#include "tensor/autograd/node.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

const nn::GPTConfig kTiny{
    .block_size = 8, .vocab_size = 23, .n_layer = 2, .n_head = 2, .n_embd = 16};

nn::StateDict weights_of(const nn::StateDict& fixture_state, const std::string& prefix) {
  nn::StateDict result;
  for (const auto& [name, tensor] : fixture_state) {
    if (name.starts_with(prefix)) result.push_back({name.substr(prefix.size()), tensor});
  }
  return result;
}

// Values and gradients of PyTorch, computed there in f64.
class Fixture : public testing::TestWithParam<DType> {
 protected:
  const checkpoint::SafeTensors file_{fixture("gpt.safetensors")};
  double tolerance() const { return GetParam() == DType::f64 ? 1e-6 : 2e-5; }
};

TEST_P(Fixture, ForwardAndBackwardMatchPyTorch) {
  nn::GPT model(kTiny);
  model.to(GetParam());
  const auto state = file_.state_dict();
  model.load_state_dict(weights_of(state, "weight."));
  const auto output = model.forward(file_.tensor("tokens"), file_.tensor("targets"));
  EXPECT_NEAR(output.loss.item(), file_.tensor("loss").item(), tolerance());
  EXPECT_LT(distance(output.logits, file_.tensor("logits")), tolerance());
  output.loss.backward();
  const auto gradients = weights_of(state, "grad.");
  ASSERT_EQ(gradients.size(), model.named_parameters().size());
  for (const auto& [name, parameter] : model.named_parameters()) {
    const auto* expected = nn::find(gradients, name);
    ASSERT_NE(expected, nullptr) << name;
    EXPECT_LT(distance(parameter.grad(), *expected), tolerance()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Fixture, testing::Values(DType::f32, DType::f64),
                         [](const auto& tested) { return std::string(name_of(tested.param)); });

TEST(GPT, HasHuggingFacesNamesAndLayouts) {
  nn::GPT model(kTiny);
  const auto state = model.state_dict();
  EXPECT_EQ(state.size(), 2u + 2 * 12 + 2);
  EXPECT_EQ(state[0].name, "transformer.wte.weight");
  EXPECT_EQ(state[1].name, "transformer.wpe.weight");
  const auto shape = [&](const char* name) {
    const auto* tensor = nn::find(state, name);
    return tensor == nullptr ? Shape{-1} : tensor->shape();
  };
  EXPECT_EQ(shape("transformer.h.0.attn.c_attn.weight"), (Shape{16, 48}));
  EXPECT_EQ(shape("transformer.h.1.attn.c_proj.bias"), (Shape{16}));
  EXPECT_EQ(shape("transformer.h.1.mlp.c_fc.weight"), (Shape{16, 64}));
  EXPECT_EQ(shape("transformer.h.1.mlp.c_proj.weight"), (Shape{64, 16}));
  EXPECT_EQ(shape("transformer.h.0.ln_1.weight"), (Shape{16}));
  EXPECT_EQ(shape("transformer.ln_f.bias"), (Shape{16}));
  EXPECT_EQ(nn::find(state, "lm_head.weight"), nullptr);
  auto no_bias = kTiny;
  no_bias.bias = false;
  EXPECT_EQ(nn::GPT(no_bias).state_dict().size(), 2u + 2 * 6 + 1);
}

TEST(GPT, ReadsWhatOthersWrite) {
  tensor::Generator one(1), two(2);
  nn::GPT from(kTiny, &one), to(kTiny, &two);
  nn::StateDict other;  // GPT-2 as it was first published: no prefix, masks, a head
  for (const auto& [name, tensor] : from.state_dict()) {
    other.push_back({name.substr(std::string("transformer.").size()), tensor});
  }
  other.push_back({"h.0.attn.bias", Tensor::zeros({1, 1, 8, 8})});
  other.push_back({"h.0.attn.masked_bias", Tensor::scalar(-1e4)});
  other.push_back({"lm_head.weight", nn::find(other, "wte.weight")->clone()});
  to.load_state_dict(other);
  EXPECT_EQ(distance(to.parameters()[0], from.parameters()[0]), 0.0);
  const auto config = nn::infer_gpt_config(other, 2, "file");
  EXPECT_EQ(config.n_layer, 2);
  EXPECT_EQ(config.vocab_size, 23);
  EXPECT_EQ(config.block_size, 8);
  EXPECT_TRUE(config.bias);
  expect_error<Mismatch>([&] { nn::infer_gpt_config(other, {}, "file"); }, {"file", "n_head"});
  expect_error<Mismatch>([&] { nn::infer_gpt_config({}, {}, "file"); }, {"file", "wte.weight"});
  other.back().tensor.fill_(1.0);
  expect_error<Mismatch>([&] { to.load_state_dict(other); }, {"lm_head.weight"});
}

TEST(GPT, StartsAsNanoGptDoes) {
  tensor::Generator generator(1337);
  const nn::GPTConfig config{
      .block_size = 32, .vocab_size = 65, .n_layer = 4, .n_head = 4, .n_embd = 64};
  nn::GPT model(config, &generator);
  const auto random = [&] {
    auto tokens = Tensor::empty({8, 32}, {DType::i64});
    for (std::int64_t i = 0; i < tokens.numel(); ++i) {
      tokens.data<std::int64_t>()[i] = static_cast<std::int64_t>(generator.next_below(65));
    }
    return tokens;
  };
  NoGrad no_grad;
  EXPECT_NEAR(model.forward(random(), random()).loss.item(), std::log(65.0), 0.05);
  const auto deviation = [](const Tensor& tensor) {
    double square = 0.0;
    for (const double v : tensor.to_vector<float>()) square += v * v;
    return std::sqrt(square / static_cast<double>(tensor.numel()));
  };
  const auto state = model.state_dict();
  EXPECT_NEAR(deviation(*nn::find(state, "transformer.h.2.mlp.c_fc.weight")), 0.02, 6e-4);
  EXPECT_NEAR(deviation(*nn::find(state, "transformer.h.2.mlp.c_proj.weight")),
              0.02 / std::sqrt(8.0), 3e-4);
}

TEST(GPT, CountsParametersAndWork) {
  nn::GPT model(kTiny);
  const std::int64_t block = 16 * 48 + 48 + 16 * 16 + 16 + 2 * 16 * 64 + 64 + 16 + 4 * 16;
  const std::int64_t parameters = 23 * 16 + 2 * block + 2 * 16;
  EXPECT_EQ(model.num_parameters(), parameters);
  EXPECT_EQ(model.num_parameters(true), parameters + 8 * 16);
  EXPECT_EQ(model.flops_per_token(), 6.0 * static_cast<double>(parameters) + 12 * 2 * 16 * 8);
}

TEST(GPT, RefusesBadConfigurationsAndInputs) {
  const auto refuses = [](auto change, std::initializer_list<std::string> parts) {
    auto config = kTiny;
    change(config);
    expect_error<InvalidArgument>([&] { nn::GPT model(config); }, parts);
  };
  refuses([](auto& c) { c.n_head = 3; }, {"n_embd 16", "n_head 3"});
  refuses([](auto& c) { c.block_size = 0; }, {"block_size", "0"});
  refuses([](auto& c) { c.n_layer = -1; }, {"n_layer", "-1"});
  refuses([](auto& c) { c.vocab_size = std::int64_t{1} << 60; }, {"vocab_size"});
  refuses([](auto& c) { c.dropout = std::nan(""); }, {"dropout", "nan"});
  nn::GPT model(kTiny);
  const TensorOptions i64{DType::i64};
  const auto call = [&](const Tensor& tokens, const Tensor& targets) {
    return [&model, tokens, targets] { model.forward(tokens, targets); };
  };
  expect_error<InvalidArgument>(call(Tensor::zeros({1, 9}, i64), {}),
                                {"(1, 9)", "block_size", "8"});
  expect_error<InvalidArgument>(call(Tensor::zeros({4}, i64), {}), {"(batch, time)"});
  expect_error<InvalidArgument>(call(Tensor::zeros({1, 4}, i64), Tensor::zeros({1, 3}, i64)),
                                {"(1, 4)", "(1, 3)"});
  expect_error<InvalidArgument>(call(Tensor::full({1, 4}, 23, i64), {}), {"23"});
  expect_error<InvalidArgument>(call(Tensor::zeros({1, 4}, i64), Tensor::full({1, 4}, 23, i64)),
                                {"23"});
}

TEST(GPT, CroppedToAShorterContextItSaysTheSame) {
  nn::GPT model(kTiny);
  const auto tokens = Tensor::from(std::vector<std::int64_t>{1, 2, 3, 4}, {1, 4});
  const auto before = model.forward(tokens).logits;
  model.crop_block_size(4);
  EXPECT_EQ(distance(model.forward(tokens).logits, before), 0.0);
  EXPECT_EQ(model.config().block_size, 4);
  expect_error<InvalidArgument>([&] { model.crop_block_size(5); }, {"4", "5"});
}

TEST(Generate, IsDeterministicAndLeavesTheModeAlone) {
  auto config = kTiny;
  config.dropout = 0.5;
  nn::GPT model(config);
  const auto prompt = Tensor::from(std::vector<std::int64_t>{1, 2, 3, 4}, {2, 2});
  const auto text = [&](std::uint64_t seed) {
    tensor::Generator generator(seed);
    return model.generate(prompt, 20, {.top_k = 5, .generator = &generator})
        .to_vector<std::int64_t>();
  };
  EXPECT_EQ(text(1), text(1));
  EXPECT_NE(text(1), text(2));
  EXPECT_EQ(text(1).size(), 2u * 22);
  EXPECT_EQ(text(1)[22], 3);  // the second row's prompt
  EXPECT_TRUE(model.is_training());
  const auto greedy = model.generate(prompt, 12, {.temperature = 0.0});
  EXPECT_EQ(greedy.to_vector<std::int64_t>(),
            model.generate(prompt, 12, {.temperature = 1e-9}).to_vector<std::int64_t>());
  expect_error<InvalidArgument>([&] { model.generate(prompt, 1, {.temperature = -1.0}); },
                                {"temperature", "-1"});
  expect_error<InvalidArgument>([&] { model.generate(prompt, 1, {.top_k = -2}); }, {"top_k", "-2"});
  expect_error<InvalidArgument>([&] { model.generate(prompt, -1); }, {"max_new_tokens"});
  expect_error<InvalidArgument>(
      [&] {
        model.generate(Tensor::zeros({1, 0}, {DType::i64}), 1);
      },
      {"not empty"});
}

TEST(Generate, SamplesFollowTheProbabilities) {
  tensor::Generator generator(5);
  const std::vector<double> logits{std::log(0.5), std::log(0.3), std::log(0.2)};
  std::vector<int> all(3), top(3);
  for (int i = 0; i < 4000; ++i) {
    ++all[static_cast<std::size_t>(nn::sample_token(logits, {.generator = &generator}))];
    ++top[static_cast<std::size_t>(
        nn::sample_token(logits, {.top_k = 2, .generator = &generator}))];
  }
  EXPECT_NEAR(all[0], 2000, 130);
  EXPECT_NEAR(all[2], 800, 110);
  EXPECT_NEAR(top[0], 2500, 130);  // 0.5 / 0.8
  EXPECT_EQ(top[2], 0);
  expect_error<InvalidArgument>(
      [] {
        nn::sample_token(std::vector<double>{1.0, NAN}, {});
      },
      {"not finite"});
}

}  // namespace
}  // namespace weft::nn_test
