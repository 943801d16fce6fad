#include "tensor/data/sampler.h"

#include <algorithm>
#include <map>
#include <set>

#include "tensor/data/loader.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

using data::DistributedSampler;
using data::SamplerOptions;
using Samples = std::vector<std::int64_t>;

std::vector<DistributedSampler> on_all_ranks(SamplerOptions options) {
  std::vector<DistributedSampler> ranks;
  for (options.rank = 0; options.rank < options.world; ++options.rank) ranks.emplace_back(options);
  return ranks;
}

// What a step of all ranks takes, without those that stand in; adds up what each sample weighs.
Samples take(std::vector<DistributedSampler>& ranks, std::map<std::int64_t, double>& weighs,
             std::int64_t micro_batches = 1) {
  std::vector<std::vector<data::Share>> steps;
  for (auto& rank : ranks) steps.push_back(rank.next(micro_batches));
  Samples taken;
  for (std::size_t micro = 0; micro < steps[0].size(); ++micro) {
    for (const auto& step : steps) {
      EXPECT_EQ(step.size(), steps[0].size()) << "ranks that disagree would wait for ever";
      const auto& share = step.at(micro);
      EXPECT_FALSE(share.samples.empty());
      for (const auto sample : share.samples) {
        weighs[sample] += share.weight / static_cast<double>(share.samples.size()) /
                          static_cast<double>(steps.size());
        if (!share.is_stand_in()) taken.push_back(sample);
      }
    }
  }
  return taken;
}

Samples whole_epoch(SamplerOptions options, std::int64_t epoch) {
  auto ranks = on_all_ranks(options);
  std::map<std::int64_t, double> ignored;
  for (auto& rank : ranks) rank.set_epoch(epoch);
  Samples all;
  for (auto step = take(ranks, ignored); !step.empty(); step = take(ranks, ignored)) {
    all.insert(all.end(), step.begin(), step.end());
  }
  return all;
}

TEST(Sampler, EverySampleExactlyOnceAnEpochOverAllRanks) {
  for (const int world : {1, 2, 3, 5, 8}) {
    for (const std::int64_t samples : {1, 7, 24, 101}) {
      for (const std::int64_t batch : {1, 4}) {
        auto all =
            whole_epoch({.samples = samples, .world = world, .batch_size = batch, .seed = 4}, 0);
        EXPECT_EQ(static_cast<std::int64_t>(all.size()), samples);
        EXPECT_EQ(static_cast<std::int64_t>(std::set(all.begin(), all.end()).size()), samples)
            << world << " ranks, " << samples << " samples";
      }
    }
  }
}

TEST(Sampler, TheOrderDependsOnSeedAndEpochAlone) {
  const SamplerOptions options{.samples = 60, .world = 1, .seed = 9};
  const auto wanted = whole_epoch(options, 3);
  EXPECT_EQ(whole_epoch(options, 3), wanted);
  EXPECT_NE(whole_epoch(options, 4), wanted);
  auto other = options;
  other.seed = 10;
  EXPECT_NE(whole_epoch(other, 3), wanted);
  // Step by step the same samples, whoever takes them.
  for (const int world : {2, 3, 6}) {
    for (const std::int64_t batch : {1, 2, 5}) {
      auto ranks = on_all_ranks({.samples = 60, .world = world, .batch_size = batch, .seed = 9});
      for (auto& rank : ranks) rank.set_epoch(3);
      std::map<std::int64_t, double> ignored;
      auto begin = wanted.begin();
      for (auto step = take(ranks, ignored); !step.empty(); step = take(ranks, ignored)) {
        const auto end = begin + static_cast<std::ptrdiff_t>(step.size());
        EXPECT_EQ(std::multiset(step.begin(), step.end()), std::multiset(begin, end))
            << world << " ranks with " << batch;
        begin = end;
      }
      EXPECT_EQ(begin, wanted.end());
    }
  }
}

TEST(Sampler, WithoutShufflingRanksTakeTurns) {
  auto ranks = on_all_ranks({.samples = 7, .world = 2, .batch_size = 2, .shuffle = false});
  EXPECT_EQ(ranks[0].next()[0].samples, (Samples{0, 2}));
  EXPECT_EQ(ranks[1].next()[0].samples, (Samples{1, 3}));
  EXPECT_EQ(ranks[0].next()[0].samples, (Samples{4, 6}));
  EXPECT_EQ(ranks[1].next()[0].samples, (Samples{5}));
  EXPECT_TRUE(ranks[0].next().empty());
  EXPECT_TRUE(ranks[0].next().empty()) << "until set_epoch()";
}

TEST(Sampler, WeightsMakeEverySampleOfAStepCountTheSame) {
  for (const int world : {1, 2, 3, 4, 7}) {
    for (const std::int64_t samples : {5, 9, 10, 29}) {
      for (const std::int64_t micro : {1, 3}) {
        auto ranks = on_all_ranks({.samples = samples, .world = world, .batch_size = 2});
        for (int step = 0; ranks[0].batches_left() > 0; ++step) {
          ASSERT_LT(step, 100);
          std::map<std::int64_t, double> weighs;
          const auto taken = take(ranks, weighs, micro);
          ASSERT_FALSE(taken.empty());
          for (const auto sample : taken) {
            EXPECT_NEAR(weighs[sample], 1.0 / static_cast<double>(taken.size()), 1e-12)
                << world << " ranks, " << samples << " samples, step " << step;
          }
        }
      }
    }
  }
  DistributedSampler full({.samples = 24, .rank = 2, .world = 3, .batch_size = 8});
  EXPECT_EQ(full.next()[0].weight, 1.0) << "exactly, so that it changes no bit";
}

TEST(Sampler, ARankWithoutSamplesStandsIn) {
  auto ranks = on_all_ranks({.samples = 2, .world = 4, .batch_size = 8, .shuffle = false});
  EXPECT_EQ(ranks[1].next()[0].weight, 2.0);
  const auto idle = ranks[3].next();
  EXPECT_TRUE(idle[0].is_stand_in());
  EXPECT_EQ(idle[0].samples, Samples{0});
  EXPECT_TRUE(ranks[3].next().empty());
}

TEST(Sampler, DropLastKeepsFullBatchesOnly) {
  const auto all = whole_epoch({.samples = 23, .world = 2, .batch_size = 5, .drop_last = true}, 1);
  EXPECT_EQ(all.size(), 20u);
  EXPECT_EQ(std::set(all.begin(), all.end()).size(), 20u);
  DistributedSampler one(
      {.samples = 23, .rank = 0, .world = 2, .batch_size = 5, .drop_last = true});
  EXPECT_EQ(one.batches(), 2);
  EXPECT_EQ(one.next(5).size(), 2u);
  EXPECT_EQ(one.batches_left(), 0);
}

// The promise of a checkpoint in the middle of an epoch, for every pair of worlds.
TEST(Sampler, ResumesMidEpochOnAnyNumberOfRanks) {
  constexpr std::int64_t kSamples = 53;
  for (const int before : {1, 2, 3, 5}) {
    for (const int after : {1, 2, 4, 7}) {
      for (const std::int64_t steps : {0, 1, 4}) {
        auto first =
            on_all_ranks({.samples = kSamples, .world = before, .batch_size = 2, .seed = 5});
        for (auto& rank : first) rank.set_epoch(6);
        std::map<std::int64_t, double> ignored;
        Samples seen;
        const auto note = [&](const Samples& step) {
          seen.insert(seen.end(), step.begin(), step.end());
        };
        for (std::int64_t s = 0; s < steps; ++s) note(take(first, ignored));
        const auto saved = first[0].save();
        for (auto& rank : first) EXPECT_EQ(rank.save(), saved) << "the same on every rank";

        auto second =
            on_all_ranks({.samples = kSamples, .world = after, .batch_size = 3, .seed = 5});
        for (auto& rank : second) rank.restore(saved);
        EXPECT_EQ(second[0].epoch(), 6);
        for (auto step = take(second, ignored); !step.empty(); step = take(second, ignored)) {
          note(step);
        }
        EXPECT_EQ(seen.size(), std::size_t{kSamples}) << before << " to " << after;
        EXPECT_EQ(std::set(seen.begin(), seen.end()).size(), std::size_t{kSamples});
      }
    }
  }
}

TEST(Sampler, ResumingGivesTheVeryBatchesThatWouldHaveCome) {
  const SamplerOptions options{.samples = 40, .rank = 1, .world = 3, .batch_size = 2, .seed = 2};
  DistributedSampler whole(options), resumed(options);
  whole.set_epoch(2);
  whole.next(2);
  resumed.restore(whole.save());
  while (true) {
    const auto a = whole.next(2), b = resumed.next(2);
    ASSERT_EQ(a.size(), b.size());
    if (a.empty()) break;
    for (std::size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].samples, b[i].samples);
      EXPECT_EQ(a[i].weight, b[i].weight);
    }
  }
}

TEST(Sampler, RestoreRefusesWhatIsNotItsOwn) {
  DistributedSampler sampler({.samples = 10, .seed = 3});
  sampler.set_epoch(1);
  sampler.next();
  const auto saved = sampler.save();
  EXPECT_EQ(saved, "sampler samples=10 seed=3 shuffle=1 epoch=1 position=1");
  for (const auto* bad :
       {"", "sampler", "sampler samples=10 seed=3 shuffle=1 epoch=1 position=",
        "sampler samples=10 seed=3 shuffle=1 epoch=1 position=1 ",
        "sampler samples=10 seed=3 shuffle=1 epoch=1 position=11",
        "sampler samples=10 seed=3 shuffle=1 epoch=-1 position=1",
        "sampler samples=10 seed=3 shuffle=2 epoch=1 position=1",
        "sampler samples=99999999999999999999 seed=3 shuffle=1 epoch=1 position=1",
        "sampler  samples=10 seed=3 shuffle=1 epoch=1 position=1"}) {
    expect_error<Corrupt>([&] { sampler.restore(bad); }, {"no saved position", "Expected"});
  }
  expect_error<Mismatch>(
      [&] { sampler.restore("sampler samples=11 seed=3 shuffle=1 epoch=0 position=1"); },
      {"samples 11", "has 10"});
  expect_error<Mismatch>(
      [&] { sampler.restore("sampler samples=10 seed=4 shuffle=1 epoch=0 position=1"); },
      {"seed 4", "has 3"});
  expect_error<Mismatch>(
      [&] { sampler.restore("sampler samples=10 seed=3 shuffle=0 epoch=0 position=1"); },
      {"shuffle 0"});
  EXPECT_EQ(sampler.save(), saved) << "nothing changed";
}

TEST(Sampler, RefusesWhatMakesNoSense) {
  expect_error<InvalidArgument>([] { DistributedSampler({.samples = 0}); }, {"samples", "0"});
  expect_error<InvalidArgument>([] { DistributedSampler({.samples = 3, .rank = 2, .world = 2}); },
                                {"rank 2", "world of 2"});
  expect_error<InvalidArgument>([] { DistributedSampler({.samples = 3, .world = 0}); }, {"0"});
  expect_error<InvalidArgument>([] { DistributedSampler({.samples = 3, .batch_size = 0}); }, {"0"});
  expect_error<InvalidArgument>(
      [] { DistributedSampler({.samples = 7, .world = 4, .batch_size = 2, .drop_last = true}); },
      {"7", "4 ranks with 2"});
  DistributedSampler sampler({.samples = 3});
  expect_error<InvalidArgument>([&] { sampler.set_epoch(-1); }, {"-1"});
  expect_error<InvalidArgument>([&] { sampler.next(0); }, {"0"});
}

std::multiset<float> seen(data::DataLoader loader) {
  std::multiset<float> values;
  std::int64_t batches = 0;
  for (const auto& batch : loader) {
    if (batch.weight == 0.0) continue;  // stands in for nothing
    ++batches;
    EXPECT_EQ(batch.inputs.size(0), batch.targets.size(0));
    const auto labels = batch.targets.to_vector<std::int64_t>();
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const auto row = batch.inputs.select(0, static_cast<std::int64_t>(i)).contiguous();
      EXPECT_EQ(row.to_vector<float>()[1], static_cast<float>(10 * labels[i]));
      values.insert(static_cast<float>(labels[i]));
    }
  }
  EXPECT_LE(batches, loader.size());
  return values;
}

TEST(DataLoader, KeepsInputsWithTargetsAndSharesOut) {
  std::vector<float> inputs;
  std::vector<std::int64_t> targets;
  for (int i = 0; i < 10; ++i) {
    inputs.insert(inputs.end(), {-1.0f, 10.0f * static_cast<float>(i)});
    targets.push_back(i);
  }
  const data::DataLoader loader(Tensor::from(inputs, {10, 2}), Tensor::from(targets, {10}),
                                {.batch_size = 4, .seed = 1});
  EXPECT_EQ(loader.size(), 3);
  EXPECT_EQ(seen(loader).size(), 10u);
  auto both = seen(loader.share(0, 2));
  both.merge(seen(loader.share(1, 2)));
  EXPECT_EQ(both, seen(loader));
  auto three = seen(loader.share(0, 3));
  three.merge(seen(loader.share(1, 3)));
  three.merge(seen(loader.share(2, 3)));
  EXPECT_EQ(three, seen(loader)) << "10 samples: 8 + 2, of which one rank gets none";
  const data::DataLoader full(Tensor::from(inputs, {10, 2}), Tensor::from(targets, {10}),
                              {.batch_size = 4, .drop_last = true});
  EXPECT_EQ(seen(full).size(), 8u);
  expect_error<InvalidArgument>(
      [&] {
        data::DataLoader(Tensor::from(inputs, {10, 2}), Tensor::zeros({9}));
      },
      {"10", "9"});
  expect_error<InvalidArgument>(
      [&] { data::DataLoader(Tensor::zeros({1}), Tensor::zeros({1}), {.batch_size = 0}); }, {"0"});
  expect_error<InvalidArgument>([&] { data::DataLoader(Tensor::scalar(1), Tensor::zeros({1})); },
                                {"inputs"});
}

TEST(DataLoader, IteratesAnewFromTheBeginningAndGoesOnWhereItIsTold) {
  const auto numbers = Tensor::arange(10, {DType::i64});
  data::DataLoader loader(numbers, numbers, {.batch_size = 3, .seed = 8});
  loader.set_epoch(4);
  std::vector<std::vector<std::int64_t>> batches;
  std::string after_two;
  for (const auto& batch : loader) {
    batches.push_back(batch.inputs.to_vector<std::int64_t>());
    if (batches.size() == 2) after_two = loader.save();  // the batch at hand counts as done
  }
  ASSERT_EQ(batches.size(), 4u);
  for (const auto& batch : loader) {
    EXPECT_EQ(batch.inputs.to_vector<std::int64_t>(), batches[0]) << "an epoch starts anew";
    break;
  }
  data::DataLoader resumed(numbers, numbers, {.batch_size = 3, .seed = 8});
  resumed.restore(after_two);
  std::size_t i = 2;
  for (const auto& batch : resumed) {
    ASSERT_LT(i, batches.size());
    EXPECT_EQ(batch.inputs.to_vector<std::int64_t>(), batches[i++]);
  }
  EXPECT_EQ(i, batches.size());
  EXPECT_EQ(
      seen(data::DataLoader(Tensor::zeros({10, 2}), Tensor::zeros({10}, {DType::i64}))).size(),
      10u);
  expect_error<Mismatch>(
      [&] {
        data::DataLoader(Tensor::zeros({9}), Tensor::zeros({9}), {.seed = 8}).restore(after_two);
      },
      {"samples 10"});
}

}  // namespace
}  // namespace weft::nn_test
