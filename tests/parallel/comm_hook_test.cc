// What travels instead of gradients: by itself, and in training.
#include "tensor/parallel/comm_hook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/base/half.h"
#include "tensor/parallel/int8_hook.h"
#include "tests/parallel/in_process_world.h"
#include "tests/support/noise.h"

namespace weft::parallel {
namespace {

using weft::tests::noise;
using weft::tests::run_world;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<GradBucket> make_grads(const std::vector<std::int64_t>& lengths,
                                   DType dtype = DType::f32) {
  std::vector<GradBucket> buckets;
  for (const auto length : lengths) {
    auto& bucket = buckets.emplace_back();
    bucket.index = static_cast<std::int32_t>(buckets.size()) - 1;
    bucket.buffer = Tensor::zeros({length}, {dtype});
    bucket.parts.push_back({bucket.index, Elems(0), Elems(length)});
  }
  return buckets;
}

void average(CommHook& hook, const std::vector<GradBucket>& buckets, Communicator& comm) {
  for (const auto& bucket : buckets) hook.launch(bucket, comm);
  for (const auto& bucket : buckets) hook.proceed(bucket, comm);
  for (const auto& bucket : buckets) hook.finish(bucket, comm);
}

// Mostly large values next to small ones that always point the same way: those are below half a
// scale and would never arrive by themselves.
float gradient(int rank, int step, std::int64_t i) {
  if (i % 5 == 0) return 2e-4f;
  return (i % 7 == 0 ? 1.0f : 0.05f) * noise(rank * 1000 + step, i);
}

// Largest difference between the sums over `steps` of what arrived and of the true averages.
double tracking_error(int world, const std::vector<std::int64_t>& lengths, int steps,
                      bool feedback = true) {
  std::vector<std::vector<float>> last(static_cast<std::size_t>(world));
  std::vector<double> worst(static_cast<std::size_t>(world));
  run_world(world, [&](Communicator& comm) {
    const auto buckets = make_grads(lengths);
    auto hook = make_comm_hook(Compression::int8);
    hook->regroup(buckets);
    std::vector<std::vector<double>> owed;
    for (const auto length : lengths) owed.emplace_back(static_cast<std::size_t>(length));
    auto& mine = last[static_cast<std::size_t>(comm.rank())];
    for (int step = 0; step < steps; ++step) {
      for (const auto& bucket : buckets) {
        auto* values = bucket.buffer.data<float>();
        auto& sums = owed[static_cast<std::size_t>(bucket.index)];
        for (std::size_t i = 0; i < sums.size(); ++i) {
          const auto at = static_cast<std::int64_t>(i) + bucket.index * 100'000;
          values[i] = gradient(comm.rank(), step, at);
          for (int r = 0; r < world; ++r) sums[i] += double{gradient(r, step, at)} / world;
        }
      }
      average(*hook, buckets, comm);
      if (!feedback) {
        hook = make_comm_hook(Compression::int8);
        hook->regroup(buckets);
      }
      for (const auto& bucket : buckets) {
        const auto* values = bucket.buffer.data<float>();
        auto& sums = owed[static_cast<std::size_t>(bucket.index)];
        for (std::size_t i = 0; i < sums.size(); ++i) {
          sums[i] -= values[i];
          auto& most = worst[static_cast<std::size_t>(comm.rank())];
          most = std::max(most, std::fabs(sums[i]));
          mine.push_back(values[i]);
        }
      }
    }
  });
  for (const auto& other : last) {
    EXPECT_EQ(std::memcmp(other.data(), last[0].data(), other.size() * sizeof(float)), 0)
        << "replicas differ, " << world << " ranks";
  }
  return *std::max_element(worst.begin(), worst.end());
}

TEST(Int8Hook, WhatArrivesFollowsTheTrueAveragesWhateverTheNumberOfSteps) {
  for (const int world : {2, 3, 4}) {
    // One step, and many: the bound is the same. G is 1; f32's own roundings are far below it.
    EXPECT_LE(tracking_error(world, {16, 256, 1000, 5003, 700}, 1), 1.0 / 60) << world;
    EXPECT_LE(tracking_error(world, {16, 256, 1000, 700}, 400), 1.0 / 120) << world;
  }
}

TEST(Int8Hook, WithoutFeedbackTheyWouldNot) {
  EXPECT_GT(tracking_error(2, {1000}, 400, false), 2.0 / 60);
}

TEST(Int8Hook, ResidualsFollowTheirParametersIntoOtherBuckets) {
  run_world(3, [](Communicator& comm) {
    Int8Hook hook;
    std::vector<GradBucket> before = make_grads({320, 1000});
    before[0].parts = {{7, Elems(0), Elems(100)}, {3, Elems(112), Elems(200)}};
    before[1].parts = {{5, Elems(0), Elems(1000)}};
    hook.regroup(before);
    for (const auto& bucket : before) {
      auto* values = bucket.buffer.data<float>();
      for (std::int64_t i = 0; i < bucket.buffer.numel(); ++i) {
        values[i] = noise(comm.rank() + 3 * bucket.index, i);
      }
    }
    average(hook, before, comm);
    const auto old0 = hook.residual(0).to_vector<float>();
    const auto old1 = hook.residual(1).to_vector<float>();
    EXPECT_THAT(old0, testing::Contains(testing::Ne(0.0f)));
    std::vector<GradBucket> after = make_grads({1216, 112});
    after[0].parts = {{5, Elems(0), Elems(1000)}, {3, Elems(1008), Elems(200)}};
    after[1].parts = {{7, Elems(0), Elems(100)}};
    hook.regroup(after);
    const auto new0 = hook.residual(0).to_vector<float>();
    const auto new1 = hook.residual(1).to_vector<float>();
    const auto same = [](const std::vector<float>& a, std::size_t at, const std::vector<float>& b,
                         std::size_t from, std::size_t count) {
      return std::equal(a.begin() + static_cast<std::ptrdiff_t>(at),
                        a.begin() + static_cast<std::ptrdiff_t>(at + count),
                        b.begin() + static_cast<std::ptrdiff_t>(from));
    };
    EXPECT_TRUE(same(new0, 0, old1, 0, 1000));
    EXPECT_TRUE(same(new0, 1008, old0, 112, 200));
    EXPECT_TRUE(same(new1, 0, old0, 0, 100));
    average(hook, after, comm);  // in their new places they work on
  });
}

TEST(Int8Hook, WhatIsNotFiniteMakesItsBlockNaNEverywhereAndIsForgotten) {
  run_world(3, [](Communicator& comm) {
    const auto buckets = make_grads({1500});
    Int8Hook hook;
    hook.regroup(buckets);
    const Tensor& buffer = buckets[0].buffer;
    for (const float bad : {kNaN, std::numeric_limits<float>::infinity()}) {
      buffer.fill_(comm.rank() + 1.0);
      if (comm.rank() == 1) buffer.data<float>()[700] = bad;
      average(hook, buckets, comm);
      for (std::int64_t i = 0; i < 1500; ++i) {
        ASSERT_EQ(std::isnan(buffer.data<float>()[i]), i / 256 == 700 / 256) << i;
      }
    }
    buffer.fill_(comm.rank() + 1.0);
    average(hook, buckets, comm);
    EXPECT_THAT(buffer.to_vector<float>(), testing::Each(testing::FloatNear(2.0f, 2.0f / 60)));
  });
}

TEST(CommHooks, OtherTypesTravelAsTheyAre) {
  for (const Compression compression :
       {Compression::none, Compression::fp16, Compression::bf16, Compression::int8}) {
    run_world(3, [&](Communicator& comm) {
      const auto buckets = make_grads({100, 30, 7}, DType::f64);
      const auto hook = make_comm_hook(compression);
      hook->regroup(buckets);
      for (const auto& bucket : buckets) bucket.buffer.fill_(comm.rank() + 1e-9);
      average(*hook, buckets, comm);
      for (const auto& bucket : buckets) {
        EXPECT_THAT(bucket.buffer.to_vector<double>(), testing::Each(1 + 1e-9))
            << name_of(compression);
      }
    });
  }
}

TEST(CommHooks, Fp16DividesBeforeItSums) {
  run_world(4, [](Communicator& comm) {
    const auto buckets = make_grads({64});
    const auto hook = make_comm_hook(Compression::fp16);
    hook->regroup(buckets);
    buckets[0].buffer.fill_(60'000.0);  // the sum is beyond f16, the average is not
    average(*hook, buckets, comm);
    EXPECT_THAT(buckets[0].buffer.to_vector<float>(), testing::Each(60'000.0f));
  });
}

TEST(CommHooks, Bf16RoundsTheAverage) {
  run_world(2, [](Communicator& comm) {
    const auto buckets = make_grads({64});
    const auto hook = make_comm_hook(Compression::bf16);
    hook->regroup(buckets);
    buckets[0].buffer.fill_(comm.rank() == 0 ? 1.0 : 1.0 + 0x1p-6);
    average(*hook, buckets, comm);
    EXPECT_THAT(buckets[0].buffer.to_vector<float>(), testing::Each(1.0f + 0x1p-7f));
  });
}

TEST(CommHooks, Names) {
  for (const char* name : {"none", "fp16", "bf16", "int8"}) {
    ASSERT_TRUE(parse_compression(name).has_value()) << name;
    EXPECT_EQ(name_of(*parse_compression(name)), name);
  }
  EXPECT_EQ(parse_compression("int4"), std::nullopt);
  EXPECT_THROW(make_comm_hook(AverageFunction()), InvalidArgument);
}

}  // namespace
}  // namespace weft::parallel
