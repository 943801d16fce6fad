// What the emulated runtime shows that a real one may hide: work that nobody waited for, memory
// that was written past its end, a dependency that a graph lacks, misuse of handles.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "hardware.cuh"
#include "kernels/base/error.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/runtime.h"
#include "tests/emulator/devices.h"
#include "tests/emulator/failure.h"
#include "tests/emulator/memory.h"

namespace weft::kernels::cuda {
namespace {

using testing::HasSubstr;

__global__ void wait_for(const std::uint32_t* word, int* out) {
  while (load_acquire_system(word) == 0) pause_ns(100);
  *out = 1;
}

__global__ void lets_go(std::uint32_t* word) { store_release_system(word, 1u); }

// Pinned words of the host, zeroed.
std::uint32_t* word_in(const PinnedMemory& memory) {
  auto* const word = reinterpret_cast<std::uint32_t*>(memory.data());
  word[0] = word[1] = 0;
  return word;
}

TEST(EmulatedStreamTest, WorkIsNotThereBeforeItIsWaitedFor) {
  const PinnedMemory memory(Bytes(8));
  auto* const word = word_in(memory);
  const OwnedStream stream;
  launch(wait_for, Shape{1, 1}, stream.get(), word, reinterpret_cast<int*>(word + 1));
  EXPECT_FALSE(stream_done(stream.get()));
  EXPECT_EQ(word[1], 0u);
  __atomic_store_n(word, 1u, __ATOMIC_RELEASE);
  stream.synchronize();
  EXPECT_EQ(word[1], 1u);
}

TEST(EmulatedStreamTest, StreamsGoOnBesideOneAnother) {
  const PinnedMemory memory(Bytes(8));
  auto* const word = word_in(memory);
  const OwnedStream first, second;
  launch(wait_for, Shape{1, 1}, first.get(), word, reinterpret_cast<int*>(word + 1));
  launch(lets_go, Shape{1, 1}, second.get(), word);
  first.synchronize();
  EXPECT_EQ(word[1], 1u);
}

__global__ void pass_on(std::uint32_t* flags, unsigned last) {
  if (threadIdx.x == 0) {
    while (blockIdx.x > 0 && load_acquire_system(&flags[blockIdx.x - 1]) == 0) pause_ns(10);
    store_release_system(&flags[blockIdx.x], 1u);
    while (load_acquire_system(&flags[last]) == 0) pause_ns(10);
  }
  __syncthreads();
}

TEST(EmulatedStreamTest, BlocksOfACooperativeLaunchRunAtTheSameTime) {
  const int most = resident_blocks(pass_on, 64);
  ASSERT_GE(most, 16);
  void* const flags = allocate(Bytes(16 * 4));
  fill_zero(flags, Bytes(16 * 4), nullptr);
  launch(pass_on, Shape{16, 64, 0, true}, nullptr, static_cast<std::uint32_t*>(flags), 15u);
  wait_stream(nullptr);
  EXPECT_THROW(launch(pass_on, Shape{static_cast<unsigned>(most) + 1, 64, 0, true}, nullptr,
                      static_cast<std::uint32_t*>(flags), 15u),
               IoError);
  release(flags);
}

__global__ void write_at(int* data, int index) { data[index] = 1; }

TEST(EmulatedMemoryTest, AWritePastTheEndIsFound) {
  auto* const data = static_cast<int*>(allocate(Bytes(12)));
  launch(write_at, Shape{1, 1}, nullptr, data, 2);
  wait_stream(nullptr);
  EXPECT_TRUE(emulated::guards_hold());
  launch(write_at, Shape{1, 1}, nullptr, data, 3);
  wait_stream(nullptr);
  EXPECT_FALSE(emulated::guards_hold());
  EXPECT_THAT(emulated::last_failure(),
              HasSubstr("memory behind an allocation of 12 bytes was written to, 0 bytes from it"));
  EXPECT_EQ(cudaFree(data), cudaErrorIllegalAddress);
  emulated::forget_kept_error();
}

TEST(EmulatedMemoryTest, FreshAndFreedMemoryIsNotANumber) {
  auto* const data = static_cast<float*>(allocate(Bytes(4)));
  float value = 0;
  copy_to_host(&value, data, Bytes(4));
  EXPECT_TRUE(std::isnan(value));
  release(data);
  EXPECT_EQ(cudaFree(data), cudaErrorInvalidValue) << "freed twice";
  EXPECT_EQ(pointer_info(data).kind, MemoryKind::unknown);
  EXPECT_THROW(copy_to_host(&value, data, Bytes(4)), Error);
}

TEST(EmulatedMemoryTest, AnotherDevicesMemoryNeedsPeerAccess) {
  ASSERT_EQ(device_count(), 2) << "WEFT_EMULATED_DEVICES is 2 unless set";
  void* data = nullptr;
  {
    const DeviceGuard guard(1);
    data = allocate(Bytes(64));
  }
  cudaDeviceDisablePeerAccess(1);
  try {
    launch(write_at, Shape{1, 1}, nullptr, static_cast<int*>(data), 0);
    FAIL() << "a kernel of device 0 may not write to device 1";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), HasSubstr("no access to that peer"));
  }
  enable_peer_access(0, 1);
  launch(write_at, Shape{1, 1}, nullptr, static_cast<int*>(data), 0);
  wait_stream(nullptr);
  release(data);
}

TEST(EmulatedHandleTest, DestroyedAndForeignHandlesAreRefused) {
  const Stream stream = create_stream();
  destroy_stream(stream);
  EXPECT_EQ(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)),
            cudaErrorInvalidResourceHandle);
  const OwnedStream here(0);
  const DeviceGuard guard(1);
  void* const event = create_event();  // of device 1
  EXPECT_THROW(record_event(event, here.get()), InvalidArgument);
  void* const data = allocate(Bytes(4));
  EXPECT_THROW(launch(write_at, Shape{1, 1}, here.get(), static_cast<int*>(data), 0),
               InvalidArgument);
  release(data);
  destroy_event(event);
}

TEST(EmulatedGraphTest, WorkThatIsNotOrderedIsNotOrdered) {
  const OwnedStream stream, side;
  const PinnedMemory memory(Bytes(8));
  auto* const word = word_in(memory);
  Event forked, joined, outside;
  outside.record(side.get());
  begin_capture(stream.get());
  EXPECT_THROW(outside.wait_on(stream.get()), IoError) << "the graph would not know that work";
  abandon_capture(stream.get());
  begin_capture(stream.get());
  forked.record(stream.get());
  forked.wait_on(side.get());
  fill_async(word, 1, Bytes(4), stream.get());
  fill_async(word, 2, Bytes(4), side.get());  // in no order with the one before
  joined.record(side.get());
  joined.wait_on(stream.get());
  const Graph graph(end_capture(stream.get()));
  graph.launch(stream.get());
  stream.synchronize();
  EXPECT_EQ(word[0], emulated::latest_first() ? 0x01010101u : 0x02020202u);
}

__global__ void from_stack(int* out) {
  __shared__ int total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  atomicAdd(&total, __syncthreads_count(threadIdx.x % 3 == 0));
  __syncthreads();
  if (threadIdx.x == 0) *out = total;
}

TEST(EmulatedStreamTest, ManyStreamsRunBlocksWithBarriers) {
  std::vector<OwnedStream> streams(4);
  void* const out = allocate(Bytes(4 * 4));
  for (int round = 0; round < 10; ++round) {
    for (std::size_t i = 0; i < streams.size(); ++i) {
      launch(from_stack, Shape{2, 96}, streams[i].get(), static_cast<int*>(out) + i);
    }
  }
  for (const auto& stream : streams) stream.synchronize();
  int totals[4];
  copy_to_host(totals, out, Bytes(sizeof totals));
  for (const int total : totals) EXPECT_EQ(total, 96 * 32);
  release(out);
}

__global__ void spins(const std::uint32_t* word) {
  while (load_acquire_system(word) == 0) {
  }
}

TEST(EmulatedStreamDeathTest, AKernelThatWaitsForeverEnds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        ::setenv("WEFT_EMULATED_TIMEOUT", "1", 1);
        const PinnedMemory memory(Bytes(8));
        launch(spins, Shape{1, 1}, nullptr, word_in(memory));
        try {
          wait_stream(nullptr);
        } catch (const IoError& error) {
          std::fprintf(stderr, "%s\n", error.what());
          std::_Exit(3);
        }
      },
      testing::ExitedWithCode(3), "waited for longer than WEFT_EMULATED_TIMEOUT");
}

}  // namespace
}  // namespace weft::kernels::cuda
