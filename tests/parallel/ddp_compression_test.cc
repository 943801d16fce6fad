// Training with compressed gradients.
#include "tensor/parallel/ddp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/parallel/small_model.h"

namespace weft::parallel {
namespace {

using namespace parallel::tests;  // NOLINT: the model under test

class DdpCompression : public testing::TestWithParam<std::tuple<Compression, int, int>> {};

TEST_P(DdpCompression, TrainsAlmostAsWithoutAndReplicasAreTheSame) {
  const auto [compression, world, accumulate] = GetParam();
  auto options = small_buckets();
  options.compression = compression;
  const auto exact = train_together(DType::f32, world, small_buckets(), accumulate);
  const auto compressed = train_together(DType::f32, world, options, accumulate);
  for (const auto& other : compressed) EXPECT_EQ(other, compressed[0]);
  if (world == 1) {
    EXPECT_EQ(compressed[0], exact[0]);
  } else {
    EXPECT_NE(compressed[0], exact[0]);
    EXPECT_LT(relative_distance(compressed[0], exact[0]), 5e-3);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DdpCompression,
                         testing::Combine(testing::Values(Compression::fp16, Compression::bf16,
                                                          Compression::int8),
                                          testing::Values(1, 2, 3, 4), testing::Values(1, 2)));

// The loss on the first batch after training on few batches again and again.
double loss_after_training(int steps, DdpOptions options) {
  double loss = 0;
  run_world(2, [&](Communicator& comm) {
    Model model(DType::f32);
    Ddp ddp(model.parameters, {}, comm, options);
    for (int step = 0; step < steps; ++step) {
      const auto [x, targets] = batch(DType::f32, step % 4, comm.rank() * 12, 12);
      ddp.backward(model.loss(x, targets));
      model.sgd_step(0.2);
    }
    const auto [x, targets] = batch(DType::f32, 0, 0, 24);
    if (comm.rank() == 0) loss = model.loss(x, targets).item();
  });
  return loss;
}

TEST(DdpTest, CompressedTrainingConvergesToNearlyTheSameLoss) {
  constexpr int kMany = 600;
  const double before = loss_after_training(0, small_buckets());
  const double plain = loss_after_training(kMany, small_buckets());
  EXPECT_LT(plain, before / 3);
  for (const auto compression : {Compression::bf16, Compression::fp16, Compression::int8}) {
    auto options = small_buckets();
    options.compression = compression;
    EXPECT_NEAR(loss_after_training(kMany, options), plain, 0.03 * plain) << name_of(compression);
  }
}

TEST(DdpTest, CompressionWithUnusedParameters) {
  run_world(2, [](Communicator& comm) {
    Model model(DType::f32);
    auto options = small_buckets();
    options.find_unused_parameters = true;
    options.compression = Compression::int8;
    Ddp ddp(model.parameters, {}, comm, options);
    auto& first = model.parameters[0].tensor;
    auto& second = model.parameters[2].tensor;
    for (int step = 0; step < 3; ++step) {
      ddp.backward(ops::sum(comm.rank() == 0 ? first : second));
      EXPECT_THAT(first.grad().to_vector<float>(), testing::Each(testing::FloatNear(0.5f, 1e-2f)));
      EXPECT_THAT(second.grad().to_vector<float>(), testing::Each(testing::FloatNear(0.5f, 1e-2f)));
      EXPECT_FALSE(model.parameters[1].tensor.grad().defined()) << "nobody used it";
      for (auto& entry : model.parameters) entry.tensor.zero_grad();
    }
  });
}

TEST(DdpTest, AFunctionCanSayWhatTravels) {
  int called = 0;
  auto options = small_buckets();
  const auto plain = train_together(DType::f32, 2, options);
  std::vector<std::vector<double>> results(2);
  run_world(2, [&](Communicator& comm) {
    Model model(DType::f32, 7);
    auto mine = options;
    mine.hook = make_comm_hook([&, rank = comm.rank()](const GradBucket& bucket, Communicator& c) {
      if (rank == 0) ++called;
      return c.all_reduce_async(
          comm::View(bucket.buffer.data(), Elems(bucket.buffer.numel()), bucket.buffer.dtype()),
          ReduceOp::avg);
    });
    Ddp ddp(model.parameters, {}, comm, mine);
    for (int step = 0; step < kSteps; ++step) {
      const auto [x, targets] = batch(DType::f32, step, comm.rank() * 12, 12);
      ddp.backward(model.loss(x, targets));
      model.sgd_step(0.1);
    }
    if (comm.rank() == 0) {
      EXPECT_GE(called, kSteps * 2);
    }
    results[static_cast<std::size_t>(comm.rank())] = model.values();
    mine.compression = Compression::bf16;
    EXPECT_THROW(Ddp(model.parameters, {}, comm, mine), InvalidArgument);
  });
  EXPECT_EQ(results[0], plain[0]);
  EXPECT_EQ(results[1], plain[1]);
}

}  // namespace
}  // namespace weft::parallel
