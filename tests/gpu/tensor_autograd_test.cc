// Autograd on a CUDA device: streams, hooks, buffers, and mixed graphs of host and device.
#include <gmock/gmock.h>

#include "tensor/ops/nn.h"
#include "tests/gpu/cuda_tensors.h"

namespace weft::tests {
namespace {

using tensor::Stream;
using tensor::StreamGuard;

class TensorAutogradTest : public CudaTensorTest {};

Tensor leaf(Shape shape, std::uint64_t seed, Device device = kCuda) {
  auto result = normal(std::move(shape), seed).to(device).detach();
  result.set_requires_grad(true);
  return result;
}

TEST_F(TensorAutogradTest, GradientsAccumulateOverUsesAndBackwards) {
  const auto x = leaf({40, 3}, 1);
  for (int round = 1; round <= 2; ++round) {
    ops::sum(ops::add(ops::mul(x, 2.0), x)).backward();
    EXPECT_EQ(values_of(x.grad()), std::vector<double>(120, 3.0 * round));
  }
}

TEST_F(TensorAutogradTest, BackwardRunsOnTheStreamsOfForward) {
  const auto side = Stream::create(kCuda), other = Stream::create(kCuda);
  const auto x = leaf({3000}, 1);
  const auto y = leaf({3000}, 2);
  Tensor a, b;
  side.wait(Stream::current(kCuda));
  other.wait(Stream::current(kCuda));
  std::vector<void*> seen;
  const auto spy = [&seen](const Tensor& in) {  // an operation that notes where its backward runs
    return tensor::autograd::record("spy", ops::mul(in.detach(), 1.0), {in},
                                    [&seen](const Tensor& grad) -> std::vector<Tensor> {
                                      seen.push_back(Stream::current(kCuda).handle());
                                      return {ops::mul(grad, 1.0)};
                                    });
  };
  {
    const StreamGuard guard(side);
    a = spy(ops::mul(x, y));
    for (int i = 0; i < 8; ++i) a = ops::add(a, x);
  }
  {
    const StreamGuard guard(other);
    b = spy(ops::mul(x, 3.0));
    for (int i = 0; i < 8; ++i) b = ops::add(b, y);
  }
  const auto here = Stream::current(kCuda);
  here.wait(side);
  here.wait(other);
  ops::sum(ops::add(a, b)).backward();
  EXPECT_EQ(seen, (std::vector<void*>{other.handle(), side.handle()}));
  EXPECT_LE(relative_distance(x.grad(), ops::add(y.detach(), 11.0)), 1e-6);
  EXPECT_LE(relative_distance(y.grad(), ops::add(x.detach(), 8.0)), 1e-6);
}

TEST_F(TensorAutogradTest, GraphsCrossBetweenHostAndDevice) {
  const auto here = leaf({6, 5}, 1, Device{});
  const auto there = leaf({5}, 2);
  const auto back = ops::mul(ops::mul(here.to(kCuda), there).to(Device{}), 2.0);
  ops::sum(back).backward();
  EXPECT_EQ(here.grad().device(), Device{});
  EXPECT_LE(
      relative_distance(here.grad(), ops::mul(there.to(Device{}).detach(), 2.0).expand({6, 5})),
      1e-6);
  EXPECT_LE(relative_distance(there.grad(), ops::mul(ops::sum(here.detach(), {0}), 2.0)), 1e-5);
}

TEST_F(TensorAutogradTest, HooksAndGradientBuffersWorkAsOnTheCpu) {
  auto x = leaf({4, 4}, 1);
  const auto buffer = Tensor::zeros({4, 4}, {DType::f32, kCuda});
  x.set_grad_buffer(buffer);
  std::vector<double> at_hook;
  x.on_grad_ready([&](const Tensor& ready) { at_hook = values_of(ready.grad()); });
  ops::sum(ops::matmul(x, x)).backward();
  EXPECT_EQ(x.grad().data(), buffer.data());
  EXPECT_EQ(at_hook, values_of(buffer));
  const auto twin = leaf({4, 4}, 1, Device{});
  ops::sum(ops::matmul(twin, twin)).backward();
  EXPECT_LE(relative_distance(buffer, twin.grad()), 1e-5);
}

TEST_F(TensorAutogradTest, SlicesSumTheirGradientsInPlace) {
  const auto x = leaf({6, 4}, 1);
  const auto parts = ops::add(ops::mul(x.narrow(0, 0, 3), 2.0), x.narrow(0, 3, 3));
  ops::sum(ops::add(parts, x.narrow(0, 1, 3))).backward();
  EXPECT_EQ(values_of(ops::sum(x.grad(), {1})), (std::vector<double>{8, 12, 12, 8, 4, 4}));
}

TEST_F(TensorAutogradTest, AGradientOnTheWrongDeviceIsRefusedByName) {
  const auto x = leaf({3}, 1);
  const auto y = tensor::autograd::record(
      "wrong", ops::mul(x.detach(), 1.0), {x},
      [](const Tensor& grad) -> std::vector<Tensor> { return {grad.to(Device{})}; });
  EXPECT_THAT([&] { ops::sum(y).backward(); },
              ::testing::ThrowsMessage<InvalidArgument>(
                  ::testing::AllOf(::testing::HasSubstr("'wrong'"), ::testing::HasSubstr("on cpu"),
                                   ::testing::HasSubstr("cuda:0"))));
}

}  // namespace
}  // namespace weft::tests
