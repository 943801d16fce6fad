// Where no CUDA device is (ctest hides those that are), each entry says so in the same type,
// whether the backend is built or not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/multi_tensor.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/softmax.h"

namespace weft::kernels {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

class WithoutADeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() > 0)
      GTEST_SKIP() << "there is a device: CUDA_VISIBLE_DEVICES hides it";
  }
};

TEST_F(WithoutADeviceTest, TheReasonIsTold) { EXPECT_FALSE(cuda::reason_for_none().empty()); }

TEST_F(WithoutADeviceTest, EachEntryOfTheRuntimeIsUnsupported) {
  int value = 0;
  const std::vector<std::function<void()>> entries = {
      [] { cuda::device_info(0); },
      [] { cuda::device_info(-1); },
      [] { cuda::device_info(1000); },
      [] { cuda::current_device(); },
      [] { cuda::set_device(0); },
      [] { cuda::DeviceGuard guard(0); },
      [] { cuda::can_access_peer(0, 0); },
      [] { cuda::enable_peer_access(0, 0); },
      [] { cuda::enable_peer_access(0, 1); },
      [] { cuda::allocate(Bytes(16)); },
      [] { cuda::try_allocate(Bytes(16)); },
      [] { cuda::allocate_pinned(Bytes(16)); },
      [] { cuda::PinnedMemory pinned(Bytes(16)); },
      [] { cuda::memory_info(); },
      [&] { cuda::copy_async(&value, &value, Bytes(4), nullptr); },
      [&] { cuda::copy_to_device(&value, &value, Bytes(4)); },
      [&] { cuda::fill_zero(&value, Bytes(4), nullptr); },
      [] { cuda::create_stream(); },
      [] { cuda::OwnedStream stream; },
      [] { cuda::OwnedStream stream(0); },
      [] { cuda::wait_stream(nullptr); },
      [] { cuda::wait_device(); },
      [] { cuda::create_event(); },
      [] { cuda::Event(0).record(nullptr); },
      [&] { cuda::export_memory(&value); },
      [] { cuda::import_memory({}); },
  };
  for (std::size_t i = 0; i < entries.size(); ++i) {
    EXPECT_THROW(entries[i](), Unsupported) << "entry " << i;
  }
  cuda::release(nullptr);
  EXPECT_EQ(cuda::device_of(&value), -1);
}

TEST_F(WithoutADeviceTest, KernelsAreUnsupported) {
  float x[4] = {};
  const FlatTensor tensor{x, Elems(4), DType::f32};
  EXPECT_THROW(cuda::scale({&tensor, 1}, 2.0), Unsupported);
  EXPECT_THROW(cuda::softmax(SoftmaxKind::plain, DType::f32, 1, 4, x, x, nullptr), Unsupported);
  EXPECT_THROW(cuda::unary(UnaryOp::exp, DType::f32, Elems(4), x, x, 0.0, nullptr), Unsupported);
  Gemm product;
  product.m = product.n = product.k = 2;
  product.a = product.b = product.c = x;
  product.lda = product.ldb = product.ldc = 2;
  EXPECT_THROW(cuda::gemm(product, Epilogue::none, nullptr, nullptr, nullptr), Unsupported);
}

}  // namespace
}  // namespace weft::kernels
