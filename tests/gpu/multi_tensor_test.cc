// Scaling, checks, norms and the loss scale on a device against the CPU, bit for bit.
#include "kernels/cuda/multi_tensor.h"

#include "kernels/base/error.h"
#include "tests/gpu/device_buffer.h"

namespace weft::kernels {
namespace {

using CudaScaleTest = DeviceTest;
using CudaUnscaleTest = DeviceTest;
using CudaLossScaleTest = DeviceTest;
using CudaNormTest = DeviceTest;

// Lists of one type, on the host and the device.
template <class T>
struct Lists {
  std::vector<Buffer<T>> host;
  std::vector<DeviceBuffer<T>> device;
  std::vector<FlatTensor> host_list, device_list;

  void add(const Buffer<T>& values, std::size_t skip) {
    host.push_back(values);
    device.emplace_back(values, skip);
  }
  // Puts them behind those that are there already.
  void append_to(std::vector<FlatTensor>& on_host, std::vector<FlatTensor>& on_device) {
    for (std::size_t t = 0; t < host.size(); ++t) {
      on_host.push_back({host[t].data(), elems(host[t].size()), dtype_of<T>});
      on_device.push_back({device[t].data(), elems(host[t].size()), dtype_of<T>});
    }
  }
  void expect_agreement() const {
    for (std::size_t t = 0; t < host.size(); ++t) {
      SCOPED_TRACE("tensor " + std::to_string(t) + " of " + std::string(name_of(dtype_of<T>)));
      expect_same(device[t].host(), host[t]);
    }
  }
};

// A list of all types, with tensors of many sizes at many alignments.
struct MixedLists {
  Lists<float> f32;
  Lists<double> f64;
  Lists<Half> f16;
  Lists<BFloat16> bf16;
  std::vector<FlatTensor> host, device;

  explicit MixedLists(std::size_t tensors_each) {
    const std::size_t counts[] = {1, 700, 4096, 0, 4097, 16384, 33001};
    for (std::size_t t = 0; t < tensors_each; ++t) {
      const std::size_t count = t < 7 ? counts[t] : 1 + t % 97;
      f32.add(ordinary_buffer<float>(count, t), t % 3);
      f64.add(ordinary_buffer<double>(count, t + 1), t % 2);
      f16.add(ordinary_buffer<Half>(count, t + 2), t % 5);
      bf16.add(ordinary_buffer<BFloat16>(count, t + 3), t % 7);
    }
    f32.append_to(host, device);
    f64.append_to(host, device);
    f16.append_to(host, device);
    bf16.append_to(host, device);
  }
  void expect_agreement() const {
    f32.expect_agreement();
    f64.expect_agreement();
    f16.expect_agreement();
    bf16.expect_agreement();
  }
};

TEST_F(CudaScaleTest, AgreesWithTheCpu) {
  MixedLists lists(200);
  scale(lists.host, 0.3);
  cuda::scale(lists.device, 0.3);
  lists.expect_agreement();
}

TEST_F(CudaScaleTest, ReadsItsFactorFromTheDevice) {
  MixedLists lists(8);
  DeviceValue<double> factor(1.0);
  cuda::scale(lists.device, factor.data());
  lists.expect_agreement();
  factor.set(1.0 / 3.0);
  cuda::scale(lists.device, factor.data());
  scale(lists.host, 1.0 / 3.0);
  lists.expect_agreement();
}

TEST_F(CudaUnscaleTest, AgreesWithTheCpuAndSharesItsFlag) {
  MixedLists lists(150);
  DeviceValue<std::int32_t> found(0);
  EXPECT_FALSE(unscale_and_check(lists.host, 48.0));
  cuda::unscale_and_check(lists.device, 48.0, found.data());
  lists.expect_agreement();
  EXPECT_EQ(found.get(), 0);
  found.set(7);  // of an earlier call
  cuda::unscale_and_check(lists.device, 1.0, found.data());
  EXPECT_EQ(found.get(), 7);
}

template <class T>
void check_found(std::size_t count) {
  for (const double bad : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    for (const std::size_t where : {std::size_t{0}, count / 2, count - 1}) {
      for (const std::size_t skip : {0, 1}) {
        auto values = ordinary_buffer<T>(count, count);
        values.set(where, from_double<T>(bad));
        DeviceBuffer<T> buffer(values, skip);
        const FlatTensor tensor{buffer.data(), elems(count), dtype_of<T>};
        DeviceValue<std::int32_t> found(0);
        cuda::unscale_and_check({&tensor, 1}, 8.0, found.data());
        ASSERT_EQ(found.get(), 1) << bad << " at " << where << " of " << count;
      }
    }
  }
}

TEST_F(CudaUnscaleTest, FindsWhatIsNotFiniteWhereverItIs) {
  for (const std::size_t count : {1, 17, 4096, 9001}) {
    ASSERT_NO_FATAL_FAILURE(check_found<float>(count));
    ASSERT_NO_FATAL_FAILURE(check_found<double>(count));
    ASSERT_NO_FATAL_FAILURE(check_found<Half>(count));
    ASSERT_NO_FATAL_FAILURE(check_found<BFloat16>(count));
  }
}

TEST_F(CudaUnscaleTest, SeesResultsThatOverflowTheirType) {
  for (const float value : {40000.0f, 30000.0f}) {
    DeviceValue<Half> half{Half(value)};
    DeviceValue<std::int32_t> found(0);
    const FlatTensor tensor{half.data(), Elems(1), DType::f16};
    cuda::unscale_and_check({&tensor, 1}, 0.5, found.data());
    EXPECT_EQ(found.get(), value == 40000.0f ? 1 : 0);
    EXPECT_EQ(half.get().bits, Half(value * 2).bits);
  }
}

TEST_F(CudaLossScaleTest, FollowsTheCpuWithoutAskingTheHost) {
  const LossScaleParams params{2.0, 0.5, 3, 1.0};
  LossScale host;
  DeviceValue<LossScale> device(host);
  for (int step = 0; step < 30; ++step) {
    auto values = ordinary_buffer<Half>(300, 1);
    if (step % 7 == 5) values.set(299, from_double<Half>(HUGE_VAL));
    DeviceBuffer<Half> gradient(values);
    const FlatTensor tensor{gradient.data(), Elems(300), DType::f16};
    const FlatTensor host_tensor{values.data(), Elems(300), DType::f16};
    cuda::unscale_and_check({&tensor, 1}, device.data());
    host.found_inf = unscale_and_check({&host_tensor, 1}, host.scale) ? 1 : 0;
    EXPECT_EQ(device.get().found_inf, host.found_inf);
    expect_same(gradient.host(), values);
    cuda::update_loss_scale(device.data(), params);
    update_loss_scale(host, params);
    const LossScale now = device.get();
    EXPECT_EQ(now.scale, host.scale);
    EXPECT_EQ(now.clean_steps, host.clean_steps);
    EXPECT_EQ(now.skipped, host.skipped);
    EXPECT_EQ(now.lost, host.lost);
    EXPECT_EQ(now.found_inf, 0);
  }
}

double device_norm(std::span<const FlatTensor> tensors) {
  DeviceBuffer<std::uint8_t> workspace(cuda::norm_workspace(tensors).size());
  DeviceValue<double> result(-1.0);
  cuda::squared_norm(tensors, workspace.data(), result.data());
  workspace.host();  // and its guards
  return result.get();
}

TEST_F(CudaNormTest, HasTheCpusBits) {
  MixedLists lists(130);
  EXPECT_EQ(device_norm(lists.device), squared_norm(lists.host));
  EXPECT_EQ(device_norm({}), 0.0);
  const FlatTensor single[] = {lists.device[5]}, same[] = {lists.host[5]};
  EXPECT_EQ(device_norm(single), squared_norm(same));
}

// Magnitudes so far apart that any other order of additions rounds differently somewhere.
template <class T>
void check_order(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Buffer<T> values(4096 * 3 + 100);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double mantissa = 1.0 + std::ldexp(static_cast<double>(random() >> 11), -53);
    values.set(i, static_cast<T>(std::ldexp(mantissa, static_cast<int>(random() % 24))));
  }
  DeviceBuffer<T> buffer(values);
  const FlatTensor device{buffer.data(), elems(values.size()), dtype_of<T>};
  const FlatTensor host{values.data(), elems(values.size()), dtype_of<T>};
  EXPECT_EQ(device_norm({&device, 1}), squared_norm({&host, 1})) << seed;
}

TEST_F(CudaNormTest, AddsInTheOrderOfTheCpu) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    check_order<float>(seed);
    check_order<double>(seed);
  }
}

TEST_F(CudaNormTest, MoreChunksThanLanes) {
  Lists<BFloat16> lists;
  lists.add(ordinary_buffer<BFloat16>(4096 * 1030 + 77, 5), 0);
  std::vector<FlatTensor> host, device;
  lists.append_to(host, device);
  EXPECT_EQ(device_norm(device), squared_norm(host));
}

TEST_F(CudaNormTest, SeesInfinityAndNan) {
  for (const double bad : {HUGE_VAL, std::nan("")}) {
    auto values = ordinary_buffer<float>(5000, 1);
    values.set(4999, static_cast<float>(bad));
    DeviceBuffer<float> buffer(values);
    const FlatTensor tensor{buffer.data(), Elems(5000), DType::f32};
    EXPECT_FALSE(std::isfinite(device_norm({&tensor, 1})));
  }
}

TEST_F(CudaNormTest, ClipsOnTheDevice) {
  for (const double max_norm : {1e9, 1.0, 0.0}) {
    MixedLists lists(9);
    const double norm = std::sqrt(squared_norm(lists.host));
    const double factor = max_norm / (norm + 1e-6);
    if (factor < 1.0) scale(lists.host, factor);
    DeviceBuffer<std::uint8_t> workspace(cuda::norm_workspace(lists.device).size());
    DeviceValue<double> device_result(0.0);
    cuda::clip_norm(lists.device, max_norm, workspace.data(), device_result.data());
    EXPECT_EQ(device_result.get(), norm);
    lists.expect_agreement();
    workspace.host();
  }
}

TEST_F(CudaScaleTest, RefusesWhatItCannotDo) {
  DeviceBuffer<float> memory(8);
  DeviceValue<std::int32_t> found(0);
  const FlatTensor good{memory.data(), Elems(8), DType::f32};
  const FlatTensor integers{memory.data(), Elems(8), DType::i32};
  const FlatTensor odd{reinterpret_cast<char*>(memory.data()) + 2, Elems(4), DType::f32};
  EXPECT_THROW(cuda::scale({&integers, 1}, 2.0), InvalidArgument);
  EXPECT_THROW(cuda::scale({&odd, 1}, 2.0), InvalidArgument);
  EXPECT_THROW(cuda::scale({&good, 1}, static_cast<const double*>(nullptr)), InvalidArgument);
  EXPECT_THROW(cuda::unscale_and_check({&good, 1}, 0.0, found.data()), InvalidArgument);
  EXPECT_THROW(cuda::unscale_and_check({&good, 1}, 1.0, nullptr), InvalidArgument);
  EXPECT_THROW(cuda::unscale_and_check({&good, 1}, nullptr), InvalidArgument);
  EXPECT_THROW(cuda::squared_norm({&good, 1}, nullptr, nullptr), InvalidArgument);
  EXPECT_THROW(cuda::clip_norm({&good, 1}, -1.0, memory.data()), InvalidArgument);
}

}  // namespace
}  // namespace weft::kernels
