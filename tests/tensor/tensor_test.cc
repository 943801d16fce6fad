// Making tensors, reading them, copies, casts and writing in place.
#include "tensor/tensor.h"

#include <gmock/gmock.h>

#include <limits>
#include <numeric>

#include "tensor/autograd/node.h"
#include "tensor/stream.h"
#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const std::vector<DType> kAllTypes = {DType::f64, DType::f32, DType::f16, DType::bf16,
                                      DType::i64, DType::i32, DType::u8};

TEST(TensorTest, EveryTypeIsFilledReadAndListed) {
  for (const auto dtype : kAllTypes) {
    SCOPED_TRACE(name_of(dtype));
    const auto full = Tensor::full({2, 3}, 7.0, {dtype, {}});
    EXPECT_EQ(full.dtype(), dtype);
    EXPECT_THAT(full.to_vector<double>(), ElementsAre(7, 7, 7, 7, 7, 7));
    EXPECT_THAT(Tensor::zeros({2}, {dtype, {}}).to_vector<std::int64_t>(), ElementsAre(0, 0));
    EXPECT_THAT(Tensor::arange(4, {dtype, {}}).to_vector<float>(), ElementsAre(0, 1, 2, 3));
    EXPECT_EQ(Tensor::scalar(3.0, {dtype, {}}).item(), 3.0);
    EXPECT_EQ(Tensor::scalar(3.0, {dtype, {}}).dim(), 0);
  }
}

template <class T>
class TypedTensorTest : public ::testing::Test {};
using AllTypes =
    ::testing::Types<double, float, Half, BFloat16, std::int64_t, std::int32_t, std::uint8_t>;
TYPED_TEST_SUITE(TypedTensorTest, AllTypes);

TYPED_TEST(TypedTensorTest, FromAndToVectorAgree) {
  using T = TypeParam;
  std::vector<T> values;
  for (int i = 0; i < 6; ++i) values.push_back(static_cast<T>(static_cast<float>(i)));
  const auto tensor = Tensor::from(values, {2, 3});
  EXPECT_EQ(tensor.dtype(), dtype_of<T>);
  EXPECT_EQ(tensor.template data<T>(), tensor.data());
  const auto back = tensor.transpose(0, 1).template to_vector<T>();
  const int expected[] = {0, 3, 1, 4, 2, 5};
  ASSERT_EQ(back.size(), 6u);
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(static_cast<float>(back[i]), static_cast<float>(expected[i])) << i;
  }
  EXPECT_EQ(Tensor::from(std::vector<T>(1, values[5]), {1, 1}).item(), 5.0);
}

TEST(TensorTest, DataOfAnotherTypeIsRefused) {
  const auto tensor = Tensor::zeros({2});
  EXPECT_THAT([&] { (void)tensor.data<double>(); },
              ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("f64"), HasSubstr("f32"))));
}

TEST(TensorTest, BadShapesAreRefused) {
  EXPECT_THROW(Tensor::zeros({2, -1}), InvalidArgument);
  const auto huge = std::int64_t{1} << 40;
  EXPECT_THROW(Tensor::empty({huge, huge}), InvalidArgument);
  EXPECT_THROW(Tensor::empty({huge, std::int64_t{1} << 22}), InvalidArgument);  // 2^64 bytes
  EXPECT_THROW(Tensor::arange(-1), InvalidArgument);
  EXPECT_THAT(
      [] {
        Tensor::from(std::vector<float>{1, 2, 3}, {2, 2});
      },
      ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("3 values"), HasSubstr("(2, 2)"))));
  EXPECT_THROW((void)Tensor::zeros({2}).item(), InvalidArgument);
}

TEST(TensorTest, UndefinedTensorsSayWhatWasAsked) {
  const Tensor nothing;
  EXPECT_FALSE(nothing.defined());
  EXPECT_FALSE(nothing.requires_grad());
  EXPECT_THAT([&] { (void)nothing.shape(); }, ThrowsMessage<InvalidArgument>(HasSubstr("shape")));
  EXPECT_THROW((void)nothing.data(), InvalidArgument);
  EXPECT_THROW(nothing.backward(), InvalidArgument);
  EXPECT_THROW(Tensor::zeros({1}).copy_(nothing), InvalidArgument);
}

TEST(TensorTest, ZeroSizedTensorsAreWhole) {
  const auto empty = Tensor::zeros({0, 3});
  EXPECT_EQ(empty.numel(), 0);
  EXPECT_TRUE(empty.is_contiguous());
  EXPECT_TRUE(empty.to_vector<float>().empty());
  EXPECT_TRUE(empty.clone().to(DType::f64).to_vector<double>().empty());
  empty.clone().copy_(empty);
  EXPECT_EQ(empty.transpose(0, 1).contiguous().shape(), (Shape{3, 0}));
}

TEST(TensorTest, WrapSeesForeignMemoryAndChecksBounds) {
  auto memory = std::make_shared<std::vector<float>>(8);
  std::iota(memory->begin(), memory->end(), 0.0f);
  const std::weak_ptr<std::vector<float>> watch = memory;
  auto storage = tensor::Storage::borrow(memory->data(), Bytes(32), memory);
  memory.reset();
  {
    const auto tensor = Tensor::wrap(storage, {2, 2}, DType::f32, 4);
    EXPECT_THAT(tensor.to_vector<float>(), ElementsAre(4, 5, 6, 7));
    tensor.fill_(1.0);
    EXPECT_EQ((*watch.lock())[7], 1.0f);
    EXPECT_EQ((*watch.lock())[3], 3.0f);
    EXPECT_THAT(
        [&] {
          Tensor::wrap(storage, {2, 2}, DType::f32, 5);
        },
        ThrowsMessage<InvalidArgument>(HasSubstr("32 bytes")));
    EXPECT_THROW(Tensor::wrap(storage, {2}, DType::f32, -1), InvalidArgument);
    EXPECT_THROW(Tensor::wrap(nullptr, {2}, DType::f32), InvalidArgument);
    auto* odd = reinterpret_cast<std::byte*>(watch.lock()->data()) + 1;
    const auto crooked = tensor::Storage::borrow(odd, Bytes(24), watch.lock());
    EXPECT_THAT([&] { Tensor::wrap(crooked, {2}, DType::f32); },
                ThrowsMessage<InvalidArgument>(HasSubstr("aligned")));
    storage.reset();
    EXPECT_FALSE(watch.expired());
  }
  EXPECT_TRUE(watch.expired());
}

TEST(TensorTest, CudaIsRefusedClearly) {
  if (tensor::cuda_device_count() > 0) GTEST_SKIP() << "there is a device";
  const Device cuda{DeviceType::cuda, 0};
  EXPECT_THAT(
      [&] {
        Tensor::zeros({2}, {DType::f32, cuda});
      },
      ThrowsMessage<Unsupported>(HasSubstr("cuda:0")));
  EXPECT_THAT([&] { (void)Tensor::zeros({2}).to(cuda); },
              ThrowsMessage<Unsupported>(HasSubstr("cuda:0")));
}

TEST(TensorTest, CopyBroadcastsAndCasts) {
  const auto to = Tensor::zeros({2, 3}, {DType::i32, {}});
  to.copy_(Tensor::from(std::vector<float>{1.9f, -2.9f, 300.0f}, {3}));
  EXPECT_THAT(to.to_vector<int>(), ElementsAre(1, -2, 300, 1, -2, 300));
  to.narrow(1, 1, 1).copy_(Tensor::scalar(8));
  EXPECT_THAT(to.to_vector<int>(), ElementsAre(1, 8, 300, 1, 8, 300));
  EXPECT_THAT([&] { to.copy_(Tensor::zeros({2})); },
              ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("(2,)"), HasSubstr("(2, 3)"))));
  EXPECT_THROW(to.copy_(Tensor::zeros({1, 2, 3})), InvalidArgument);
}

TEST(TensorTest, OverlappingCopiesGoByWayOfATemporary) {
  const auto a = Tensor::arange(6);
  a.narrow(0, 1, 5).copy_(a.narrow(0, 0, 5));
  EXPECT_THAT(a.to_vector<float>(), ElementsAre(0, 0, 1, 2, 3, 4));
  const auto square = Tensor::arange(4).view({2, 2});
  square.copy_(square.transpose(0, 1));
  EXPECT_THAT(square.to_vector<float>(), ElementsAre(0, 2, 1, 3));
  const auto halves = Tensor::arange(4);
  halves.narrow(0, 0, 2).copy_(halves.narrow(0, 2, 2));
  EXPECT_THAT(halves.to_vector<float>(), ElementsAre(2, 3, 2, 3));
  const auto rows = Tensor::arange(6).view({2, 3});
  rows.copy_(rows.select(0, 1));  // broadcasts onto itself
  EXPECT_THAT(rows.to_vector<float>(), ElementsAre(3, 4, 5, 3, 4, 5));
}

TEST(TensorTest, ExpandedTensorsAreNotWrittenTo) {
  const auto wide = Tensor::zeros({1}).expand({3});
  EXPECT_THROW(wide.fill_(1.0), InvalidArgument);
  EXPECT_THROW(wide.copy_(Tensor::zeros({3})), InvalidArgument);
}

TEST(TensorTest, FillOfAViewLeavesTheRest) {
  const auto a = Tensor::zeros({3, 3});
  a.select(1, 1).fill_(5.0);
  EXPECT_THAT(a.to_vector<float>(), ElementsAre(0, 5, 0, 0, 5, 0, 0, 5, 0));
}

TEST(TensorTest, InPlaceIsGuardedWhileGradModeIsOn) {
  auto leaf = Tensor::zeros({2});
  leaf.set_requires_grad(true);
  EXPECT_THROW(leaf.fill_(1.0), InvalidArgument);
  EXPECT_THROW(leaf.copy_(Tensor::zeros({2})), InvalidArgument);
  EXPECT_THROW(leaf.narrow(0, 0, 1).fill_(1.0), InvalidArgument);
  leaf.detach().fill_(2.0);
  {
    const NoGrad no_grad;
    leaf.narrow(0, 0, 1).fill_(3.0);
  }
  EXPECT_THAT(leaf.to_vector<float>(), ElementsAre(3, 2));
}

TEST(TensorTest, CastsRoundOnceAndAreDifferentiableBetweenFloats) {
  const auto x = Tensor::from(std::vector<float>{1.0f / 3, 65519.0f, 1e-8f}, {3});
  EXPECT_THAT(x.to(DType::f16).to_vector<float>(), ElementsAre(0.333251953125f, 65504.0f, 0.0f));
  EXPECT_TRUE(x.to(DType::f32).same_as(x));
  auto leaf = Tensor::from(std::vector<float>{1, 2}, {2});
  leaf.set_requires_grad(true);
  const auto low = leaf.to(DType::bf16);
  low.backward(Tensor::full({2}, 3.0, {DType::bf16, {}}));
  EXPECT_EQ(leaf.grad().dtype(), DType::f32);
  EXPECT_THAT(leaf.grad().to_vector<float>(), Each(3.0f));
  EXPECT_FALSE(leaf.to(DType::i32).requires_grad());
}

TEST(TensorTest, CopiesAreDifferentiable) {
  EXPECT_TRUE(gradcheck([](const auto& in) { return ops::mul(in[0].clone(), in[0]); },
                        {random_tensor({2, 3}, 1)}));
  EXPECT_TRUE(
      gradcheck([](const auto& in) { return ops::mul(in[0].transpose(0, 1).contiguous(), in[1]); },
                {random_tensor({2, 3}, 1), random_tensor({3, 2}, 2)}));
}

TEST(ShapeTest, BroadcastFollowsNumPy) {
  using tensor::broadcast_shapes;
  EXPECT_EQ(broadcast_shapes({}, {2, 3}), (Shape{2, 3}));
  EXPECT_EQ(broadcast_shapes({3, 1}, {4}), (Shape{3, 4}));
  EXPECT_EQ(broadcast_shapes({2, 1, 5}, {7, 1}), (Shape{2, 7, 5}));
  EXPECT_EQ(broadcast_shapes({0}, {1}), (Shape{0}));
  EXPECT_THAT(
      [] {
        broadcast_shapes({2, 3}, {4});
      },
      ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("(2, 3)"), HasSubstr("(4,)"))));
  EXPECT_THROW(broadcast_shapes({0}, {2}), InvalidArgument);
}

TEST(ShapeTest, CountsAndWords) {
  EXPECT_EQ(tensor::numel({}), 1);
  EXPECT_EQ(tensor::numel({std::numeric_limits<std::int64_t>::max(), 0}), 0);
  EXPECT_EQ(tensor::to_string(Shape{}), "()");
  EXPECT_EQ(tensor::to_string(Shape{2, 3}), "(2, 3)");
  EXPECT_EQ(tensor::wrap_dim(-1, 3, "test"), 2);
  EXPECT_THROW(tensor::wrap_dim(3, 3, "test"), InvalidArgument);
  EXPECT_TRUE(tensor::is_contiguous({2, 1, 3}, {3, 99, 1}));
  EXPECT_FALSE(tensor::is_contiguous({2, 3}, {1, 2}));
}

}  // namespace
}  // namespace weft::tests
