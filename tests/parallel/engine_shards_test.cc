// What engines give to checkpoints: saved under any strategy on any number of ranks, loaded under
// any other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/autograd/node.h"
#include "tensor/parallel/checkpoint.h"
#include "tests/parallel/zero_world.h"
#include "tests/support/scratch.h"

namespace weft::parallel {
namespace {

using namespace parallel::tests;  // NOLINT: the model under test
using weft::tests::ScratchDirectory;

constexpr std::int64_t kRows = 12;  // of the batch of all ranks

// A model, an engine and an optimizer, ready to go on.
struct Training {
  Training(Communicator& communicator, int stage, DType dtype, std::uint64_t seed)
      : comm(communicator), generator(seed), model(tiny_gpt(), &generator) {
    model.to(dtype);
    engine = make_engine({.stage = stage}, model, comm);
    optimizer =
        std::make_unique<optim::AdamW>(optim::decay_groups(model.named_parameters(), 1e-2, 0.1));
  }
  // The same rows at any number of ranks.
  void train(int from, int to) {
    for (int step = from; step < to; ++step) {
      const auto [tokens, targets] = token_batch(static_cast<std::uint64_t>(step), kRows);
      const auto rows = kRows / comm.size();
      const auto mine = [&](const Tensor& t) {
        return t.narrow(0, rows * comm.rank(), rows).contiguous();
      };
      engine->backward(model.forward(mine(tokens), mine(targets)).loss);
      optimizer->step();
      optimizer->zero_grad();
    }
  }
  void save(const std::filesystem::path& place) {
    const auto shards = engine->training_shards(optimizer.get());
    save_sharded(place, {.parts = {{"model", shards.model}, {"optimizer", shards.optimizer}}},
                 comm);
  }
  void load(const std::filesystem::path& place) {
    const auto shards = engine->training_shards(optimizer.get(), optim::ShardUse::load);
    load_sharded(open_verified(place, comm),
                 {{"model", shards.model}, {"optimizer", shards.optimizer}}, comm);
    engine->parameters_changed();
  }
  std::vector<double> values() { return values_of(model, *engine); }

  Communicator& comm;
  Generator generator;
  nn::GPT model;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<optim::Optimizer> optimizer;
};

struct Where {
  int stage;  // 0: DDP
  int ranks;
};
void PrintTo(const Where& where, std::ostream* out) {
  *out << (where.stage == 0 ? "ddp" : "stage ") << where.stage << " on " << where.ranks;
}

struct Values {
  std::vector<double> at_save, at_end;
};
// Of a model that `prepare` brings to step 3, there and after step 6.
Values values_from(Where where, DType dtype, std::uint64_t seed,
                   const std::function<void(Training&)>& prepare) {
  Values values;
  run_world(where.ranks, [&](Communicator& comm) {
    Training run(comm, where.stage, dtype, seed);
    prepare(run);
    const auto at_save = run.values();
    run.train(3, 6);
    const auto at_end = run.values();
    if (comm.rank() + 1 == comm.size()) values = {at_save, at_end};
  });
  return values;
}
Values write(const std::filesystem::path& place, Where where, DType dtype = DType::f32) {
  return values_from(where, dtype, 3, [&](Training& run) {
    run.train(0, 3);
    run.save(place);
  });
}
// Another model, that has trained already, takes it over.
Values read(const std::filesystem::path& place, Where where, DType dtype = DType::f32) {
  return values_from(where, dtype, 11, [&](Training& run) {
    run.train(20, 21);
    run.load(place);
  });
}

double largest_distance(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

class EngineShards : public testing::TestWithParam<Where> {};
INSTANTIATE_TEST_SUITE_P(Saved, EngineShards,
                         testing::Values(Where{0, 2}, Where{1, 2}, Where{2, 2}, Where{3, 2},
                                         Where{3, 3}, Where{2, 4}, Where{0, 1}));

TEST_P(EngineShards, LoadUnderEveryStrategyAndNumberOfRanks) {
  const ScratchDirectory dir;
  const auto written = write(dir / "saved", GetParam());
  for (const int stage : {0, 1, 2, 3}) {
    for (const int ranks : {1, 2, 3}) {
      const auto found = read(dir / "saved", {stage, ranks});
      EXPECT_EQ(found.at_save, written.at_save) << "stage " << stage << ", " << ranks << " ranks";
      if (ranks == GetParam().ranks) {
        EXPECT_EQ(found.at_end, written.at_end) << "stage " << stage << ", " << ranks << " ranks";
      } else {  // sums in another order
        EXPECT_LT(largest_distance(found.at_end, written.at_end), 1e-5)
            << "stage " << stage << ", " << ranks << " ranks";
      }
    }
  }
}

// bf16 parameters have f32 masters, shares of them under ZeRO.
TEST(EngineShardsTest, MastersOfHalfParametersGoAlong) {
  const ScratchDirectory dir;
  const auto written = write(dir / "saved", {3, 2}, DType::bf16);
  for (const int stage : {0, 1, 2, 3}) {
    const auto found = read(dir / "saved", {stage, 2}, DType::bf16);
    EXPECT_EQ(found.at_save, written.at_save) << "stage " << stage;
    EXPECT_EQ(found.at_end, written.at_end) << "stage " << stage;
  }
  // In another precision the masters are the parameters.
  const auto wide = read(dir / "saved", {3, 3}, DType::f32);
  EXPECT_LT(largest_distance(wide.at_save, written.at_save), 0.01);
}

TEST(EngineShardsTest, ShardsOfAllRanksMakeEveryTensorOnce) {
  run_world(3, [](Communicator& comm) {
    Training run(comm, 3, DType::f32, 3);
    run.train(0, 2);
    const auto shards = run.engine->training_shards(run.optimizer.get());
    std::int64_t held = 0, counts = 0;
    for (const auto& shard : shards.model) held += shard.data.numel();
    for (const auto& shard : shards.optimizer) {
      if (!shard.name.ends_with(".step")) continue;
      ++counts;
      EXPECT_EQ(shard.data.dtype(), DType::i64);
      EXPECT_EQ(shard.shape, Shape{});
      EXPECT_EQ(shard.data.item(), 2) << shard.name;
    }
    comm.all_reduce(std::span(&held, 1), ReduceOp::sum);
    EXPECT_EQ(held, run.model.parameter_count());
    EXPECT_EQ(counts, static_cast<std::int64_t>(run.model.parameters().size()));
  });
}

}  // namespace
}  // namespace weft::parallel
