// Device memory and events shared with another process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/base/error.h"
#include "tests/gpu/companion.h"
#include "tests/gpu/device_test.h"
#include "tests/gpu/ipc_text.h"

namespace weft::kernels::cuda {
namespace {

using testing::HasSubstr;

class IpcTest : public DeviceTest {
 protected:
  // False where this system refuses IPC: containers do, and then the error says so.
  bool shares(void* memory) {
    try {
      export_memory(memory);
      return true;
    } catch (const IoError& error) {
      EXPECT_THAT(error.what(), HasSubstr("namespace"));
      return false;
    }
  }
};

TEST_F(IpcTest, AnotherProcessReadsAndWritesTheSameMemory) {
  constexpr std::int64_t kBytes = 100'001;
  void* const memory = allocate(Bytes(kBytes));
  if (!shares(memory)) GTEST_SKIP() << "this system refuses CUDA IPC";
  std::vector<unsigned char> bytes(kBytes, 7);
  bytes.back() = 9;
  copy_to_device(memory, bytes.data(), Bytes(kBytes));
  Companion other("gpu_ipc_main");
  other.say("memory " + text_of(export_memory(memory)) + " " + std::to_string(kBytes));
  EXPECT_EQ(other.hear(), "found 7 9");
  EXPECT_EQ(other.hear(), "written");
  copy_to_host(bytes.data(), memory, Bytes(kBytes));
  EXPECT_EQ(bytes.front(), 8);
  EXPECT_EQ(bytes.back(), 10);
  other.say("close");
  EXPECT_EQ(other.hear(), "closed");
  release(memory);
}

TEST_F(IpcTest, AStreamOfAnotherProcessWaitsForOurEvent) {
  void* const memory = allocate(Bytes(4));
  if (!shares(memory)) GTEST_SKIP() << "this system refuses CUDA IPC";
  void* const event = create_shared_event();
  const OwnedStream stream;
  // The event is recorded behind a function that waits for a word from us.
  struct Gate {
    int ends[2];
  } gate{};
  ASSERT_EQ(::pipe(gate.ends), 0);
  fill_zero(memory, Bytes(4), stream.get());
  stream.synchronize();
  call_on_host(
      stream.get(),
      [](void* data) {
        char word = 0;
        EXPECT_EQ(::read(static_cast<Gate*>(data)->ends[0], &word, 1), 1);
      },
      &gate);
  fill_async(memory, 1, Bytes(4), stream.get());
  record_event(event, stream.get());
  Companion other("gpu_ipc_main");
  other.say("event " + text_of(export_memory(memory)) + " " + text_of(export_event(event)));
  EXPECT_EQ(other.hear(), "waits");
  EXPECT_FALSE(event_done(event));
  EXPECT_EQ(::write(gate.ends[1], "x", 1), 1);
  EXPECT_EQ(other.hear(), "saw 16843009");
  stream.synchronize();
  EXPECT_TRUE(event_done(event));
  destroy_event(event);
  release(memory);
  for (const int end : gate.ends) ::close(end);
}

TEST_F(IpcTest, WhatCannotBeOpenedIsAnErrorThatNamesTheRemedy) {
  void* const memory = allocate(Bytes(256));
  if (!shares(memory)) GTEST_SKIP() << "this system refuses CUDA IPC";
  const auto text = [&](const IpcHandle& handle) -> std::string {
    try {
      import_memory(handle);
    } catch (const IoError& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  EXPECT_THAT(text(export_memory(memory)), HasSubstr("Ranks as threads"));  // our own
  EXPECT_THAT(text(IpcHandle{}), HasSubstr("cudaIpcOpenMemHandle failed"));
  release(memory);
}

}  // namespace
}  // namespace weft::kernels::cuda
