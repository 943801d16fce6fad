// Cross entropy, embedding and dropout on a device against the CPU's, and how bad indices are told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/dropout.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/faults.h"
#include "tests/gpu/device_array.h"
#include "tests/gpu/read_loss.h"

namespace weft::kernels {
namespace {

using cuda::Stream;
using testing::HasSubstr;
constexpr Stream kDefault = nullptr;

class LossDeviceTest : public DeviceTest {};

template <class T>
using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class I>
std::vector<I> indices(std::size_t count, std::int64_t bound, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<I> result(count);
  for (I& index : result) {
    index = static_cast<I>(random() % static_cast<std::uint64_t>(bound));
  }
  return result;
}

std::string message_of(const auto& action) {
  try {
    action();
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "no error";
}

template <class T, class I>
void check_cross_entropy(std::int64_t rows, std::int64_t classes, std::size_t skew) {
  const auto n = static_cast<std::size_t>(rows * classes);
  const auto logits = ordinary<T>(n, 1, -6.0, 6.0);
  auto targets = indices<I>(static_cast<std::size_t>(rows), classes, 2);
  for (std::size_t r = 0; r < targets.size(); r += 3) targets[r] = -1;
  const auto what = std::to_string(rows) + " x " + std::to_string(classes);
  std::vector<Real<T>> log_sums(static_cast<std::size_t>(rows));
  std::vector<T> dlogits(n);
  CrossEntropy p{dtype_of<T>,   dtype_of<I>,    rows, classes,
                 logits.data(), targets.data(), -1,   log_sums.data()};
  const CrossEntropyLoss want = cross_entropy(p);
  const double scale = 0.25 / static_cast<double>(std::max<std::int64_t>(1, want.counted));
  cross_entropy_backward(p, scale, dlogits.data());

  const DeviceArray<T> logits_(logits, skew), dlogits_(n, skew), from_device(n), fused(n);
  const DeviceArray<I> targets_(targets);
  const DeviceArray<Real<T>> log_sums_(static_cast<std::size_t>(rows));
  const DeviceArray<CrossEntropyLoss> loss(std::vector<CrossEntropyLoss>(1));
  p.logits = logits_.data(), p.targets = targets_.data(), p.log_sum_exp = log_sums_.data();
  const double tolerance = 4 * rounding<Real<T>>();
  cuda::cross_entropy(p, loss.data(), kDefault);
  const auto expect_loss = [&] {
    const CrossEntropyLoss got = cuda::read_loss(loss.data(), kDefault);
    EXPECT_EQ(got.counted, want.counted) << what;
    EXPECT_NEAR(got.sum, want.sum, tolerance * (1 + std::abs(want.sum))) << what;
  };
  expect_loss();
  expect_close(log_sums_.read(), log_sums, "log sum " + what, tolerance);
  cuda::cross_entropy_backward(p, scale, dlogits_.data(), kDefault);
  expect_close(dlogits_.read(), dlogits, "dlogits " + what, 4 * rounding<T>(), scale);

  // The scale taken from the device: a gradient of 1/4, over the rows that count.
  const DeviceArray<T> gradient(std::vector<T>{from_double<T>(0.25)});
  const cuda::CrossEntropyScale mean{1.0, dtype_of<T>, gradient.data(), loss.data()};
  cuda::cross_entropy_backward(p, mean, from_device.data(), kDefault);
  expect_close(from_device.read(), dlogits, "dlogits, device scale " + what, 4 * rounding<T>(),
               scale);
  // Forward and backward at once, then over the logits themselves.
  cuda::cross_entropy_fused(p, loss.data(), mean, fused.data(), kDefault);
  expect_loss();
  expect_close(fused.read(), dlogits, "fused " + what, 4 * rounding<T>(), scale);
  p.log_sum_exp = nullptr;
  cuda::cross_entropy_fused(p, loss.data(), mean, logits_.data(), kDefault);
  expect_loss();
  expect_close(logits_.read(), dlogits, "fused in place " + what, 4 * rounding<T>(), scale);
  const DeviceArray<T> out(1);
  cuda::cross_entropy_mean(loss.data(), dtype_of<T>, out.data(), kDefault);
  EXPECT_NEAR(as_double(out.read()[0]),
              want.counted == 0 ? 0.0 : want.sum / static_cast<double>(want.counted),
              0.02 * (1 + std::abs(want.sum)));
}

TEST_F(LossDeviceTest, CrossEntropyAgreesWithTheCpu) {
  for_floating_types([]<class T>() {
    check_cross_entropy<T, std::int64_t>(64, 10, 0);
    check_cross_entropy<T, std::int32_t>(5, 1000, 1);
    check_cross_entropy<T, std::int64_t>(4, 50257, 0);
    check_cross_entropy<T, std::int32_t>(1, 7, 0);  // nothing counts
    check_cross_entropy<T, std::int32_t>(0, 7, 0);
  });
  check_cross_entropy<double, std::int64_t>(2, 60001, 1);  // too long to be held
  check_cross_entropy<BFloat16, std::int64_t>(1500, 3, 0);
}

TEST_F(LossDeviceTest, AWrongTargetIsToldWhenTheLossIsRead) {
  const DeviceArray<float> logits(std::vector<float>(12, 0.5f)), log_sums(4), dlogits(12);
  const DeviceArray<std::int64_t> targets(std::vector<std::int64_t>{0, -100, 3, -2});
  const DeviceArray<CrossEntropyLoss> loss(std::vector<CrossEntropyLoss>(1));
  const CrossEntropy p{DType::f32,    DType::i64,     4,    3,
                       logits.data(), targets.data(), -100, log_sums.data()};
  cuda::cross_entropy_fused(p, loss.data(), {}, dlogits.data(), kDefault);
  EXPECT_THAT(message_of([&] { cuda::read_loss(loss.data(), kDefault); }),
              HasSubstr("cross_entropy: target 3 of row 2 is outside [0, 3) and is not "
                        "ignore_index -100"));
  EXPECT_TRUE(std::isnan(cuda::read_loss(loss.data(), kDefault).sum));  // told once, and still bad
  const auto gradient = dlogits.read();
  for (std::size_t i = 3; i < 12; ++i) EXPECT_EQ(gradient[i], 0.0f);
  EXPECT_LT(gradient[0], 0.0f);
}

TEST_F(LossDeviceTest, TheFirstOperationAndTheLowestPositionAreTold) {
  const DeviceArray<float> table(std::vector<float>(40, 1.0f)), y(4 * 2000);
  auto tokens = indices<std::int32_t>(2000, 10, 3);
  const DeviceArray<std::int32_t> good(tokens);
  tokens[1500] = 10, tokens[700] = -5, tokens[1999] = 11;
  const DeviceArray<std::int32_t> bad(tokens);
  Embedding p{DType::f32, DType::i32, 10, 4, 2000, good.data()};
  cuda::embedding(p, table.data(), y.data(), kDefault);
  (void)y.read();
  cuda::check_faults();  // nothing to tell
  p.indices = bad.data();
  cuda::embedding(p, table.data(), y.data(), kDefault);
  p.entries = 9;  // now 9 is bad too, but that comes later
  cuda::embedding(p, table.data(), y.data(), kDefault);
  const auto values = y.read();
  EXPECT_EQ(values[4 * 700], 0.0f);
  EXPECT_THAT(message_of([] { cuda::check_faults(); }),
              HasSubstr("embedding: index -5 at position 700 is outside [0, 10)"));
  cuda::check_faults();
}

template <class T, class I>
void check_embedding(std::int64_t entries, std::int64_t width, const std::vector<I>& tokens,
                     std::size_t skew, bool exact) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  const auto rows = static_cast<std::size_t>(entries * width);
  const auto results = static_cast<std::size_t>(count * width);
  const auto table = ordinary<T>(rows, 4), dy = ordinary<T>(results, 5);
  std::vector<T> y(results), dtable(rows);
  const DeviceArray<T> table_(table, skew), dy_(dy, skew), y_(results, skew), dtable_(rows, skew);
  const DeviceArray<I> tokens_(tokens);
  Embedding p{dtype_of<T>, dtype_of<I>, entries, width, count, tokens.data()};
  embedding(p, table.data(), y.data());
  embedding_backward(p, dy.data(), dtable.data());
  p.indices = tokens_.data();
  cuda::embedding(p, table_.data(), y_.data(), kDefault);
  cuda::embedding_backward(p, dy_.data(), dtable_.data(), kDefault);
  const auto what = std::to_string(entries) + " x " + std::to_string(width) + ", " +
                    std::to_string(count) + " indices";
  expect_close(y_.read(), y, "embedding " + what, 0.0);
  // A few gradients of an entry are added as the CPU adds them.
  expect_close(dtable_.read(), dtable, "embedding backward " + what, exact ? 0.0 : rounding<T>(),
               sizeof(T) == 2 ? 10.0 : 100.0);
}

TEST_F(LossDeviceTest, EmbeddingAgreesWithTheCpu) {
  for_floating_types([]<class T>() {
    check_embedding<T>(10, 8, indices<std::int64_t>(100, 10, 6), 0, true);
    check_embedding<T>(3, 33, indices<std::int32_t>(700, 3, 7), 1, false);
    check_embedding<T>(2000, 24, indices<std::int64_t>(1111, 2000, 8), 0, true);
    check_embedding<T>(5, 300, std::vector<std::int32_t>(1000, 3), 0, false);
    check_embedding<T>(7, 4, std::vector<std::int32_t>(), 0, true);
  });
  // More entries than blocks with a range of 512 each would take in one go.
  check_embedding<float>(70000, 1, indices<std::int32_t>(3000, 70000, 9), 0, true);
  check_embedding<Half>(1, 6, std::vector<std::int32_t>(5), 0, true);
  cuda::check_faults();
}

TEST_F(LossDeviceTest, EmbeddingBackwardLeavesBadIndicesOut) {
  const DeviceArray<float> dy(std::vector<float>{1, 2, 4, 8}), dtable(3);
  const DeviceArray<std::int32_t> tokens(std::vector<std::int32_t>{2, 3, 2, -1});
  const Embedding p{DType::f32, DType::i32, 3, 1, 4, tokens.data()};
  cuda::embedding_backward(p, dy.data(), dtable.data(), kDefault);
  EXPECT_EQ(dtable.read(), (std::vector<float>{0, 0, 5}));
  EXPECT_THAT(message_of([] { cuda::check_faults(); }), HasSubstr("index 3 at position 1"));
}

TEST_F(LossDeviceTest, DropoutIsTheCpusToTheBit) {
  for_floating_types([]<class T>() {
    for (const std::uint64_t offset : {0, 1, 6, 7}) {
      for (const std::size_t skew : {0, 3}) {
        for (const double probability : {0.0, 0.3, 1.0}) {
          const DropoutMask mask{probability, 0x123456789abcdefu, 77, offset};
          const auto x = ordinary<T>(1003, 10);
          std::vector<T> want(x.size());
          const DeviceArray<T> x_(x, skew), y_(x.size(), skew), apart(x.size(), 1);
          const Elems n(1003);
          dropout(mask, dtype_of<T>, n, x.data(), want.data());
          cuda::dropout(mask, dtype_of<T>, n, x_.data(), y_.data(), kDefault);
          cuda::dropout(mask, dtype_of<T>, n, x_.data(), apart.data(), kDefault);
          expect_close(y_.read(), want, "dropout", 0.0);
          expect_close(apart.read(), want, "dropout, other alignment", 0.0);
          cuda::dropout(mask, dtype_of<T>, n, x_.data(), x_.data(), kDefault);
          expect_close(x_.read(), want, "dropout in place", 0.0);
        }
      }
    }
  });
}

TEST_F(LossDeviceTest, PhiloxWordsAreTheCpus) {
  for (const std::uint64_t first :
       {std::uint64_t{0}, std::uint64_t{3}, (std::uint64_t{1} << 34) - 2}) {
    for (const std::size_t count : {0, 1, 5, 1030}) {
      std::vector<std::uint32_t> want(count);
      const DeviceArray<std::uint32_t> words(count);
      const Elems n(static_cast<std::int64_t>(count));
      philox_words(5, 6, first, n, want.data());
      cuda::philox_words(5, 6, first, n, words.data(), kDefault);
      EXPECT_EQ(words.read(), want);
    }
  }
}

TEST_F(LossDeviceTest, BadTypesAreRefused) {
  int x = 0;
  CrossEntropy p;
  p.target_type = DType::f32;
  EXPECT_THROW(cuda::cross_entropy(p, nullptr, kDefault), InvalidArgument);
  EXPECT_THROW(
      cuda::cross_entropy_backward({}, cuda::CrossEntropyScale{1.0, DType::i32, &x}, &x, kDefault),
      InvalidArgument);
  EXPECT_THROW(cuda::embedding({DType::f32, DType::u8, 1, 1, 1, &x}, &x, &x, kDefault),
               InvalidArgument);
  EXPECT_THROW(
      cuda::embedding({DType::f32, DType::i32, 1, 1, std::int64_t{1} << 31, &x}, &x, &x, kDefault),
      InvalidArgument);
  EXPECT_THROW(cuda::dropout({}, DType::i32, Elems(1), &x, &x, kDefault), InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels
