// A chain of operators on a stream of its own, and captured into a graph: nothing in them waits on
// the host, and scratch memory and fault records serve replays as well.
#include <gtest/gtest.h>

#include "kernels/base/error.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/faults.h"
#include "kernels/cuda/layer_norm.h"
#include "tests/gpu/device_array.h"
#include "tests/gpu/read_loss.h"

namespace weft::kernels {
namespace {

constexpr std::int64_t kTokens = 96, kEntries = 70, kWidth = 40;

// Embedding, layer norm, GELU, loss over the width as classes, and all of it backward.
struct Chain {
  DeviceArray<float> table{ordinary<float>(kEntries * kWidth, 1)};
  DeviceArray<std::int32_t> tokens, targets;
  DeviceArray<float> x{kTokens * kWidth}, y{kTokens * kWidth}, z{kTokens * kWidth};
  DeviceArray<float> dz{kTokens * kWidth}, dy{kTokens * kWidth}, dx{kTokens * kWidth};
  DeviceArray<float> mean{kTokens}, rstd{kTokens}, log_sums{kTokens};
  DeviceArray<float> dtable{kEntries * kWidth}, dweight{kWidth}, column_sums{kWidth};
  DeviceArray<CrossEntropyLoss> loss{std::vector<CrossEntropyLoss>(1)};

  explicit Chain(std::int32_t first_token = 3)
      : tokens(numbers(kEntries, first_token)), targets(numbers(kWidth, 5)) {}

  static std::vector<std::int32_t> numbers(std::int64_t bound, std::int32_t first) {
    std::vector<std::int32_t> result(kTokens);
    for (std::size_t i = 0; i < result.size(); ++i) {
      result[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(i * i) % bound);
    }
    result[0] = first;
    return result;
  }

  void queue(cuda::Stream stream) const {
    const Elems all(kTokens * kWidth);
    const Embedding embedding{DType::f32, DType::i32, kEntries, kWidth, kTokens, tokens.data()};
    cuda::embedding(embedding, table.data(), x.data(), stream);
    cuda::layer_norm({DType::f32, kTokens, kWidth, 1e-5, x.data(), nullptr, nullptr, y.data(),
                      mean.data(), rstd.data()},
                     stream);
    cuda::gelu(GeluKind::tanh, DType::f32, all, y.data(), z.data(), stream);
    const CrossEntropy problem{DType::f32, DType::i32,     kTokens, kWidth,
                               z.data(),   targets.data(), -1,      log_sums.data()};
    cuda::cross_entropy_fused(problem, loss.data(), {1.0, DType::f32, nullptr, loss.data()},
                              dz.data(), stream);
    cuda::gelu_backward(GeluKind::tanh, DType::f32, all, dz.data(), y.data(), dy.data(), stream);
    LayerNormBackward backward;
    backward.rows = kTokens, backward.columns = kWidth;
    backward.dy = dy.data(), backward.x = x.data();
    backward.mean = mean.data(), backward.rstd = rstd.data();
    backward.dx = dx.data(), backward.dweight = dweight.data();
    cuda::layer_norm_backward(backward, stream);
    cuda::embedding_backward(embedding, dx.data(), dtable.data(), stream);
    cuda::reduce_axis(AxisOp::mean, DType::f32, {1, kTokens, kWidth}, column_sums.data(), dx.data(),
                      stream);
  }
};

class OperatorGraphTest : public DeviceTest {};

TEST_F(OperatorGraphTest, AChainOnAStreamOfItsOwnGivesWhatTheDefaultStreamGives) {
  const Chain here, there;
  here.queue(nullptr);
  const cuda::OwnedStream stream;
  there.queue(stream.get());
  stream.synchronize();
  EXPECT_EQ(there.dtable.read(), here.dtable.read());
  EXPECT_EQ(there.dweight.read(), here.dweight.read());
  EXPECT_EQ(there.column_sums.read(), here.column_sums.read());
  EXPECT_EQ(cuda::read_loss(there.loss.data(), stream.get()).sum,
            cuda::read_loss(here.loss.data(), nullptr).sum);
}

TEST_F(OperatorGraphTest, ACapturedChainReplays) {
  const Chain eager, captured;
  eager.queue(nullptr);
  const auto want = eager.dtable.read();
  const cuda::OwnedStream stream;
  cuda::begin_capture(stream.get());
  captured.queue(stream.get());
  const cuda::Graph graph(cuda::end_capture(stream.get()));
  EXPECT_NE(captured.dtable.read(), want);  // nothing has run yet
  for (int replay = 0; replay < 3; ++replay) {
    cuda::fill(DType::f32, Elems(kEntries * kWidth), captured.dtable.data(), -1.0, stream.get());
    graph.launch(stream.get());
    stream.synchronize();
    ASSERT_EQ(captured.dtable.read(), want) << replay;
    EXPECT_EQ(captured.dweight.read(), eager.dweight.read());
  }
  cuda::check_faults();
}

TEST_F(OperatorGraphTest, AReplayTellsOfBadIndicesToo) {
  const Chain captured(kEntries);
  const cuda::OwnedStream stream;
  cuda::begin_capture(stream.get());
  captured.queue(stream.get());
  const cuda::Graph graph(cuda::end_capture(stream.get()));
  cuda::check_faults();  // nothing has run yet
  for (int replay = 0; replay < 2; ++replay) {
    graph.launch(stream.get());
    EXPECT_THROW(cuda::read_loss(captured.loss.data(), stream.get()), InvalidArgument) << replay;
  }
}

}  // namespace
}  // namespace weft::kernels
