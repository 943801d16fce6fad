// Tensor core products, matrix loads and asynchronous copies against plain loops: fragments loaded
// as kernels load them, by the layouts of the PTX ISA.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "hardware.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/runtime.h"

namespace weft::kernels::cuda {
namespace {

// Small integers: exact in every type.
std::vector<float> numbers(std::size_t count, int period) {
  std::vector<float> all(count);
  for (std::size_t i = 0; i < count; ++i) {
    all[i] =
        static_cast<float>(static_cast<int>(i * 7 % static_cast<std::size_t>(period)) - period / 2);
  }
  return all;
}

template <class T>
T* on_device(const std::vector<T>& values) {
  const Bytes bytes(static_cast<std::int64_t>(values.size() * sizeof(T)));
  void* const data = allocate(bytes);
  copy_to_device(data, values.data(), bytes);
  return static_cast<T*>(data);
}

// d = a b, a being 16 x k, b k x 8: the values that the products must give.
std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b,
                           std::size_t k) {
  std::vector<float> d(16 * 8);
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      for (std::size_t i = 0; i < k; ++i) d[row * 8 + column] += a[row * k + i] * b[i * 8 + column];
    }
  }
  return d;
}

__device__ void store_fragment(const float (&r)[4], float* d) {
  const unsigned group = threadIdx.x / 4, t = threadIdx.x % 4;
  for (unsigned i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + 2 * t + i % 2] = r[i];
}

// A by ldmatrix, B by ldmatrix with transposition, both through asynchronous copies: as attention
// and matrix products do it.
template <class T>
__global__ void product_16(const T* a, const T* b, float* d) {
  auto* const a_tile = dynamic_shared<T>();  // 16 x 16
  T* const b_tile = a_tile + 16 * 16;        // 16 x 8
  const unsigned lane = threadIdx.x;
  async_copy_16(a_tile + lane * 8, a + lane * 8);
  async_commit();
  async_copy_16(b_tile + lane % 16 * 8, b + lane % 16 * 8);
  async_commit();
  async_wait<0>();
  __syncthreads();
  std::uint32_t fa[4], fb[4];
  // Matrices in the order of a[0..3]: upper left, lower left, upper right, lower right.
  ldmatrix_x4(fa, a_tile + (lane % 16) * 16 + lane / 16 * 8);
  ldmatrix_x4_trans(fb, b_tile + (lane % 16) * 8);  // its last two are the first two again
  const std::uint32_t both[2] = {fb[0], fb[1]};
  const float zero[4] = {0, 0, 0, 0};
  float r[4];
  mma_m16n8k16<T>(r, fa, both, zero);
  store_fragment(r, d);
}

template <class T>
void check_product() {
  const auto a = numbers(16 * 16, 13), b = numbers(16 * 8, 9);
  std::vector<T> a_small, b_small;
  for (const float x : a) a_small.emplace_back(x);
  for (const float x : b) b_small.emplace_back(x);
  T* const on_a = on_device(a_small);
  T* const on_b = on_device(b_small);
  float* const on_d = on_device(std::vector<float>(16 * 8));
  launch(product_16<T>, Shape{1, 32, (16 * 16 + 16 * 8) * sizeof(T)}, nullptr, on_a, on_b, on_d);
  std::vector<float> d(16 * 8);
  copy_to_host(d.data(), on_d, Bytes(16 * 8 * 4));
  EXPECT_EQ(d, product(a, b, 16));
  for (void* data :
       {static_cast<void*>(on_a), static_cast<void*>(on_b), static_cast<void*>(on_d)}) {
    release(data);
  }
}

TEST(TensorCoreTest, AHalfProductIsThePlainOne) { check_product<Half>(); }
TEST(TensorCoreTest, ABFloat16ProductIsThePlainOne) { check_product<BFloat16>(); }

__global__ void product_tf32(const float* a, const float* b, float* d) {
  const unsigned group = threadIdx.x / 4, t = threadIdx.x % 4;
  const std::uint32_t fa[4] = {to_tf32(a[group * 8 + t]), to_tf32(a[(group + 8) * 8 + t]),
                               to_tf32(a[group * 8 + t + 4]), to_tf32(a[(group + 8) * 8 + t + 4])};
  const std::uint32_t fb[2] = {to_tf32(b[t * 8 + group]), to_tf32(b[(t + 4) * 8 + group])};
  const float one[4] = {1, 1, 1, 1};
  float r[4];
  mma_m16n8k8_tf32(r, fa, fb, one);
  store_fragment(r, d);
}

TEST(TensorCoreTest, ATf32ProductIsThePlainOnePlusC) {
  const auto a = numbers(16 * 8, 11), b = numbers(8 * 8, 5);
  float* const on_a = on_device(a);
  float* const on_b = on_device(b);
  float* const on_d = on_device(std::vector<float>(16 * 8));
  launch(product_tf32, Shape{1, 32}, nullptr, on_a, on_b, on_d);
  std::vector<float> d(16 * 8);
  copy_to_host(d.data(), on_d, Bytes(16 * 8 * 4));
  auto wanted = product(a, b, 8);
  for (float& x : wanted) x += 1;
  EXPECT_EQ(d, wanted);
  for (float* data : {on_a, on_b, on_d}) release(data);
}

TEST(TensorCoreTest, Tf32KeepsTenBits) {
  EXPECT_EQ(std::bit_cast<float>(to_tf32(1.0f + 0x1p-11f)), 1.0f + 0x1p-10f);  // a tie: away
  EXPECT_EQ(std::bit_cast<float>(to_tf32(1.0f + 0x1p-12f)), 1.0f);
  EXPECT_EQ(std::bit_cast<float>(to_tf32(-1.0f - 0x1p-11f)), -1.0f - 0x1p-10f);
}

// What is copied asynchronously is there after the wait, and what is committed later is not yet.
__global__ void waits_for_one_group(const int* from, int* out) {
  auto* const tile = dynamic_shared<int>();
  tile[threadIdx.x * 8] = tile[threadIdx.x * 8 + 4] = -1;
  async_copy_16(tile + threadIdx.x * 8, from + threadIdx.x * 4);
  async_commit();
  async_copy_16(tile + threadIdx.x * 8 + 4, from, false);  // zeros
  async_commit();
  out[threadIdx.x] = tile[threadIdx.x * 8];
  async_wait<1>();
  out[32 + threadIdx.x] = tile[threadIdx.x * 8 + 3];
  out[64 + threadIdx.x] = tile[threadIdx.x * 8 + 4];
  async_wait<0>();
  out[96 + threadIdx.x] = tile[threadIdx.x * 8 + 4];
}

TEST(AsyncCopyTest, ACopyIsThereWhenItsGroupWasWaitedFor) {
  std::vector<int> from(128);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<int>(i);
  int* const on_from = on_device(from);
  int* const on_out = on_device(std::vector<int>(128));
  launch(waits_for_one_group, Shape{1, 32, 32 * 8 * 4}, nullptr, on_from, on_out);
  std::vector<int> out(128);
  copy_to_host(out.data(), on_out, Bytes(128 * 4));
  for (int i = 0; i < 32; ++i) {
    const auto at = [&](int row) { return out[static_cast<std::size_t>(row * 32 + i)]; };
    EXPECT_EQ(at(0), -1);
    EXPECT_EQ(at(1), 4 * i + 3);
    EXPECT_EQ(at(2), -1);
    EXPECT_EQ(at(3), 0);
  }
  release(on_from);
  release(on_out);
}

}  // namespace
}  // namespace weft::kernels::cuda
