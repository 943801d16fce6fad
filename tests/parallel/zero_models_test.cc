// Models that are more than plain: frozen, tied, partly unused, in halves with f32 shares, and too
// large for one rank.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/autograd/node.h"
#include "tensor/memory_use.h"
#include "tensor/nn/deferred_init.h"
#include "tensor/nn/layers.h"
#include "tensor/part.h"
#include "tests/parallel/zero_world.h"

namespace weft::parallel {
namespace {

using namespace parallel::tests;  // NOLINT: the model under test
using testing::HasSubstr;

// Fabric's seeds and steps, of a model that `freeze` was applied to.
std::vector<double> train_frozen(int stage, const std::function<bool(const std::string&)>& freeze) {
  std::vector<double> result;
  run_world(3, [&](Communicator& comm) {
    Generator generator(3);
    nn::GPT model(tiny_gpt(), &generator);
    for (auto& [name, parameter] : model.named_parameters()) {
      if (freeze(name)) Tensor(parameter).set_requires_grad(false);
    }
    const auto engine = make_engine({.stage = stage}, model, comm);
    optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
    for (int step = 0; step < 5; ++step) {
      backward_of_step({}, model, *engine, comm, step);
      optimizer.step();
      optimizer.zero_grad();
    }
    if (const auto* zero = dynamic_cast<Zero*>(engine.get()); zero != nullptr && stage == 3) {
      const auto whole = Bytes(model.parameter_count() * 4);
      EXPECT_LT(zero->bytes().parameters.value, whole.value / 3 * 11 / 10) << "frozen ones, too";
      EXPECT_EQ(zero->bytes().replicated, Bytes(0));
    }
    const auto all = values_of(model, *engine);
    if (comm.rank() == 2) result = all;
  });
  return result;
}

// Within a unit, whole units, and what belongs to no unit.
TEST(ZeroModelsTest, FrozenParametersChangeNoBit) {
  for (const auto& freeze : std::vector<std::function<bool(const std::string&)>>{
           [](const std::string& name) { return name.ends_with(".bias"); },
           [](const std::string& name) { return name.starts_with("transformer.h.1."); },
           [](const std::string& name) { return !name.starts_with("transformer.h."); }}) {
    const auto ddp = train_frozen(0, freeze);
    for (const int stage : {1, 2, 3}) EXPECT_EQ(train_frozen(stage, freeze), ddp) << stage;
  }
}

// --- parameters that take no part

// Two heads; a batch uses one of them.
class TwoHeads : public nn::Module {
 public:
  explicit TwoHeads(Generator& generator)
      : trunk_(4, 6, {}, &generator), left_(6, 3, {}, &generator), right_(6, 3, {}, &generator) {
    register_module("trunk", trunk_);
    register_module("left", left_);
    register_module("right", right_);
  }
  Tensor forward(const Tensor& x, bool right) {
    const Forward scope(*this);
    auto& head = right ? right_ : left_;
    return tensor::ops::sum(tensor::ops::mul(head.forward(trunk_.forward(x)), 0.5));
  }

 private:
  nn::Linear trunk_, left_, right_;
};

enum class Uses { both, neither_right };
std::vector<double> train_heads(int stage, Uses uses) {
  std::vector<double> result;
  run_world(2, [&](Communicator& comm) {
    Generator generator(3);
    TwoHeads model(generator);
    std::unique_ptr<Engine> engine;
    if (stage == 0) {
      DdpOptions options;
      options.find_unused_parameters = true;
      engine =
          std::make_unique<Ddp>(model.named_parameters(), model.named_buffers(), comm, options);
    } else {
      // In stage 3 all ranks gather the same units: one of everything.
      ZeroOptions options{.stage = stage, .find_unused_parameters = true};
      engine = std::make_unique<Zero>(model, comm, options);
    }
    optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
    for (int step = 0; step < 6; ++step) {
      Generator data(static_cast<std::uint64_t>(step * 2 + comm.rank()));
      const auto x = Tensor::randn({3, 4}, data);
      // Both: each rank another head. Neither right: the right one never. Then the moments of what
      // nobody used must not have moved.
      const bool right = uses == Uses::both && stage < 3 && (step + comm.rank()) % 2 == 1;
      engine->backward(model.forward(x, right));
      optimizer.step();
      optimizer.zero_grad();
    }
    for (const auto& shard : optimizer.state_shards()) {
      if (!shard.name.ends_with(".step")) continue;
      const bool unused = uses == Uses::neither_right && shard.name.starts_with("right");
      EXPECT_EQ(shard.data.item(), unused ? 0 : 6) << shard.name;
    }
    std::unique_ptr<Zero::Gathered> gathered;
    if (auto* zero = dynamic_cast<Zero*>(engine.get())) {
      gathered = std::make_unique<Zero::Gathered>(*zero);
    }
    std::vector<double> all;
    for (const auto& parameter : model.parameters()) {
      for (const double v : parameter.detach().to_vector<double>()) all.push_back(v);
    }
    if (comm.rank() == 1) result = all;
  });
  return result;
}

TEST(ZeroUnusedTest, WhatOneRankAloneUsesIsAveraged) {
  const auto ddp = train_heads(0, Uses::both);
  for (const int stage : {1, 2}) EXPECT_EQ(train_heads(stage, Uses::both), ddp) << stage;
}
TEST(ZeroUnusedTest, WhatNobodyUsesIsNotUpdated) {
  const auto ddp = train_heads(0, Uses::neither_right);
  for (const int stage : {1, 2, 3})
    EXPECT_EQ(train_heads(stage, Uses::neither_right), ddp) << stage;
}

// --- halves whose shares are f32

struct Lowered {
  std::vector<double> values;
  double loss = 0;
};
Lowered train_lowered(int stage, std::optional<DType> low, int steps) {
  Lowered result;
  run_world(3, [&](Communicator& comm) {
    Generator generator(3);
    nn::GPT model(tiny_gpt(), &generator);
    const auto engine = make_engine({.stage = stage, .zero = {.low = low}}, model, comm);
    optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 1e-3, 0.1));
    double loss = 0;
    for (int step = 0; step < steps; ++step) {
      const auto [tokens, targets] = token_batch(static_cast<std::uint64_t>(comm.rank()));
      const auto term = model.forward(tokens, targets).loss;
      loss = term.item();
      engine->backward(term);
      for (const auto& p : model.parameters()) {
        if (!low) break;
        EXPECT_EQ(p.dtype(), *low);
        EXPECT_EQ(tensor::part_of(p)->values.dtype(), DType::f32);
        EXPECT_EQ(tensor::part_of(p)->values.grad().dtype(),
                  *low == DType::f16 ? DType::f32 : DType::bf16);
      }
      optimizer.step();
      optimizer.zero_grad();
    }
    const auto values = values_of(model, *engine);
    if (comm.rank() == 0) result = {values, loss};
  });
  return result;
}

TEST(ZeroLowTest, StagesAgreeAndFollowSinglePrecision) {
  const auto exact = train_lowered(0, {}, 40);
  for (const auto low : {DType::bf16, DType::f16}) {
    const auto one = train_lowered(1, low, 40);
    EXPECT_NEAR(one.loss, exact.loss, 0.02 * exact.loss) << name_of(low);
    EXPECT_NE(one.values, exact.values);
    for (const int stage : {2, 3}) {
      EXPECT_EQ(train_lowered(stage, low, 40).values, one.values) << stage << ' ' << name_of(low);
    }
  }
}

// Updates far below a half's last bit add up in the f32 share.
TEST(ZeroLowTest, SharesKeepWhatRoundingTakes) {
  run_world(2, [](Communicator& comm) {
    Generator generator(3), same(3);
    nn::GPT model(tiny_gpt(), &generator);
    const nn::GPT exact(tiny_gpt(), &same);
    Zero zero(model, comm, {.stage = 3, .low = DType::bf16});
    const auto shards = zero.parameter_shards();
    const auto expected = exact.named_parameters();
    for (std::size_t i = 0; i < shards.size(); ++i) {
      const auto& shard = shards[i];
      for (const auto& [name, tensor] : expected) {
        if (name != shard.name || shard.data.numel() == 0) continue;
        EXPECT_EQ(shard.data.to_vector<float>(),
                  tensor.detach()
                      .flatten()
                      .narrow(0, shard.begin.value, shard.data.numel())
                      .to_vector<float>())
            << name;
      }
    }
    {
      const Zero::Gathered gathered(zero, true);
      const NoGrad no_grad;
      model.parameters()[0].fill_(0.5);
    }
    const auto after = zero.parameter_shards();
    EXPECT_EQ(after[0].data.to_vector<float>(),
              std::vector<float>(static_cast<std::size_t>(after[0].data.numel()), 0.5F));
  });
}

TEST(ZeroLowTest, IsForSinglePrecision) {
  for (const auto& error : run_world_catching(2, [](Communicator& comm) {
         nn::GPT model(tiny_gpt());
         model.to(DType::f64);
         const Zero zero(model, comm, {.low = DType::bf16});
       })) {
    EXPECT_THAT(message_of(error),
                HasSubstr("is for f32 parameters, but 'transformer.wte.weight'"));
  }
}

// --- models that are made without memory

TEST(DeferredInitTest, HasTheSameValues) {
  Generator one(3), two(3);
  const nn::GPT plain(tiny_gpt(), &one);
  std::unique_ptr<nn::GPT> model;
  {
    const nn::DeferredInit deferred;
    model = std::make_unique<nn::GPT>(tiny_gpt(), &two);
  }
  EXPECT_EQ(one.offset(), two.offset()) << "as many numbers were drawn";
  EXPECT_FALSE(nn::DeferredInit::is_on());
  try {
    model->parameters()[0].to_vector<float>();
    FAIL() << "there are no values yet";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("nn::DeferredInit"));
  }
  nn::materialize(*model);
  const auto expected = plain.parameters(), found = model->parameters();
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(found[i].to_vector<float>(), expected[i].to_vector<float>()) << i;
  }
}

TEST(DeferredInitTest, TrainsUnderEveryStageAsAPlainModelDoes) {
  const auto values = [](int stage, bool defers, std::optional<DType> low) {
    std::vector<double> result;
    run_world(2, [&](Communicator& comm) {
      Generator generator(3 + static_cast<std::uint64_t>(comm.rank()));  // rank 0's values win
      std::unique_ptr<nn::GPT> model;
      {
        std::optional<nn::DeferredInit> deferred;
        if (defers) deferred.emplace();
        model = std::make_unique<nn::GPT>(tiny_gpt(), &generator);
      }
      const auto engine = make_engine({.stage = stage, .zero = {.low = low}}, *model, comm);
      optim::AdamW optimizer(optim::decay_groups(model->named_parameters(), 1e-2, 0.1));
      for (int step = 0; step < 3; ++step) {
        backward_of_step({}, *model, *engine, comm, step);
        optimizer.step();
        optimizer.zero_grad();
      }
      const auto all = values_of(*model, *engine);
      if (comm.rank() == 1) result = all;
    });
    return result;
  };
  for (const int stage : {1, 2, 3}) {
    EXPECT_EQ(values(stage, true, {}), values(stage, false, {})) << stage;
    EXPECT_EQ(values(stage, true, DType::bf16), values(stage, false, DType::bf16)) << stage;
  }
}

// What a rank ever holds while a model of 13 MB is built, shared out and trained: its share and the
// largest parameter, not the model. (Ranks are threads here, and their tensors are counted
// together.)
TEST(DeferredInitTest, AModelThatNoRankHoldsWholeIsBuilt) {
  auto config = tiny_gpt();
  config.n_embd = 256;
  config.n_layer = 4;
  const auto before = tensor::tensor_memory().now;
  tensor::reset_tensor_memory_peak();
  run_world(2, [&](Communicator& comm) {
    std::unique_ptr<nn::GPT> model;
    {
      const nn::DeferredInit deferred;
      model = std::make_unique<nn::GPT>(config);
    }
    const auto whole = model->parameter_count() * 4;
    const Zero zero(*model, comm, {.stage = 3});
    comm.barrier();
    const std::int64_t largest = 4 * 256 * 256 * 4;
    // Making a parameter takes it thrice: drawn, scaled, in place.
    EXPECT_LT((tensor::tensor_memory().peak - before).value, 2 * 3 * largest + whole / 8);
    EXPECT_LT(zero.bytes().parameters.value, whole * 55 / 100);
    comm.barrier();
  });
}

}  // namespace
}  // namespace weft::parallel
