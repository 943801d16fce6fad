#include "tensor/data/sampler.h"

#include <algorithm>
#include <map>
#include <set>

#include "tensor/data/loader.h"
#include "tests/nn/helpers.h"

namespace weft::nn_test {
namespace {

using data::DistributedSampler;

std::vector<std::int64_t> dealt(data::SamplerOptions options, std::int64_t epoch = 0) {
  std::vector<std::int64_t> all;
  for (options.rank = 0; options.rank < options.world; ++options.rank) {
    DistributedSampler sampler(options);
    sampler.set_epoch(epoch);
    const auto mine = sampler.indices();
    EXPECT_EQ(static_cast<std::int64_t>(mine.size()), sampler.size());
    all.insert(all.end(), mine.begin(), mine.end());
  }
  return all;
}

TEST(Sampler, EverySampleOnceAnEpochOverAllRanks) {
  for (const int world : {1, 2, 3, 5, 8}) {
    for (const std::int64_t samples : {1, 7, 24, 101}) {
      auto all = dealt({.samples = samples, .world = world, .seed = 4});
      const auto padded = (samples + world - 1) / world * world;
      EXPECT_EQ(static_cast<std::int64_t>(all.size()), padded);
      std::map<std::int64_t, std::int64_t> times;
      for (const auto i : all) ++times[i];
      EXPECT_EQ(static_cast<std::int64_t>(times.size()), samples);
      // Filled up by starting again: nobody comes twice before all came once.
      for (const auto& [sample, count] : times) {
        EXPECT_GE(count, padded / samples);
        EXPECT_LE(count, (padded + samples - 1) / samples);
      }
    }
  }
}

TEST(Sampler, WithDropLastNobodyComesTwice) {
  auto all = dealt({.samples = 23, .world = 4, .seed = 1, .drop_last = true});
  EXPECT_EQ(all.size(), 20u);
  EXPECT_EQ(std::set<std::int64_t>(all.begin(), all.end()).size(), 20u);
}

TEST(Sampler, EpochsAndSeedsReorderAndRanksAgree) {
  const data::SamplerOptions options{.samples = 50, .world = 2, .seed = 9};
  EXPECT_EQ(dealt(options, 3), dealt(options, 3));
  EXPECT_NE(dealt(options, 3), dealt(options, 4));
  auto other = options;
  other.seed = 10;
  EXPECT_NE(dealt(options, 3), dealt(other, 3));
  auto plain = options;
  plain.shuffle = false;
  const auto order = dealt(plain);
  EXPECT_EQ(order[1], 2);   // rank 0: 0, 2, 4
  EXPECT_EQ(order[25], 1);  // rank 1: 1, 3, 5
}

TEST(Sampler, RefusesWhatMakesNoSense) {
  expect_error<InvalidArgument>([] { DistributedSampler({.samples = 0}); }, {"samples", "0"});
  expect_error<InvalidArgument>([] { DistributedSampler({.samples = 3, .rank = 2, .world = 2}); },
                                {"rank 2", "world of 2"});
  expect_error<InvalidArgument>([] { DistributedSampler({.samples = 3, .world = 0}); }, {"0"});
  expect_error<InvalidArgument>(
      [] { DistributedSampler({.samples = 3, .world = 4, .drop_last = true}); }, {"3", "4"});
}

std::multiset<float> seen(const data::DataLoader& loader) {
  std::multiset<float> values;
  std::int64_t batches = 0;
  for (const auto& batch : loader) {
    ++batches;
    EXPECT_EQ(batch.inputs.size(0), batch.targets.size(0));
    const auto labels = batch.targets.to_vector<std::int64_t>();
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const auto row = batch.inputs.select(0, static_cast<std::int64_t>(i)).contiguous();
      EXPECT_EQ(row.to_vector<float>()[1], static_cast<float>(10 * labels[i]));
      values.insert(static_cast<float>(labels[i]));
    }
  }
  EXPECT_EQ(batches, loader.size());
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

}  // namespace
}  // namespace weft::nn_test
