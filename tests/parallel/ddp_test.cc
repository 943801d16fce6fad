#include "tensor/parallel/ddp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/parallel/small_model.h"

namespace weft::parallel {
namespace {

using namespace parallel::tests;  // NOLINT: the model under test
using weft::tests::message_of;
using weft::tests::run_world_catching;

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

}  // namespace
}  // namespace weft::parallel
