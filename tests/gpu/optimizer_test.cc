// Optimizer steps on a device against kernels::adam and kernels::sgd: bit for bit, as the CPU that
// runs the tests has fused multiply-add.
#include "kernels/cuda/optimizer.h"

#include "kernels/base/error.h"
#include "tests/gpu/device_buffer.h"

namespace weft::kernels {
namespace {

// The CPU's vectors are what devices are compared with.
class CudaOptimizerTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
#if HWY_ARCH_X86
    if ((hwy::SupportedTargets() & HWY_AVX2) == 0) {
      GTEST_SKIP() << "this CPU has no fused multiply-add, so its bits differ";
    }
#endif
  }
};
using CudaAdamTest = CudaOptimizerTest;
using CudaSgdTest = CudaOptimizerTest;

template <class P, class G>
struct AdamState {
  std::size_t count;
  Buffer<P> p, m, v;
  Buffer<G> g;
  Buffer<BFloat16> low;
  DeviceBuffer<P> device_p, device_m, device_v;
  DeviceBuffer<G> device_g;
  DeviceBuffer<BFloat16> device_low;

  // skips: of the parameter (and its state), the gradient and the copy.
  AdamState(std::size_t n, std::array<std::size_t, 3> skips)
      : count(n),
        p(ordinary_buffer<P>(n, n)),
        m(ordinary_buffer<P>(n, n + 1, -0.1, 0.1)),
        v(ordinary_buffer<P>(n, n + 2, 0.0, 0.1)),
        g(ordinary_buffer<G>(n, n + 3)),
        low(n),
        device_p(p, skips[0]),
        device_m(m, skips[0]),
        device_v(v, skips[0]),
        device_g(g, skips[1]),
        device_low(n, skips[2]) {}

  AdamTensor on_host(bool copies) {
    return {p.data(),     g.data(),    m.data(),    v.data(),   copies ? low.data() : nullptr,
            elems(count), dtype_of<P>, dtype_of<G>, DType::bf16};
  }
  AdamTensor on_device(bool copies) {
    return {device_p.data(),
            device_g.data(),
            device_m.data(),
            device_v.data(),
            copies ? device_low.data() : nullptr,
            elems(count),
            dtype_of<P>,
            dtype_of<G>,
            DType::bf16};
  }
  void expect_agreement(bool copies) const {
    expect_same(device_p.host(), p);
    expect_same(device_m.host(), m);
    expect_same(device_v.host(), v);
    if (copies) expect_same(device_low.host(), low);
  }
};

constexpr AdamParams kAdam{0.003, 0.9, 0.95, 1e-8, 0.1, true, 1, 0.3};

template <class P, class G>
void check_adam(bool decoupled) {
  SCOPED_TRACE(std::string(name_of(dtype_of<P>)) + " from " + std::string(name_of(dtype_of<G>)));
  AdamParams params = kAdam;
  params.decoupled = decoupled;
  std::vector<AdamState<P, G>> states;
  const std::array<std::size_t, 3> skips[] = {{0, 0, 0}, {1, 1, 1}, {0, 3, 0}, {2, 0, 1}};
  for (const std::size_t count : {1, 3, 768, 2048, 4099, 0, 10001}) {
    states.emplace_back(count, skips[states.size() % 4]);
  }
  for (int step = 1; step <= 2; ++step) {
    params.step = step;
    std::vector<AdamTensor> host, device;
    for (std::size_t t = 0; t < states.size(); ++t) {
      host.push_back(states[t].on_host(t % 3 != 1));
      device.push_back(states[t].on_device(t % 3 != 1));
    }
    adam(host, params);
    cuda::adam(device, params);
  }
  for (std::size_t t = 0; t < states.size(); ++t) states[t].expect_agreement(t % 3 != 1);
}

TEST_F(CudaAdamTest, AgreesWithTheCpuInEveryMixOfTypes) {
  check_adam<float, float>(true);
  check_adam<float, float>(false);
  check_adam<float, BFloat16>(true);
  check_adam<float, Half>(true);
  check_adam<float, double>(true);
  check_adam<double, double>(true);
  check_adam<double, float>(false);
  check_adam<double, Half>(true);
  check_adam<double, BFloat16>(true);
}

TEST_F(CudaAdamTest, MixedListsLongerThanATable) {
  std::vector<AdamState<float, float>> full;
  std::vector<AdamState<float, Half>> half;
  std::vector<AdamTensor> host, device;
  for (std::size_t t = 0; t < 150; ++t) {
    full.emplace_back(1 + 7 * t, std::array<std::size_t, 3>{t % 2, 0, 0});
    half.emplace_back(1 + 5 * t, std::array<std::size_t, 3>{0, 0, t % 3});
  }
  for (std::size_t t = 0; t < 150; ++t) {
    host.push_back(full[t].on_host(true));
    host.push_back(half[t].on_host(true));
    device.push_back(full[t].on_device(true));
    device.push_back(half[t].on_device(true));
  }
  adam(host, kAdam);
  cuda::adam(device, kAdam);
  for (std::size_t t = 0; t < 150; ++t) {
    full[t].expect_agreement(true);
    half[t].expect_agreement(true);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CudaAdamTest, ReadsRateStepAndScaleFromTheDeviceAndSkipsThere) {
  AdamState<float, float> state(5000, {0, 0, 0});
  DeviceValue<double> rate(0.02), scale(0.25);
  DeviceValue<std::int64_t> step(0);
  DeviceValue<std::int32_t> found(0);
  const cuda::StepOnDevice on_device{rate.data(), step.data(), scale.data(), found.data()};
  const AdamTensor host = state.on_host(true), device = state.on_device(true);
  AdamParams params = kAdam;
  std::int64_t taken = 0;
  for (const bool bad : {false, true, false, false, true}) {
    found.set(bad ? 1 : 0);
    rate.set(0.02 / static_cast<double>(taken + 1));
    cuda::advance_step(step.data(), found.data());
    cuda::adam({&device, 1}, kAdam, on_device);
    if (!bad) {
      params.step = ++taken;
      params.learning_rate = 0.02 / static_cast<double>(taken);
      params.gradient_scale = kAdam.gradient_scale * 0.25;
      adam({&host, 1}, params);
    }
    EXPECT_EQ(step.get(), taken);
    state.expect_agreement(true);
  }
}

TEST_F(CudaAdamTest, ACapturedStepFollowsTheRateAndSkipsWhereItMust) {
  AdamState<float, BFloat16> state(7001, {0, 0, 0});
  DeviceValue<double> rate(0.01);
  DeviceValue<std::int64_t> step(0);
  DeviceValue<std::int32_t> found(0);
  const cuda::StepOnDevice on_device{rate.data(), step.data(), nullptr, found.data()};
  const AdamTensor host = state.on_host(true), device = state.on_device(true);
  const cuda::OwnedStream stream;
  cuda::begin_capture(stream.get());
  cuda::advance_step(step.data(), found.data(), stream.get());
  cuda::adam({&device, 1}, kAdam, on_device, stream.get());
  const cuda::Graph graph(cuda::end_capture(stream.get()));
  EXPECT_EQ(step.get(), 0);
  AdamParams params = kAdam;
  params.step = 0;
  for (const bool bad : {false, false, true, false}) {
    found.set(bad ? 1 : 0);
    params.learning_rate = 0.01 / static_cast<double>(params.step + 2);
    rate.set(params.learning_rate);
    graph.launch(stream.get());
    stream.synchronize();
    if (!bad) {
      ++params.step;
      adam({&host, 1}, params);
    }
    EXPECT_EQ(step.get(), params.step);
    state.expect_agreement(true);
  }
}

TEST_F(CudaAdamTest, RefusesWhatTheCpuRefusesAndMisalignedPointers) {
  AdamState<float, float> state(16, {0, 0, 0});
  AdamTensor tensor = state.on_device(false);
  AdamParams params = kAdam;
  params.step = 0;
  EXPECT_THROW(cuda::adam({&tensor, 1}, params), InvalidArgument);
  tensor.gradient = static_cast<const char*>(tensor.gradient) + 2;
  EXPECT_THROW(cuda::adam({&tensor, 1}, kAdam), InvalidArgument);
  tensor.gradient = nullptr;
  EXPECT_THROW(cuda::adam({&tensor, 1}, kAdam), InvalidArgument);
  tensor.count = Elems(0);
  cuda::adam({&tensor, 1}, kAdam);
}

template <class P, class G>
void check_sgd(double momentum, bool nesterov, bool copies) {
  SCOPED_TRACE(std::string(name_of(dtype_of<P>)) + " from " + std::string(name_of(dtype_of<G>)));
  SgdParams params{0.1, momentum, 0.2, 0.01, nesterov, true, 0.7};
  const bool heavy = momentum != 0.0;
  for (const std::size_t count : {5, 4096, 9003}) {
    for (const std::size_t skip : {0, 1}) {
      auto p = ordinary_buffer<P>(count, 1), buffer = ordinary_buffer<P>(count, 2);
      const auto g = ordinary_buffer<G>(count, 3);
      Buffer<Half> low(count);
      DeviceBuffer<P> device_p(p, skip), device_buffer(buffer);
      DeviceBuffer<G> device_g(g);
      DeviceBuffer<Half> device_low(count);
      const SgdTensor host{p.data(),    g.data(),    heavy ? buffer.data() : nullptr, elems(count),
                           dtype_of<P>, dtype_of<G>, copies ? low.data() : nullptr,   DType::f16};
      SgdTensor device = host;
      device.parameter = device_p.data();
      device.gradient = device_g.data();
      if (heavy) device.momentum = device_buffer.data();
      if (copies) device.low_precision_copy = device_low.data();
      for (int step = 0; step < 2; ++step) {
        params.first_step = step == 0;
        sgd({&host, 1}, params);
        cuda::sgd({&device, 1}, params);
      }
      expect_same(device_p.host(), p);
      expect_same(device_buffer.host(), buffer);
      if (copies) expect_same(device_low.host(), low);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaSgdTest, AgreesWithTheCpu) {
  for (const bool nesterov : {false, true}) {
    check_sgd<float, float>(0.9, nesterov, true);
    check_sgd<float, BFloat16>(0.9, nesterov, false);
    check_sgd<double, Half>(0.9, nesterov, true);
  }
  check_sgd<float, float>(0.0, false, false);
  check_sgd<float, Half>(0.0, false, true);
  check_sgd<float, double>(0.0, false, true);
  check_sgd<double, double>(0.0, false, true);
}

TEST_F(CudaSgdTest, TheDevicesFirstStepFillsTheMomentum) {
  auto p = ordinary_buffer<float>(3000, 1), momentum = ordinary_buffer<float>(3000, 2);
  const auto g = ordinary_buffer<float>(3000, 3);
  DeviceBuffer<float> device_p(p), device_momentum(momentum), device_g(g);
  DeviceValue<std::int64_t> step(0);
  DeviceValue<std::int32_t> found(0);
  const SgdTensor host{p.data(),   g.data(),   momentum.data(), elems(3000),
                       DType::f32, DType::f32, nullptr,         DType::f16};
  SgdTensor device = host;
  device.parameter = device_p.data();
  device.momentum = device_momentum.data();
  device.gradient = device_g.data();
  SgdParams params{0.1, 0.9, 0.0, 0.0, false, false, 1.0};
  const cuda::StepOnDevice on_device{nullptr, step.data(), nullptr, found.data()};
  for (int i = 0; i < 3; ++i) {
    params.first_step = i == 0;
    sgd({&host, 1}, params);
    params.first_step = false;  // the device knows better
    cuda::advance_step(step.data(), found.data());
    cuda::sgd({&device, 1}, params, on_device);
  }
  expect_same(device_p.host(), p);
  expect_same(device_momentum.host(), momentum);
}

}  // namespace
}  // namespace weft::kernels
