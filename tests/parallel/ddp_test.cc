#include "tensor/parallel/ddp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <mutex>

#include "kernels/optimizer.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/nn.h"
#include "tensor/random.h"
#include "tests/parallel/in_process_world.h"

namespace weft::parallel {
namespace {

using tensor::Generator;
using tests::message_of;
using tests::run_world;
using tests::run_world_catching;

// Two layers and a loss, small enough to train in a test and large enough to fill several buckets.
struct Model {
  explicit Model(DType dtype, std::uint64_t seed = 7, std::int64_t hidden = 24) {
    Generator generator(seed);
    const auto weight = [&](Shape shape) {
      Tensor t = ops::mul(Tensor::randn(std::move(shape), generator, {dtype}), 0.2).detach();
      t.set_requires_grad(true);
      return t;
    };
    parameters = {{"first.weight", weight({hidden, 10})},
                  {"first.bias", weight({hidden})},
                  {"second.weight", weight({5, hidden})},
                  {"second.bias", weight({5})}};
  }
  Tensor loss(const Tensor& x, const Tensor& targets) const {
    const auto h = ops::tanh(ops::linear(x, parameters[0].tensor, parameters[1].tensor));
    return ops::cross_entropy(ops::linear(h, parameters[2].tensor, parameters[3].tensor), targets);
  }
  void sgd_step(double rate) {
    for (auto& [name, p] : parameters) {
      kernels::SgdTensor t;
      t.parameter = p.data();
      t.gradient = p.grad().data();
      t.count = Elems(p.numel());
      t.parameter_type = t.gradient_type = p.dtype();
      kernels::SgdParams params;
      params.learning_rate = rate;
      kernels::sgd({&t, 1}, params);
      p.zero_grad();
    }
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const auto& [name, p] : parameters) {
      for (const double v : p.to(DType::f64).to_vector<double>()) all.push_back(v);
    }
    return all;
  }
  std::vector<NamedTensor> parameters;
};

struct Batch {
  Tensor x, targets;
};

// `rows` examples of step `step`, from row `begin` of a stream that is the same for everybody.
Batch batch(DType dtype, int step, std::int64_t begin, std::int64_t rows) {
  constexpr std::int64_t kRowsAll = 24;
  Generator generator(100 + static_cast<std::uint64_t>(step));
  const auto x = Tensor::randn({kRowsAll, 10}, generator, {DType::f64}).to(dtype);
  std::vector<std::int64_t> targets;
  for (std::int64_t i = 0; i < kRowsAll; ++i) targets.push_back((i * 7 + step) % 5);
  return {x.narrow(0, begin, rows).contiguous(),
          Tensor::from(targets, {kRowsAll}).narrow(0, begin, rows).contiguous()};
}

constexpr int kSteps = 20;

std::vector<double> train_alone(DType dtype) {
  Model model(dtype);
  for (int step = 0; step < kSteps; ++step) {
    const auto [x, targets] = batch(dtype, step, 0, 24);
    model.loss(x, targets).backward();
    model.sgd_step(0.1);
  }
  return model.values();
}

std::vector<std::vector<double>> train_together(DType dtype, int world, DdpOptions options,
                                                int accumulate = 1) {
  std::vector<std::vector<double>> results(static_cast<std::size_t>(world));
  run_world(world, [&](Communicator& comm) {
    Model model(dtype, 7 + static_cast<std::uint64_t>(comm.rank()));  // rank 0's values win
    Ddp ddp(model.parameters, {}, comm, options);
    const std::int64_t share = 24 / world;
    const std::int64_t micro = share / accumulate;
    for (int step = 0; step < kSteps; ++step) {
      for (int m = 0; m < accumulate; ++m) {
        const auto [x, targets] = batch(dtype, step, comm.rank() * share + m * micro, micro);
        const auto loss = ops::mul(model.loss(x, targets), 1.0 / accumulate);
        if (m + 1 < accumulate) {
          const Ddp::NoSync no_sync(ddp);
          ddp.backward(loss);
        } else {
          ddp.backward(loss);
        }
      }
      model.sgd_step(0.1);
    }
    results[static_cast<std::size_t>(comm.rank())] = model.values();
  });
  return results;
}

double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

DdpOptions small_buckets() {
  DdpOptions options;
  options.first_bucket_bytes = Bytes(64);
  options.bucket_bytes = Bytes(512);
  return options;
}

class DdpEqualsOneProcess : public testing::TestWithParam<std::tuple<DType, int, int>> {};

TEST_P(DdpEqualsOneProcess, OnTheConcatenatedBatch) {
  const auto [dtype, world, accumulate] = GetParam();
  const auto alone = train_alone(dtype);
  const auto together = train_together(dtype, world, small_buckets(), accumulate);
  const double bound = dtype == DType::f64 ? 1e-12 : 1e-5;
  EXPECT_LT(relative_distance(together[0], alone), bound);
  for (int r = 1; r < world; ++r)
    EXPECT_EQ(together[static_cast<std::size_t>(r)], together[0]) << "rank " << r;
}

INSTANTIATE_TEST_SUITE_P(Worlds, DdpEqualsOneProcess,
                         testing::Combine(testing::Values(DType::f64, DType::f32),
                                          testing::Values(1, 2, 3, 4), testing::Values(1, 2)));

TEST(DdpTest, TwoRunsGiveTheSameBits) {
  EXPECT_EQ(train_together(DType::f32, 3, small_buckets()),
            train_together(DType::f32, 3, small_buckets()));
}

TEST(DdpTest, GradientsAreViewsOfBucketsRebuiltInReadyOrder) {
  run_world(2, [](Communicator& comm) {
    Model model(DType::f32);
    Ddp ddp(model.parameters, {}, comm, small_buckets());
    const auto first = ddp.bucket_layout();
    EXPECT_EQ(first.front().front(), "second.bias");  // last registered, first reached
    for (int step = 0; step < 3; ++step) {
      const auto [x, targets] = batch(DType::f32, step, comm.rank() * 6, 6);
      ddp.backward(model.loss(x, targets));
    }
    std::size_t names = 0;
    for (const auto& bucket : ddp.bucket_layout()) names += bucket.size();
    EXPECT_EQ(names, model.parameters.size());
    EXPECT_GT(ddp.bucket_count(), 1);
    // Neighbours of one bucket share a storage, and hold the averaged gradient there.
    for (const auto& [name, p] : model.parameters) EXPECT_EQ(p.grad().shape(), p.shape()) << name;
  });
}

TEST(DdpTest, ReportsTimesOfTheLastBackward) {
  run_world(2, [](Communicator& comm) {
    Model model(DType::f32);
    Ddp ddp(model.parameters, {}, comm, small_buckets());
    const auto [x, targets] = batch(DType::f32, 0, 0, 6);
    ddp.backward(model.loss(x, targets));
    EXPECT_GT(ddp.last_times().communication.count(), 0);
  });
}

TEST(DdpTest, UnusedParametersAreAnErrorWithTheirNames) {
  const auto errors = run_world_catching(2, [](Communicator& comm) {
    Model model(DType::f32);
    Ddp ddp(model.parameters, {}, comm, small_buckets());
    ddp.backward(ops::sum(model.parameters[0].tensor));
  });
  for (const auto& error : errors) {
    EXPECT_THAT(message_of(error), testing::HasSubstr("second.bias"));
    EXPECT_THAT(message_of(error), testing::HasSubstr("ddp_find_unused_parameters_true"));
  }
}

TEST(DdpTest, FindUnusedAveragesWhatSomeRankUsed) {
  run_world(2, [](Communicator& comm) {
    Model model(DType::f64);
    auto options = small_buckets();
    options.find_unused_parameters = true;
    Ddp ddp(model.parameters, {}, comm, options);
    auto& first = model.parameters[0].tensor;   // rank 0 uses it
    auto& second = model.parameters[2].tensor;  // rank 1 uses it
    for (int step = 0; step < 2; ++step) {
      ddp.backward(ops::sum(comm.rank() == 0 ? first : second));
      EXPECT_THAT(first.grad().to_vector<double>(), testing::Each(0.5));
      EXPECT_THAT(second.grad().to_vector<double>(), testing::Each(0.5));
      EXPECT_FALSE(model.parameters[1].tensor.grad().defined()) << "nobody used it";
      for (auto& entry : model.parameters) entry.tensor.zero_grad();
    }
  });
}

TEST(DdpTest, FindUnusedReducesWithARankThatUsedNothing) {
  run_world(2, [](Communicator& comm) {
    Model model(DType::f64);
    auto options = small_buckets();
    options.find_unused_parameters = true;
    Ddp ddp(model.parameters, {}, comm, options);
    auto& first = model.parameters[0].tensor;
    Tensor stranger = Tensor::full({1}, 1.0, {DType::f64}).set_requires_grad(true);
    ddp.backward(ops::sum(comm.rank() == 0 ? first : stranger));
    EXPECT_THAT(first.grad().to_vector<double>(), testing::Each(0.5));
    comm.barrier();
  });
}

TEST(DdpTest, ALossThatReachesNoParameterIsAnError) {
  const auto errors = run_world_catching(2, [](Communicator& comm) {
    Model model(DType::f32);
    Ddp ddp(model.parameters, {}, comm);
    ddp.backward(ops::sum(Tensor::full({1}, 1.0).set_requires_grad(true)));
  });
  for (const auto& error : errors) {
    EXPECT_THAT(message_of(error), testing::HasSubstr("4 of 4 parameters"));
  }
}

TEST(DdpTest, AFailedBackwardIsNotFollowedByAnother) {
  const auto errors = run_world_catching(2, [](Communicator& comm) {
    Model model(DType::f32);
    Ddp ddp(model.parameters, {}, comm, small_buckets());
    try {
      // The first bucket leaves, the others never do.
      ddp.backward(ops::sum(model.parameters[3].tensor));
    } catch (const InvalidArgument&) {
    }
    const auto [x, targets] = batch(DType::f32, 0, 0, 6);
    ddp.backward(model.loss(x, targets));
  });
  for (const auto& error : errors) {
    EXPECT_THAT(message_of(error), testing::HasSubstr("make a new Ddp"));
  }
}

TEST(DdpTest, FrozenHereAndTrainedThereIsNamed) {
  const auto errors = run_world_catching(2, [](Communicator& comm) {
    Model model(DType::f32);
    if (comm.rank() == 1) model.parameters[1].tensor.set_requires_grad(false);
    Ddp ddp(model.parameters, {}, comm);
  });
  for (const auto& error : errors) {
    EXPECT_THAT(message_of(error), testing::HasSubstr("rank 1 has 'first.bias (24,) f32, frozen'"));
  }
}

TEST(DdpTest, FrozenParametersAreBroadcastAndNotReduced) {
  run_world(2, [](Communicator& comm) {
    Model model(DType::f32, 7 + static_cast<std::uint64_t>(comm.rank()));
    model.parameters[0].tensor.set_requires_grad(false);
    Ddp ddp(model.parameters, {}, comm, small_buckets());
    EXPECT_EQ(model.values(), Model(DType::f32, 7).values());
    const auto [x, targets] = batch(DType::f32, 0, 0, 6);
    ddp.backward(model.loss(x, targets));
    EXPECT_FALSE(model.parameters[0].tensor.grad().defined());
    EXPECT_TRUE(model.parameters[2].tensor.grad().defined());
  });
}

TEST(DdpTest, BuffersAreBroadcast) {
  run_world(3, [](Communicator& comm) {
    Model model(DType::f32);
    Tensor running = Tensor::full({4}, comm.rank());
    Ddp ddp(model.parameters, {{"running", running}}, comm);
    EXPECT_THAT(running.to_vector<float>(), testing::Each(0.0f));
    running.fill_(comm.rank() + 5);
    ddp.broadcast_buffers();
    EXPECT_THAT(running.to_vector<float>(), testing::Each(5.0f));
  });
}

TEST(DdpTest, AnotherShapeIsNamedOnEveryRank) {
  const auto errors = run_world_catching(3, [](Communicator& comm) {
    Model model(DType::f32, 7, comm.rank() == 2 ? 25 : 24);
    Ddp ddp(model.parameters, {}, comm);
  });
  for (const auto& error : errors) {
    EXPECT_THAT(message_of(error), testing::HasSubstr("'first.weight (24, 10) f32, trained'"));
    EXPECT_THAT(message_of(error),
                testing::HasSubstr("rank 2 has 'first.weight (25, 10) f32, trained'"));
  }
}

TEST(DdpTest, OneParameterMoreIsNamedOnEveryRank) {
  const auto errors = run_world_catching(2, [](Communicator& comm) {
    Model model(DType::f32);
    if (comm.rank() == 1)
      model.parameters.push_back({"extra", Tensor::zeros({3}).set_requires_grad(true)});
    Ddp ddp(model.parameters, {}, comm);
  });
  for (const auto& error : errors)
    EXPECT_THAT(message_of(error), testing::HasSubstr("extra (3,) f32"));
}

TEST(DdpTest, BackwardOfTheLossItselfIsRefused) {
  const auto errors = run_world_catching(2, [](Communicator& comm) {
    Model model(DType::f32);
    Ddp ddp(model.parameters, {}, comm);
    const auto [x, targets] = batch(DType::f32, 0, 0, 6);
    model.loss(x, targets).backward();
  });
  for (const auto& error : errors)
    EXPECT_THAT(message_of(error), testing::HasSubstr("outside Ddp::backward()"));
}

class DdpCompression : public testing::TestWithParam<Compression> {};

TEST_P(DdpCompression, StaysWithinTheHalfTypesError) {
  auto options = small_buckets();
  options.compression = GetParam();
  const auto exact = train_together(DType::f32, 2, small_buckets());
  const auto compressed = train_together(DType::f32, 2, options);
  EXPECT_EQ(compressed[0], compressed[1]);
  EXPECT_NE(compressed[0], exact[0]);
  EXPECT_LT(relative_distance(compressed[0], exact[0]), 5e-3);
}

INSTANTIATE_TEST_SUITE_P(Types, DdpCompression,
                         testing::Values(Compression::fp16, Compression::bf16));

}  // namespace
}  // namespace weft::parallel
