// Reductions on a device against kernels::reduce, bit for bit.
#include "kernels/cuda/reduce.h"

#include "kernels/base/error.h"
#include "tests/gpu/device_buffer.h"

namespace weft::kernels {
namespace {

using CudaReduceTest = DeviceTest;

// skips: elements past a boundary for the output and for each input, in turns.
template <class T>
void check_reduce(ReduceOp op, std::size_t inputs, std::size_t count, std::int64_t divisor,
                  std::vector<std::size_t> skips = {0}, bool in_place = false) {
  SCOPED_TRACE(std::string(name_of(op)) + " of " + std::to_string(inputs) + " inputs of " +
               std::string(name_of(dtype_of<T>)) + ", divisor " + std::to_string(divisor));
  std::vector<Buffer<T>> host;
  std::vector<DeviceBuffer<T>> device;
  std::vector<const void*> host_inputs, device_inputs;
  for (std::size_t k = 0; k < inputs; ++k) {
    host.push_back(awkward_buffer<T>(count, 0, 100 * count + k));
    device.emplace_back(host.back(), skips[(k + 1) % skips.size()]);
  }
  for (auto& buffer : host) host_inputs.push_back(buffer.data());
  for (auto& buffer : device) device_inputs.push_back(buffer.data());
  Buffer<T> want(count);
  reduce(want.data(), host_inputs, elems(count), dtype_of<T>, op, divisor);
  DeviceBuffer<T> fresh(count, skips[0]);
  DeviceBuffer<T>& out = in_place ? device[inputs / 2] : fresh;
  cuda::reduce(out.data(), device_inputs, elems(count), dtype_of<T>, op, divisor);
  expect_same(out.host(), want);
}

TEST_F(CudaReduceTest, EveryTypeAndOperation) {
  for (int type = 0; type < kDTypeCount; ++type) {
    for (int op = 0; op < kReduceOpCount; ++op) {
      dispatch(static_cast<DType>(type), [&]<class T>() {
        for (const std::size_t inputs : {1, 2, 3, 4, 5, 8, 9}) {
          check_reduce<T>(static_cast<ReduceOp>(op), inputs, 5000, 8);
          check_reduce<T>(static_cast<ReduceOp>(op), inputs, 37, 3);
        }
      });
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaReduceTest, AnyCountAlignmentAndAlias) {
  for (const std::size_t count : {1, 255, 1024, 4096, 4100, 16384, 16390}) {
    for (const bool in_place : {false, true}) {
      check_reduce<float>(ReduceOp::sum, 2, count, 1, {0}, in_place);
      check_reduce<float>(ReduceOp::avg, 5, count, 5, {3}, in_place);
      check_reduce<BFloat16>(ReduceOp::sum, 2, count, 1, {1, 1, 5}, in_place);
      check_reduce<Half>(ReduceOp::max, 4, count, 1, {7, 7}, in_place);
      check_reduce<std::uint8_t>(ReduceOp::min, 3, count, 1, {1, 2, 3, 4}, in_place);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaReduceTest, HalvesOfManyInputsAreRoundedOnce) {
  check_reduce<BFloat16>(ReduceOp::sum, cuda::kReduceInputsMax, 100, 1);
  check_reduce<Half>(ReduceOp::avg, 100, 300, 100);
}

TEST_F(CudaReduceTest, RefusesWhatItCannotDo) {
  DeviceBuffer<float> memory(8);
  const std::vector<const void*> one = {memory.data()};
  const std::vector<const void*> many(cuda::kReduceInputsMax + 1, memory.data());
  const std::vector<const void*> odd = {reinterpret_cast<const char*>(memory.data()) + 2};
  const std::vector<const void*> null = {nullptr};
  const auto sum = [&](std::span<const void* const> inputs) {
    cuda::reduce(memory.data(), inputs, Elems(4), DType::f32, ReduceOp::sum);
  };
  EXPECT_THROW(sum({}), InvalidArgument);
  EXPECT_THROW(sum(many), InvalidArgument);
  EXPECT_THROW(sum(odd), InvalidArgument);
  EXPECT_THROW(sum(null), InvalidArgument);
  EXPECT_THROW(cuda::reduce(memory.data(), one, Elems(4), DType::f32, ReduceOp::avg, 0),
               InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels
