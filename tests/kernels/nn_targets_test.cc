// The operators' kernels on every instruction set they are built for, not only this machine's best.
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/dropout.h"
#include "kernels/layer_norm.h"
#include "kernels/softmax.h"

namespace weft::kernels {
namespace {

// Highway's choice, narrowed to one instruction set for the life of the scope.
class OnlyTarget {
 public:
  explicit OnlyTarget(std::int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
  }
  ~OnlyTarget() {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  OnlyTarget(const OnlyTarget&) = delete;
  OnlyTarget& operator=(const OnlyTarget&) = delete;
};

template <class R>
std::vector<R> normal(std::int64_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> draw;
  std::vector<R> values(static_cast<std::size_t>(n));
  for (R& value : values) value = static_cast<R>(draw(engine));
  return values;
}

// Everything forward and backward at odd sizes, one result after the other.
template <class R>
std::vector<double> run_all() {
  constexpr DType kType = dtype_of<R>;
  std::vector<double> results;
  const auto keep = [&](const std::vector<R>& values) {
    results.insert(results.end(), values.begin(), values.end());
  };
  constexpr std::int64_t kRows = 37, kColumns = 45, kCount = kRows * kColumns;
  const auto x = normal<R>(kCount, 1), dy = normal<R>(kCount, 2), w = normal<R>(kColumns, 3);
  std::vector<R> y(kCount), dx(kCount), mean(kRows), rstd(kRows), dw(kColumns), db(kColumns);
  layer_norm({kType, kRows, kColumns, 1e-5, x.data(), w.data(), w.data(), y.data(), mean.data(),
              rstd.data()});
  keep(y);
  layer_norm_backward({kType, kRows, kColumns, dy.data(), x.data(), w.data(), mean.data(),
                       rstd.data(), dx.data(), dw.data(), db.data()});
  keep(dx), keep(dw), keep(db);
  for (const GeluKind kind : {GeluKind::exact, GeluKind::tanh}) {
    gelu(kind, kType, Elems(kCount), x.data(), y.data());
    gelu_backward(kind, kType, Elems(kCount), dy.data(), x.data(), dx.data());
    keep(y), keep(dx);
  }
  BiasActivationBackward epilogue{kType, EpilogueActivation::none, kRows, kColumns, dy.data()};
  epilogue.dbias = db.data();
  bias_activation_backward(epilogue);
  keep(db);
  for (const SoftmaxKind kind : {SoftmaxKind::plain, SoftmaxKind::log}) {
    softmax(kind, kType, kRows, kColumns, x.data(), y.data());
    softmax_backward(kind, kType, kRows, kColumns, dy.data(), y.data(), dx.data());
    keep(y), keep(dx);
  }
  std::vector<std::int64_t> targets(kRows);
  for (std::int64_t r = 0; r < kRows; ++r) targets[static_cast<std::size_t>(r)] = r % kColumns;
  const CrossEntropy entropy{kType,    DType::i64,     kRows, kColumns,
                             x.data(), targets.data(), -1,    mean.data()};
  results.push_back(cross_entropy(entropy).sum / kRows);
  cross_entropy_backward(entropy, 1.0, dx.data());
  keep(dx);
  dropout({0.3, 1, 2, 5}, kType, Elems(kCount), x.data(), y.data());
  keep(y);

  CausalAttention a;
  a.dtype = kType;
  a.batch = 1, a.length = 75, a.heads = 2, a.width = 19;
  const std::int64_t channels = a.heads * a.width;
  const auto qkv = normal<R>(a.length * 3 * channels, 4), dout = normal<R>(a.length * channels, 5);
  std::vector<R> out(dout.size()), lse(static_cast<std::size_t>(a.heads * a.length));
  std::vector<R> dqkv(qkv.size());
  a.qkv = qkv.data(), a.out = out.data(), a.log_sum_exp = lse.data();
  a.dropout = {0.2, 3, 4, 1};
  causal_attention(a);
  causal_attention_backward(a, dout.data(), dqkv.data());
  keep(out), keep(lse), keep(dqkv);
  return results;
}

void expect_close(const std::vector<double>& found, const std::vector<double>& expected,
                  double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], tolerance * (1 + std::abs(expected[i]))) << "result " << i;
  }
}

TEST(NnTargetsTest, EveryInstructionSetGivesTheSame) {
  const auto expected = run_all<double>();
  const std::int64_t supported = hwy::SupportedTargets();
  int tried = 0;
  for (const std::int64_t target : {std::int64_t{HWY_AVX3}, std::int64_t{HWY_AVX2},
                                    std::int64_t{HWY_NEON}, std::int64_t{HWY_STATIC_TARGET}}) {
    if ((supported & target) == 0 && target != HWY_STATIC_TARGET) continue;
    SCOPED_TRACE(hwy::TargetName(target));
    const OnlyTarget only(target);
    expect_close(run_all<double>(), expected, 1e-12);
    expect_close(run_all<float>(), expected, 5e-5);
    std::vector<std::uint32_t> words(333), plain(333);
    philox_words(7, 8, 3, Elems(333), words.data());
    for (std::size_t i = 0; i < plain.size(); ++i) philox_words(7, 8, 3 + i, Elems(1), &plain[i]);
    EXPECT_EQ(words, plain);
    ++tried;
  }
  EXPECT_GE(tried, 1);
}

}  // namespace
}  // namespace weft::kernels
