// Batches that do not come out even: no rank waits for ever, and no sample counts for more than
// another.
#include <gtest/gtest.h>

#include "tensor/data/loader.h"
#include "tests/parallel/small_model.h"

namespace weft::parallel::tests {
namespace {

constexpr std::int64_t kSamples = 23;
constexpr std::uint64_t kSeed = 3;

struct Samples {
  Tensor x, targets;
};

Samples samples() {
  Generator generator(11);
  Samples set;
  set.x = Tensor::randn({kSamples, 10}, generator, {DType::f64});
  std::vector<std::int64_t> targets(kSamples);
  for (auto& target : targets) target = static_cast<std::int64_t>(generator.next_below(5));
  set.targets = Tensor::from(targets, {kSamples});
  return set;
}

// Gradients of every step of an epoch, as the ranks of a world see them.
using Steps = std::vector<std::vector<double>>;

std::vector<double> gradients(const Model& model) {
  std::vector<double> all;
  for (const auto& [name, p] : model.parameters) {
    const auto values = p.grad().to_vector<double>();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

Steps epoch_of(Communicator& communicator, std::int64_t batch_size) {
  const auto set = samples();
  Model model(DType::f64);
  Ddp ddp(model.parameters, {}, communicator);
  auto loader = data::DataLoader(set.x, set.targets, {.batch_size = batch_size, .seed = kSeed})
                    .share(communicator.rank(), communicator.size());
  Steps steps;
  for (const auto& batch : loader) {
    ddp.backward(ops::mul(model.loss(batch.inputs, batch.targets), batch.weight));
    steps.push_back(gradients(model));
    model.sgd_step(0.1);
  }
  return steps;
}

void expect_near(const Steps& found, const Steps& wanted, int world) {
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t step = 0; step < found.size(); ++step) {
    ASSERT_EQ(found[step].size(), wanted[step].size());
    for (std::size_t i = 0; i < found[step].size(); ++i) {
      ASSERT_NEAR(found[step][i], wanted[step][i], 1e-12)
          << world << " ranks, step " << step << ", element " << i;
    }
  }
}

// 23 samples in batches of 12 over all ranks: the last of 11 leaves ranks with fewer; batches of 20
// end in one of 3, which most ranks have no part in.
TEST(UnevenBatchTest, TheGradientIsThatOfOneRankWithTheWholeBatch) {
  for (const std::int64_t batch_of_all : {12, 20}) {
    Steps alone;
    run_world(1, [&](Communicator& c) { alone = epoch_of(c, batch_of_all); });
    ASSERT_EQ(alone.size(), 2u);
    for (const int world : {2, 4}) {
      std::vector<Steps> found(static_cast<std::size_t>(world));
      run_world(world, [&](Communicator& c) {
        found[static_cast<std::size_t>(c.rank())] = epoch_of(c, batch_of_all / world);
      });
      for (const auto& steps : found) expect_near(steps, alone, world);
    }
  }
}

TEST(UnevenBatchTest, AccumulatedBatchesOfAStepWeighWhatTheyHold) {
  const auto set = samples();
  const auto rows = [&](const std::vector<std::int64_t>& which) {
    Samples some;
    std::vector<double> x;
    std::vector<std::int64_t> targets;
    const auto all = set.x.to_vector<double>();
    const auto all_targets = set.targets.to_vector<std::int64_t>();
    for (const auto i : which) {
      x.insert(x.end(), all.begin() + i * 10, all.begin() + (i + 1) * 10);
      targets.push_back(all_targets[static_cast<std::size_t>(i)]);
    }
    const auto count = static_cast<std::int64_t>(which.size());
    some.x = Tensor::from(x, {count, 10});
    some.targets = Tensor::from(targets, {count});
    return some;
  };
  const auto run = [&](Communicator& c, std::int64_t batch_size, std::int64_t micro_batches) {
    Model model(DType::f64);
    Ddp ddp(model.parameters, {}, c);
    data::DistributedSampler sampler({.samples = kSamples,
                                      .rank = c.rank(),
                                      .world = c.size(),
                                      .batch_size = batch_size,
                                      .seed = kSeed});
    Steps steps;
    for (auto step = sampler.next(micro_batches); !step.empty();
         step = sampler.next(micro_batches)) {
      ddp.set_synchronises(false);
      for (std::size_t i = 0; i < step.size(); ++i) {
        if (i + 1 == step.size()) ddp.set_synchronises(true);
        const auto mine = rows(step[i].samples);
        ddp.backward(ops::mul(model.loss(mine.x, mine.targets), step[i].weight));
      }
      steps.push_back(gradients(model));
      model.sgd_step(0.1);
    }
    return steps;
  };
  const auto everywhere = [&](int world, std::int64_t batch_size, std::int64_t micro_batches) {
    std::vector<Steps> found(static_cast<std::size_t>(world));
    run_world(world, [&](Communicator& c) {
      found[static_cast<std::size_t>(c.rank())] = run(c, batch_size, micro_batches);
    });
    return found;
  };
  // Steps of 12 and 11, and of 9, 9 and 5: micro-batches at the end are short, and missing.
  expect_near(everywhere(1, 4, 3)[0], everywhere(1, 12, 1)[0], 1);
  const auto nine = everywhere(1, 9, 1)[0];
  for (const auto& steps : everywhere(3, 1, 3)) expect_near(steps, nine, 3);
}

}  // namespace
}  // namespace weft::parallel::tests
