// Tensors on a CUDA device: memory, copies, streams, and what is refused.
#include <gmock/gmock.h>

#include <array>
#include <thread>

#include "tensor/cuda_allocator.h"
#include "tensor/ops/nn.h"
#include "tests/gpu/cuda_tensors.h"

namespace weft::tests {
namespace {

using tensor::Storage;
using tensor::Stream;
using tensor::StreamGuard;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr std::array kAllTypes{DType::f64, DType::f32, DType::f16, DType::bf16,
                               DType::i64, DType::i32, DType::u8};

class TensorStorageTest : public CudaTensorTest {};

TEST(TensorWithoutCudaTest, ADeviceThatIsNotThereIsRefusedWithTheReason) {
  if (tensor::cuda_device_count() > 0) GTEST_SKIP() << "there is a device";
  EXPECT_THAT(
      [] {
        Tensor::empty({2}, {DType::f32, kCuda});
      },
      ThrowsMessage<Unsupported>(AllOf(HasSubstr("cuda:0"), HasSubstr("no CUDA device"),
                                       HasSubstr(kernels::cuda::reason_for_none()))));
  EXPECT_THROW(Tensor::zeros({2}).to(kCuda), Unsupported);
  EXPECT_THROW(Tensor::zeros({2}).pin_memory(), Unsupported);
  EXPECT_THROW(Stream::create(kCuda), Unsupported);
  EXPECT_THROW(Stream::current(kCuda), Unsupported);
}

TEST_F(TensorStorageTest, AnIndexOutOfRangeNamesTheDevicesThereAre) {
  const int count = tensor::cuda_device_count();
  for (const int index : {-1, count, count + 100}) {
    EXPECT_THAT(
        [&] {
          Tensor::empty({2}, {DType::f32, {DeviceType::cuda, index}});
        },
        ThrowsMessage<InvalidArgument>(
            AllOf(HasSubstr(fmt::format("cuda:{}", index)),
                  HasSubstr(fmt::format("cuda:0 to cuda:{}", count - 1)))));
  }
  EXPECT_THROW(Stream::current(Device{}), InvalidArgument);
}

TEST_F(TensorStorageTest, EveryTypeGoesToTheDeviceAndBack) {
  for (const auto dtype : kAllTypes) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{7, 3}, Shape{2, 1, 513}}) {
      const auto here = integers(shape, 200, 3, dtype);
      const auto there = here.to(kCuda);
      EXPECT_EQ(there.device(), kCuda);
      EXPECT_EQ(there.shape(), shape);
      EXPECT_EQ(values_of(there), values_of(here)) << name_of(dtype);
      EXPECT_EQ(values_of(there.to(Device{})), values_of(here)) << name_of(dtype);
      EXPECT_TRUE(there.to(kCuda).same_as(there));
    }
  }
}

TEST_F(TensorStorageTest, StridedTensorsKeepTheirOrder) {
  const auto here = normal({5, 6, 7}, 1);
  const auto expected = values_of(here.transpose(0, 2));
  EXPECT_EQ(values_of(here.to(kCuda).transpose(0, 2)), expected);
  EXPECT_EQ(values_of(here.transpose(0, 2).to(kCuda)), expected);
  EXPECT_EQ(values_of(here.to(kCuda).narrow(1, 2, 3)), values_of(here.narrow(1, 2, 3)));
  EXPECT_EQ(values_of(here.to(kCuda).transpose(0, 2).to(Device{})), expected);
}

TEST_F(TensorStorageTest, CopiesBetweenDevicesBroadcastCastAndReachStridedTargets) {
  const auto row = normal({4}, 2, DType::f64);
  auto on_device = Tensor::zeros({3, 4}, {DType::f32, kCuda});
  on_device.copy_(row);
  EXPECT_EQ(values_of(on_device), values_of(row.to(DType::f32).expand({3, 4})));
  auto on_host = Tensor::zeros({4, 3}, {DType::f16});
  on_host.transpose(0, 1).copy_(on_device);
  EXPECT_EQ(values_of(on_host.transpose(0, 1)), values_of(on_device.to(Device{}).to(DType::f16)));
  on_device.transpose(0, 1).copy_(normal({4, 3}, 5));
  EXPECT_EQ(values_of(on_device), values_of(normal({4, 3}, 5).transpose(0, 1)));
}

// More than two pieces of pinned memory (4 MiB each), and a part of one.
TEST_F(TensorStorageTest, LargeCopiesGoByPieces) {
  const auto count = (std::int64_t{9} << 20) / 4 + 11;
  const auto here = Tensor::arange(count, {DType::i32});
  const auto back = here.to(kCuda).to(Device{});
  EXPECT_EQ(back.to_vector<std::int32_t>(), here.to_vector<std::int32_t>());
}

TEST_F(TensorStorageTest, PinnedMemoryCopiesWithoutWaiting) {
  const auto pinned = normal({1000}, 9).pin_memory();
  EXPECT_TRUE(pinned.is_pinned());
  EXPECT_TRUE(pinned.pin_memory().same_as(pinned));
  EXPECT_FALSE(normal({3}, 1).is_pinned());
  const auto there = pinned.to(kCuda, true);
  const auto doubled = ops::mul(there, 2.0);
  const auto back = doubled.to(Device{}, true);
  EXPECT_TRUE(back.is_pinned());
  Stream::current(kCuda).synchronize();
  EXPECT_EQ(values_of(back), values_of(ops::mul(normal({1000}, 9), 2.0)));
}

TEST_F(TensorStorageTest, APinnedBufferIsNotReusedBeforeItsCopyIsDone) {
  std::vector<Tensor> results;
  for (int i = 0; i < 20; ++i) {  // each buffer dies at once; the copies may still be queued
    auto buffer = Tensor::full({5000}, static_cast<double>(i)).pin_memory();
    results.push_back(buffer.to(kCuda, true));
  }
  for (int i = 0; i < 20; ++i) {
    const auto values = values_of(results[static_cast<std::size_t>(i)]);
    EXPECT_EQ(std::count(values.begin(), values.end(), static_cast<double>(i)), 5000) << i;
  }
}

TEST_F(TensorStorageTest, FillsAndFactoriesWriteOnTheDevice) {
  EXPECT_EQ(values_of(Tensor::full({3}, 2.5, {DType::bf16, kCuda})), std::vector<double>(3, 2.5));
  EXPECT_EQ(values_of(Tensor::zeros({2, 2}, {DType::i32, kCuda})), std::vector<double>(4, 0.0));
  EXPECT_EQ(values_of(Tensor::arange(4, {DType::f32, kCuda})), (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(Tensor::scalar(7.0, {DType::f64, kCuda}).item(), 7.0);
  auto part = Tensor::zeros({4, 4}, {DType::f32, kCuda});
  part.narrow(1, 1, 2).fill_(3.0);
  EXPECT_EQ(ops::sum(part).item(), 24.0);
}

TEST_F(TensorStorageTest, RandomNumbersAreThoseOfTheCpu) {
  for (const auto dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    tensor::Generator here(5), there(5);
    EXPECT_EQ(values_of(Tensor::randn({33, 5}, here, {dtype, {}})),
              values_of(Tensor::randn({33, 5}, there, {dtype, kCuda})));
    EXPECT_EQ(values_of(Tensor::rand({17}, here, {dtype, {}})),
              values_of(Tensor::rand({17}, there, {dtype, kCuda})));
    EXPECT_EQ(here.offset(), there.offset());
  }
}

TEST_F(TensorStorageTest, OperandsOnSeveralDevicesAreRefusedByName) {
  const auto here = normal({3, 4}, 1), there = normal({3, 4}, 2).to(kCuda);
  const auto names_both = AllOf(HasSubstr("on cpu"), HasSubstr("on cuda:0"), HasSubstr("to()"));
  const auto refused = [&](auto&& work) {
    EXPECT_THAT(work, ThrowsMessage<InvalidArgument>(names_both));
  };
  refused([&] { ops::add(here, there); });
  refused([&] { ops::mul(there, here); });
  refused([&] { ops::matmul(there, here.transpose(0, 1)); });
  refused([&] { ops::cat({here, there}, 0); });
  refused([&] { ops::linear(there, here); });
  refused([&] { ops::linear(there, there, Tensor::zeros({3})); });
  refused([&] { ops::layer_norm(there, Tensor::zeros({4}), {}); });
  refused([&] { ops::cross_entropy(there, integers({3}, 4, 1)); });
  refused([&] { ops::embedding(there, integers({3}, 3, 1)); });
  auto leaf = here.clone();
  leaf.set_requires_grad(true);
  EXPECT_THROW(leaf.set_grad(there), InvalidArgument);
  EXPECT_THROW(ops::sum(leaf).backward(Tensor::scalar(1.0, {DType::f32, kCuda})), InvalidArgument);
}

TEST_F(TensorStorageTest, HostMemoryIsNotBorrowedAsDeviceMemory) {
  std::vector<float> host(16);
  EXPECT_THAT([&] { Storage::borrow(host.data(), Bytes(64), {}, kCuda); },
              ThrowsMessage<InvalidArgument>(
                  AllOf(HasSubstr("cuda:0"), HasSubstr("host memory"), HasSubstr("to()"))));
  const auto there = Tensor::full({16}, 4.0, {DType::f32, kCuda});
  const auto borrowed = Storage::borrow(there.data(), Bytes(64), {}, kCuda);
  EXPECT_EQ(values_of(Tensor::wrap(borrowed, {16}, DType::f32)), std::vector<double>(16, 4.0));
}

TEST_F(TensorStorageTest, FreedMemoryServesTheNextTensorOfTheStream) {
  const void* first = nullptr;
  {
    const auto tensor = Tensor::empty({3000}, {DType::f32, kCuda});
    first = tensor.data();
  }
  const auto before = tensor::cuda_memory_stats(kCuda);
  const auto next = Tensor::empty({3000}, {DType::f32, kCuda});
  EXPECT_EQ(next.data(), first);
  const auto after = tensor::cuda_memory_stats(kCuda);
  EXPECT_EQ(after.source_allocations, before.source_allocations);
  EXPECT_GT(after.in_use, before.in_use);
  EXPECT_LE(after.in_use, after.held);
}

TEST_F(TensorStorageTest, ExhaustionSaysWhatWasAskedAndWhatIsHeldAndNothingBreaks) {
  const auto huge = std::int64_t{1} << 50;
  EXPECT_THAT(
      [&] {
        Tensor::empty({huge}, {DType::u8, kCuda});
      },
      ThrowsMessage<IoError>(
          AllOf(HasSubstr("allocating 1125899906842624 bytes for a tensor on cuda:0"),
                HasSubstr("are free on cuda:0"), HasSubstr("in use"))));
  // The segment that a small request takes.
  tensor::set_cuda_memory_limit(kCuda, Bytes(1));
  tensor::trim_cuda_memory(kCuda);
  EXPECT_THAT(
      [&] {
        const tensor::StreamGuard guard(Stream::create(kCuda));
        Tensor::empty({100}, {DType::u8, kCuda});
      },
      ThrowsMessage<IoError>(
          AllOf(HasSubstr("allocating 100 bytes"), HasSubstr("a segment of 2097152 bytes"))));
  tensor::set_cuda_memory_limit(kCuda, {});
  tensor::trim_cuda_memory(kCuda);
  const auto held = tensor::cuda_memory_stats(kCuda).held;
  tensor::set_cuda_memory_limit(kCuda, held + Bytes(4 << 20));
  const auto fits = Tensor::empty({3 << 20}, {DType::u8, kCuda});
  EXPECT_THAT(
      [&] {
        Tensor::empty({3 << 20}, {DType::u8, kCuda});
      },
      ThrowsMessage<IoError>(HasSubstr("allowed")));
  tensor::set_cuda_memory_limit(kCuda, {});
  EXPECT_EQ(ops::sum(Tensor::full({5}, 1.0, {DType::f32, kCuda})).item(), 5.0);
}

TEST_F(TensorStorageTest, StreamsRunApartAndWaitWhereTold) {
  const auto side = Stream::create(kCuda);
  auto value = Tensor::full({4096}, 1.0, {DType::f32, kCuda});
  side.wait(Stream::current(kCuda));
  Tensor result;
  {
    const StreamGuard guard(side);
    EXPECT_EQ(Stream::current(kCuda), side);
    result = value;
    for (int i = 0; i < 20; ++i) result = ops::add(result, 1.0);
  }
  EXPECT_NE(Stream::current(kCuda), side);
  Stream::current(kCuda).wait(side);
  result.record_stream(Stream::current(kCuda));
  EXPECT_EQ(values_of(ops::mul(result, 1.0)), std::vector<double>(4096, 21.0));
  side.synchronize();
  EXPECT_TRUE(side.is_idle());
}

// The block goes back to its own stream only when the other one is done with it.
TEST_F(TensorStorageTest, MemoryUsedOnAnotherStreamIsNotOverwritten) {
  const auto side = Stream::create(kCuda);
  for (int round = 0; round < 10; ++round) {
    Tensor sum;
    {
      const auto value = Tensor::full({20000}, 1.0, {DType::f32, kCuda});
      side.wait(Stream::current(kCuda));
      const StreamGuard guard(side);
      sum = value;
      for (int i = 0; i < 5; ++i) sum = ops::add(sum, value);
      value.record_stream(side);
    }
    const auto intruder = Tensor::full({20000}, 100.0, {DType::f32, kCuda});
    const StreamGuard guard(side);
    const auto values = values_of(sum);
    EXPECT_EQ(std::count(values.begin(), values.end(), 6.0), 20000) << "round " << round;
  }
}

TEST_F(TensorStorageTest, EventsTellWhenAndHowLong) {
  tensor::Event never, start(tensor::Event::Timing::yes), end(tensor::Event::Timing::yes);
  EXPECT_TRUE(never.is_done());
  never.synchronize();
  const auto stream = Stream::current(kCuda);
  start.record(stream);
  const auto work = ops::exp(normal({1000}, 1).to(kCuda));
  end.record(stream);
  end.synchronize();
  EXPECT_TRUE(end.is_done());
  EXPECT_GE(end.ms_since(start), 0.0);
  EXPECT_THROW(end.ms_since(never), InvalidArgument);
}

TEST_F(TensorStorageTest, ThreadsHaveTheirOwnCurrentStreams) {
  const auto side = Stream::create(kCuda);
  const StreamGuard guard(side);
  bool same = true;
  std::thread([&] { same = Stream::current(kCuda) == side; }).join();
  EXPECT_FALSE(same);
}

TEST_F(TensorStorageTest, TwoDevicesPassTensorsToOneAnother) {
  if (tensor::cuda_device_count() < 2) GTEST_SKIP() << "one device only";
  const Device second{DeviceType::cuda, 1};
  const auto value = normal({300, 7}, 4);
  const auto there = ops::mul(value.to(kCuda), 2.0).to(second);
  EXPECT_EQ(there.device(), second);
  EXPECT_EQ(values_of(there.to(kCuda)), values_of(ops::mul(value, 2.0)));
  EXPECT_THAT([&] { ops::add(there, value.to(kCuda)); },
              ThrowsMessage<InvalidArgument>(AllOf(HasSubstr("cuda:1"), HasSubstr("cuda:0"))));
}

}  // namespace
}  // namespace weft::tests
