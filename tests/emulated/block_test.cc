// The emulator itself: barriers, warps, atomics and shared memory do what CUDA says, and misuse is
// an error with a reason instead of a hang.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "hardware.cuh"
#include "kernels/base/error.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/runtime.h"
#include "tests/emulator/devices.h"

namespace weft::kernels::cuda {
namespace {

using testing::HasSubstr;

template <class T>
std::vector<T> run_into(std::size_t count, auto&& queue) {
  const Bytes bytes(static_cast<std::int64_t>(count * sizeof(T)));
  void* const out = allocate(bytes);
  queue(static_cast<T*>(out));
  std::vector<T> host(count);
  copy_to_host(host.data(), out, bytes);
  release(out);
  return host;
}

__global__ void reverse_kernel(int* out) {
  __shared__ int values[96];
  values[threadIdx.x] = static_cast<int>(threadIdx.x + 100 * blockIdx.x);
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

TEST(BlockTest, SharedMemoryIsWholeAfterABarrier) {
  const auto out = run_into<int>(3 * 96, [](int* to) {
    launch(reverse_kernel, Shape{3, 96}, nullptr, to);
  });
  for (int i = 0; i < 3 * 96; ++i) {
    EXPECT_EQ(out[static_cast<std::size_t>(i)], i / 96 * 100 + 95 - i % 96);
  }
}

__global__ void sum_kernel(float* out) {
  auto* const parts = dynamic_shared<float>();
  const float sum = warp_sum(static_cast<float>(threadIdx.x));
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    const float all = warp_sum(threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0.0f);
    if (threadIdx.x == 0) atomicAdd(out, all);
  }
}

TEST(BlockTest, WarpsAndAtomicsSum) {
  const auto out = run_into<float>(1, [](float* to) {
    copy_to_device(to, std::vector<float>{0.5f}.data(), Bytes(4));
    launch(sum_kernel, Shape{5, 256, 32 * sizeof(float)}, nullptr, to);
  });
  EXPECT_EQ(out[0], 5 * 255.0f * 128.0f + 0.5f);
}

// Errors of kernels stay until the process ends; here they are forgotten so that others can be
// made.
class MisuseTest : public testing::Test {
 protected:
  void TearDown() override { emulated::forget_kept_error(); }

  template <class Kernel>
  std::string failure_of(Kernel kernel, const Shape& shape) {
    int* const out = static_cast<int*>(allocate(Bytes(4096)));
    std::string text;
    try {
      launch(kernel, shape, nullptr, out);
      check(cudaStreamSynchronize(nullptr), "synchronize");
    } catch (const IoError& error) {
      text = error.what();
    }
    emulated::forget_kept_error();
    release(out);
    return text;
  }
};

__global__ void half_a_barrier(int* out) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

TEST_F(MisuseTest, ABarrierThatNotAllThreadsReachIsNamed) {
  EXPECT_THAT(failure_of(half_a_barrier, Shape{1, 64}),
              HasSubstr("of 64 threads 40 wait at __syncthreads() (the first is 0), 24 have ended "
                        "without it (the first is 40)"));
}

__global__ void lanes_that_never_come(int* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
  } else {
    __syncthreads();
  }
}

TEST_F(MisuseTest, LanesThatNeverComeAreNamed) {
  EXPECT_THAT(failure_of(lanes_that_never_come, Shape{1, 32}),
              HasSubstr("16 wait for lanes of their warp (the first is 0)"));
}

__global__ void foreign_mask(int* out) {
  out[0] = static_cast<int>(__ballot_sync(1u, threadIdx.x > 0));
}

TEST_F(MisuseTest, AMaskWithoutTheCallersLaneIsNamed) {
  EXPECT_THAT(failure_of(foreign_mask, Shape{1, 2}), HasSubstr("lacks the caller's own lane"));
}

__global__ void reads_beyond(int* out) {
  out[0] = load_streaming<Pack<int, 4>>(out + 1024 * 1024)[0];
}

TEST_F(MisuseTest, AnAccessToForeignMemoryIsNamed) {
  EXPECT_THAT(failure_of(reads_beyond, Shape{1, 1}), HasSubstr("an access to 16 bytes at"));
}

TEST_F(MisuseTest, AHostPointerIsFoundBeforeTheLaunch) {
  int on_stack = 0;
  try {
    launch(reverse_kernel, Shape{1, 96}, nullptr, &on_stack);
    FAIL() << "a host pointer was taken";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("host memory that is not pinned"));
  }
}

}  // namespace
}  // namespace weft::kernels::cuda
