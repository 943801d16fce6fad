// Pointers that kernels cannot follow are refused before the launch, and the device goes on.
#include <gmock/gmock.h>

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cast.h"
#include "kernels/cuda/cross_entropy.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/multi_tensor.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/softmax.h"
#include "tests/gpu/device_buffer.h"

namespace weft::kernels {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::int64_t kCount = 1024;

class ReachTest : public cuda::DeviceTest {
 protected:
  using Floats = std::array<float, 4 * kCount>;

  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    device_.emplace(Floats{});
    there_ = device_->data();
  }

  std::vector<float> host_ = std::vector<float>(4 * kCount, 1.0f);
  void* here_ = host_.data();
  std::optional<DeviceValue<Floats>> device_;
  void* there_ = nullptr;
};

TEST_F(ReachTest, HostMemoryIsRefusedByEachKindOfKernel) {
  const FlatTensor list[] = {{there_, Elems(8), DType::f32}, {here_, Elems(8), DType::f32}};
  const void* const inputs[] = {there_, here_};
  Gemm product;
  product.m = product.n = product.k = 16;
  product.lda = product.ldb = product.ldc = 16;
  product.a = there_, product.b = here_, product.c = there_;
  AdamTensor parameter{there_, here_, there_, there_, nullptr, Elems(8)};
  LayerNorm norm;
  norm.rows = 2, norm.columns = 16;
  norm.x = here_, norm.y = there_;
  norm.mean = norm.rstd = there_;
  CausalAttention attention;
  attention.batch = attention.heads = 1, attention.length = 4, attention.width = 16;
  attention.qkv = there_, attention.out = here_, attention.log_sum_exp = there_;
  CrossEntropy loss;
  loss.rows = 4, loss.classes = 8;
  loss.logits = there_, loss.targets = here_, loss.target_type = DType::i32;
  loss.log_sum_exp = there_;
  auto* const sum = static_cast<CrossEntropyLoss*>(there_);
  const std::vector<std::function<void()>> calls = {
      [&] { cuda::unary(UnaryOp::exp, DType::f32, Elems(8), there_, here_, 0.0, nullptr); },
      [&] { cuda::fill(DType::f32, Elems(8), here_, 1.0, nullptr); },
      [&] { cuda::cast(there_, DType::f16, here_, DType::f32, Elems(8)); },
      [&] { cuda::reduce(there_, inputs, Elems(8), DType::f32, ReduceOp::sum); },
      [&] { cuda::scale(list, 2.0); },
      [&] {
        cuda::scale({list, 1}, static_cast<double*>(here_));
      },
      [&] { cuda::squared_norm(list, there_, static_cast<double*>(there_)); },
      [&] {
        cuda::adam({&parameter, 1}, {});
      },
      [&] { cuda::softmax(SoftmaxKind::plain, DType::f32, 2, 16, here_, there_, nullptr); },
      [&] { cuda::layer_norm(norm, nullptr); },
      [&] { cuda::causal_attention(attention, nullptr); },
      [&] { cuda::cross_entropy(loss, sum, nullptr); },
      [&] { cuda::gemm(product, Epilogue::none, nullptr, nullptr, nullptr); },
  };
  for (std::size_t i = 0; i < calls.size(); ++i) {
    EXPECT_THAT(calls[i], ThrowsMessage<InvalidArgument>(AllOf(
                              HasSubstr("host memory that is not pinned"), HasSubstr("device 0"))))
        << "call " << i;
  }
  cuda::fill(DType::f32, Elems(8), there_, 3.0, nullptr);
  cuda::wait_stream(nullptr);
  EXPECT_EQ(device_->get()[7], 3.0f) << "the device is as good as before";
}

TEST_F(ReachTest, PinnedMemoryAndTheEndOfAnAllocationPass) {
  cuda::PinnedMemory pinned(Bytes(64));
  cuda::fill(DType::f32, Elems(16), pinned.data(), 2.0, nullptr);
  cuda::wait_stream(nullptr);
  EXPECT_EQ(reinterpret_cast<const float*>(pinned.data())[15], 2.0f);
  cuda::fill(DType::f32, Elems(0), static_cast<float*>(there_) + 4 * kCount, 2.0, nullptr);
}

TEST_F(ReachTest, AnotherDevicesMemoryPassesWhereThereIsAPath) {
  if (cuda::device_count() < 2) GTEST_SKIP() << "one device only";
  if (!cuda::can_access_peer(0, 1)) GTEST_SKIP() << "no path between the devices";
  cuda::enable_peer_access(0, 1);
  void* const foreign = [] {
    const cuda::DeviceGuard guard(1);
    return cuda::allocate(Bytes(64));
  }();
  cuda::fill(DType::f32, Elems(16), foreign, 5.0, nullptr);
  float value = 0;
  cuda::wait_stream(nullptr);
  cuda::copy_to_host(&value, foreign, Bytes(4));
  EXPECT_EQ(value, 5.0f);
  const cuda::DeviceGuard guard(1);
  cuda::release(foreign);
}

}  // namespace
}  // namespace weft::kernels
