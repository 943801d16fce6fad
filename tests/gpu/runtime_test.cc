// Devices, memory, streams, events and graphs: on a device, and in the emulator on every machine.
#include "kernels/cuda/runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <numeric>
#include <set>
#include <vector>

#include "kernels/base/error.h"
#include "tests/gpu/device_test.h"

namespace weft::kernels::cuda {
namespace {

using testing::HasSubstr;

class RuntimeTest : public DeviceTest {};

template <class E>
std::string message_of(const auto& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing was thrown";
}

PinnedMemory pinned_numbers(int count) {
  PinnedMemory memory(Bytes(count * 4));
  auto* const numbers = reinterpret_cast<int*>(memory.data());
  std::iota(numbers, numbers + count, 1);
  return memory;
}
int* ints(const PinnedMemory& memory) { return reinterpret_cast<int*>(memory.data()); }

// Device memory for a scope.
class Memory {
 public:
  explicit Memory(Bytes bytes) : data_(allocate(bytes)) {}
  ~Memory() { release(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* get() const { return data_; }

 private:
  void* data_;
};

TEST_F(RuntimeTest, DevicesAreDescribed) {
  std::set<std::string> uuids;
  for (int i = 0; i < device_count(); ++i) {
    const DeviceInfo info = device_info(i);
    EXPECT_GE(info.major, 8) << info.name;
    EXPECT_GT(info.memory.value, 0);
    EXPECT_GT(info.multiprocessors, 0);
    EXPECT_GT(info.l2_cache.value, 0);
    EXPECT_GE(info.shared_memory, Bytes(48 << 10));
    EXPECT_EQ(info.pci_bus_id.size(), 12u) << info.pci_bus_id;
    EXPECT_EQ(info.uuid.size(), 40u) << info.uuid;
    uuids.insert(info.uuid);
  }
  EXPECT_EQ(uuids.size(), static_cast<std::size_t>(device_count()));
  EXPECT_FALSE(driver_version().empty());
  EXPECT_FALSE(runtime_version().empty());
}

TEST_F(RuntimeTest, ADeviceOutOfRangeIsNamed) {
  const int count = device_count();
  const auto text = message_of<InvalidArgument>([&] { set_device(count); });
  EXPECT_THAT(text, HasSubstr("CUDA device " + std::to_string(count) + ": expected 0.." +
                              std::to_string(count - 1)));
  EXPECT_THROW(DeviceGuard(-1), InvalidArgument);
  EXPECT_THROW(can_access_peer(0, count), InvalidArgument);
}

TEST_F(RuntimeTest, AGuardPutsTheDeviceBack) {
  const int before = current_device();
  {
    const DeviceGuard guard(device_count() - 1);
    EXPECT_EQ(current_device(), device_count() - 1);
  }
  EXPECT_EQ(current_device(), before);
}

TEST_F(RuntimeTest, WhatIsTooMuchSaysHowMuchIsFree) {
  const MemoryInfo info = memory_info();
  EXPECT_LE(info.free, info.total);
  const Bytes wanted = info.total + Bytes(1);
  EXPECT_EQ(try_allocate(wanted), nullptr);
  const auto text = message_of<IoError>([&] { allocate(wanted); });
  EXPECT_THAT(text, HasSubstr("allocating " + std::to_string(wanted.value) + " bytes"));
  EXPECT_THAT(text, HasSubstr("of " + std::to_string(info.total.value) + " bytes are free"));
  EXPECT_THROW(allocate(Bytes(-1)), InvalidArgument);
  // The failure is over: the next call works.
  const Memory memory(Bytes(16));
  EXPECT_NE(memory.get(), nullptr);
  EXPECT_EQ(allocate(Bytes(0)), nullptr);
}

TEST_F(RuntimeTest, PointersAreTold) {
  const Memory memory(Bytes(64));
  const PinnedMemory pinned(Bytes(64));
  int on_stack = 0;
  EXPECT_EQ(pointer_info(memory.get()).kind, MemoryKind::device);
  EXPECT_EQ(device_of(static_cast<std::byte*>(memory.get()) + 63), current_device());
  EXPECT_EQ(pointer_info(pinned.data() + 5).kind, MemoryKind::pinned);
  EXPECT_EQ(device_of(pinned.data()), -1);
  EXPECT_EQ(pointer_info(&on_stack).kind, MemoryKind::unknown);
  EXPECT_EQ(pointer_info(nullptr).kind, MemoryKind::unknown);
}

TEST_F(RuntimeTest, CopiesAndFillsOnAStream) {
  constexpr int kCount = 100'000;
  const auto from = pinned_numbers(kCount);
  const PinnedMemory to(Bytes(kCount * 4));
  const Memory a(Bytes(kCount * 4)), b(Bytes(kCount * 4));
  const OwnedStream stream;
  copy_async(a.get(), from.data(), from.size(), stream.get());
  copy_async(b.get(), a.get(), from.size(), stream.get());
  fill_async(b.get(), 0x11, Bytes(4), stream.get());
  fill_zero(static_cast<int*>(b.get()) + 1, Bytes(4), stream.get());
  copy_async(to.data(), b.get(), from.size(), stream.get());
  stream.synchronize();
  EXPECT_TRUE(stream_done(stream.get()));
  EXPECT_EQ(ints(to)[0], 0x11111111);
  EXPECT_EQ(ints(to)[1], 0);
  for (int i = 2; i < kCount; ++i) ASSERT_EQ(ints(to)[i], i + 1);
}

TEST_F(RuntimeTest, AHostPointerInPlaceOfADevicesIsRefused) {
  int on_stack = 0;
  EXPECT_THROW(copy_to_device(&on_stack, &on_stack, Bytes(4)), Error);
  EXPECT_THROW(fill_zero(&on_stack, Bytes(4), nullptr), InvalidArgument);
  EXPECT_THROW(export_memory(&on_stack), InvalidArgument);
}

TEST_F(RuntimeTest, AStreamWaitsForAnEventOfAnother) {
  constexpr int kCount = 1 << 20;
  const auto from = pinned_numbers(kCount);
  const PinnedMemory to(Bytes(kCount * 4));
  const Memory device(Bytes(kCount * 4));
  const OwnedStream first(current_device()), second(current_device(), Priority::high);
  Event filled, read;
  EXPECT_TRUE(filled.done());
  for (int round = 0; round < 20; ++round) {
    read.wait_on(first.get());
    fill_async(device.get(), static_cast<unsigned char>(round), from.size(), first.get());
    filled.record(first.get());
    filled.wait_on(second.get());
    copy_async(to.data(), device.get(), from.size(), second.get());
    read.record(second.get());
    read.synchronize();
    EXPECT_TRUE(read.done());
    ASSERT_EQ(ints(to)[kCount - 1], round * 0x01010101);
  }
}

TEST_F(RuntimeTest, EventsMeasureTime) {
  const OwnedStream stream;
  const Memory device(Bytes(1 << 22));
  Event start(true), end(true);
  start.record(stream.get());
  for (int i = 0; i < 10; ++i) fill_zero(device.get(), Bytes(1 << 22), stream.get());
  end.record(stream.get());
  end.synchronize();
  EXPECT_GT(end.ms_since(start), 0.0);
  EXPECT_LE(start.ms_since(end), 0.0);
  const Event never;
  EXPECT_THROW(end.ms_since(never), InvalidArgument);
}

TEST_F(RuntimeTest, TheHostIsCalledInOrder) {
  const OwnedStream stream;
  const PinnedMemory pinned(Bytes(4));
  const Memory device(Bytes(4));
  struct Seen {
    const int* number;
    int value = 0;
  } seen{ints(pinned)};
  fill_async(device.get(), 0x22, Bytes(4), stream.get());
  copy_async(pinned.data(), device.get(), Bytes(4), stream.get());
  call_on_host(
      stream.get(),
      [](void* data) {
        auto& self = *static_cast<Seen*>(data);
        self.value = *self.number;
      },
      &seen);
  stream.synchronize();
  EXPECT_EQ(seen.value, 0x22222222);
}

// What a graph does is not done while it is captured, and done anew by each launch.
TEST_F(RuntimeTest, AGraphRunsWhatWasCapturedOnTwoStreams) {
  constexpr int kCount = 1000;
  const auto from = pinned_numbers(kCount);
  const PinnedMemory to(Bytes(kCount * 4));
  std::memset(to.data(), 0, to.size().size());
  const Memory a(from.size()), b(from.size());
  const OwnedStream stream, side;
  Event forked, joined;
  begin_capture(stream.get());
  EXPECT_TRUE(is_capturing(stream.get()));
  copy_async(a.get(), from.data(), from.size(), stream.get());
  forked.record(stream.get());
  forked.wait_on(side.get());
  EXPECT_TRUE(is_capturing(side.get()));
  copy_async(b.get(), a.get(), from.size(), side.get());
  joined.record(side.get());
  joined.wait_on(stream.get());
  copy_async(to.data(), b.get(), from.size(), stream.get());
  const Graph graph(end_capture(stream.get()));
  EXPECT_FALSE(is_capturing(stream.get()));
  EXPECT_FALSE(is_capturing(side.get()));
  wait_device();
  EXPECT_EQ(ints(to)[5], 0);
  for (int round = 0; round < 3; ++round) {
    ints(from)[5] = 100 + round;
    graph.launch(stream.get());
    stream.synchronize();
    EXPECT_EQ(ints(to)[5], 100 + round);
    EXPECT_EQ(ints(to)[kCount - 1], kCount);
  }
}

TEST_F(RuntimeTest, ACaptureThatCannotBeIsAnError) {
  EXPECT_THROW(begin_capture(nullptr), InvalidArgument);
  const OwnedStream stream, side;
  const Memory device(Bytes(4));
  {  // work that is not joined
    Event forked;
    begin_capture(stream.get());
    forked.record(stream.get());
    forked.wait_on(side.get());
    fill_zero(device.get(), Bytes(4), side.get());
    EXPECT_THAT(message_of<InvalidArgument>([&] { end_capture(stream.get()); }),
                HasSubstr("joined"));
  }
  {  // waiting
    begin_capture(stream.get());
    EXPECT_THROW(wait_stream(stream.get()), Error);
    EXPECT_THROW(end_capture(stream.get()), InvalidArgument);
  }
  {  // memory may be allocated meanwhile, and events asked
    Event event;
    event.record(side.get());
    begin_capture(stream.get());
    const Memory more(Bytes(1024));
    event.done();
    fill_zero(more.get(), Bytes(1024), stream.get());
    const Graph graph(end_capture(stream.get()));
    graph.launch(stream.get());
    stream.synchronize();
  }
  begin_capture(stream.get());
  abandon_capture(stream.get());
  EXPECT_FALSE(is_capturing(stream.get()));
}

TEST_F(RuntimeTest, PeersAreUsedOnceTheyMay) {
  if (device_count() < 2) GTEST_SKIP() << "one device has no peer";
  enable_peer_access(0, 0);
  if (!can_access_peer(0, 1)) {
    EXPECT_THROW(enable_peer_access(0, 1), Unsupported);
    return;
  }
  enable_peer_access(0, 1);
  enable_peer_access(0, 1);  // stands already
  const auto from = pinned_numbers(64);
  const PinnedMemory to(from.size());
  const Memory here(from.size());
  const auto there = [&] {
    const DeviceGuard guard(1);
    return std::make_unique<Memory>(from.size());
  }();
  EXPECT_EQ(device_of(there->get()), 1);
  const OwnedStream stream(0);
  copy_async(here.get(), from.data(), from.size(), stream.get());
  copy_async(there->get(), here.get(), from.size(), stream.get());
  copy_async(to.data(), there->get(), from.size(), stream.get());
  stream.synchronize();
  EXPECT_EQ(ints(to)[63], 64);
}

}  // namespace
}  // namespace weft::kernels::cuda
