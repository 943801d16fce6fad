// The ring of records: what goes in comes out, the oldest make room, and readers on other threads
// never see half of one.
#include "comm/trace/recorder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "comm/schedule/schedule.h"
#include "comm/trace/names.h"
#include "kernels/reduce.h"

namespace weft::comm::trace {
namespace {

CallFields call_of(std::uint64_t serial) {
  CallFields call;
  call.sequence = static_cast<std::uint32_t>(serial * 3);
  call.collective = static_cast<std::uint8_t>(serial % 9);
  call.dtype = static_cast<std::uint8_t>(serial % 7);
  call.op = static_cast<std::uint8_t>(serial % 5);
  call.algorithm = static_cast<std::uint8_t>(serial % 251);
  call.root = static_cast<std::int32_t>(serial % 17) - 1;
  call.count = serial * 5;
  call.bytes = serial * 7;
  call.steps = static_cast<std::uint32_t>(serial * 11);
  return call;
}

void expect_call(const CallFields& found, std::uint64_t serial) {
  const CallFields expected = call_of(serial);
  EXPECT_EQ(found.sequence, expected.sequence);
  EXPECT_EQ(found.collective, expected.collective);
  EXPECT_EQ(found.dtype, expected.dtype);
  EXPECT_EQ(found.op, expected.op);
  EXPECT_EQ(found.algorithm, expected.algorithm);
  EXPECT_EQ(found.root, expected.root);
  EXPECT_EQ(found.count, expected.count);
  EXPECT_EQ(found.bytes, expected.bytes);
  EXPECT_EQ(found.steps, expected.steps);
}

TEST(Recorder, AnOperationGoesItsWay) {
  Recorder recorder;
  Operation read;
  EXPECT_EQ(recorder.begun(), 0u);
  EXPECT_FALSE(recorder.read(1, read));
  const Slot slot = recorder.begin(call_of(1), State::queued, 100);
  ASSERT_TRUE(recorder.read(1, read));
  expect_call(read.call, 1);
  EXPECT_EQ(read.state, State::queued);
  EXPECT_EQ(read.start, 100u);
  EXPECT_EQ(read.end, 0u);
  recorder.run(slot);
  recorder.steps(slot, 4);
  ASSERT_TRUE(recorder.read(1, read));
  EXPECT_EQ(read.state, State::running);
  EXPECT_EQ(read.steps_done, 4u);
  EXPECT_TRUE(recorder.end(slot, State::failed, 300));
  EXPECT_FALSE(recorder.end(slot, State::complete, 400)) << "the first one counts";
  ASSERT_TRUE(recorder.read(1, read));
  EXPECT_EQ(read.state, State::failed);
  EXPECT_EQ(read.end, 300u);
}

TEST(Recorder, TheOldestMakeRoom) {
  Recorder recorder;
  constexpr std::uint64_t kMany = 3 * Recorder::kRecords + 17;
  Slot first;
  for (std::uint64_t serial = 1; serial <= kMany; ++serial) {
    const Slot slot = recorder.begin(call_of(serial), State::running, serial);
    if (serial == 1) first = slot;
    if (serial % 2 == 0) recorder.end(slot, State::complete, serial + 1);
  }
  EXPECT_EQ(recorder.begun(), kMany);
  const std::uint64_t oldest = Recorder::oldest(kMany);
  EXPECT_EQ(oldest, kMany - Recorder::kRecords + 1);
  Operation read;
  EXPECT_FALSE(recorder.read(oldest - 1, read));
  for (std::uint64_t serial = oldest; serial <= kMany; ++serial) {
    ASSERT_TRUE(recorder.read(serial, read));
    expect_call(read.call, serial);
    EXPECT_EQ(read.state, serial % 2 == 0 ? State::complete : State::running);
  }
  // The slot of one that is long gone does no harm to the one in its place.
  const std::uint64_t heir = 3 * Recorder::kRecords + 1;
  EXPECT_FALSE(recorder.end(first, State::failed, 9));
  recorder.run(first);
  recorder.steps(first, 77);
  ASSERT_TRUE(recorder.read(heir, read));
  EXPECT_EQ(read.steps_done, 0u);
  EXPECT_EQ(read.end, 0u);
}

TEST(Recorder, ReadersNeverSeeHalfARecord) {
  Recorder recorder;
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> seen{0};
  const auto read_on = [&] {
    while (!over.load()) {
      const std::uint64_t begun = recorder.begun();
      for (std::uint64_t serial = Recorder::oldest(begun); serial <= begun; ++serial) {
        Operation read;
        if (!recorder.read(serial, read)) continue;
        expect_call(read.call, serial);
        EXPECT_EQ(read.start, serial + 1);
        EXPECT_EQ(read.end != 0, read.state == State::complete);
        EXPECT_TRUE(read.end == 0 || read.end == serial + 2) << read.end;
        seen.fetch_add(1, std::memory_order_relaxed);
        if (::testing::Test::HasFailure()) return;
      }
    }
  };
  std::thread readers[] = {std::thread(read_on), std::thread(read_on)};
  for (std::uint64_t serial = 1; serial <= 200'000 || seen.load() < 5'000; ++serial) {
    const Slot slot = recorder.begin(call_of(serial), State::queued, serial + 1);
    recorder.run(slot);
    recorder.end(slot, State::complete, serial + 2);
    if (::testing::Test::HasFailure()) break;
  }
  over = true;
  for (std::thread& reader : readers) reader.join();
}

TEST(Names, AreThoseOfTheCodes) {
  for (int code = 0; code < kReduceOpCount; ++code) {
    EXPECT_EQ(op_name(static_cast<std::uint8_t>(code)), name_of(static_cast<ReduceOp>(code)));
  }
  EXPECT_EQ(op_name(kReduceOpCount), "");
  EXPECT_EQ(collective_name(0), "all_reduce");
  EXPECT_EQ(collective_name(static_cast<std::uint8_t>(Collective::recv)), "recv");
  EXPECT_EQ(collective_name(static_cast<std::uint8_t>(Collective::recv) + 1), "");
  EXPECT_EQ(dtype_name(255), "");
  EXPECT_EQ(algorithm_name(255), "");
}

TEST(Clock, TicksBecomeNanoseconds) {
  const Ticks before = ticks();
  const std::int64_t begin = raw_monotonic_ns();
  while (raw_monotonic_ns() < begin + 20'000'000) {  // let some time pass
  }
  const Ticks after = ticks();
  const std::int64_t end = raw_monotonic_ns();
  const TickScale scale;
  EXPECT_NEAR(static_cast<double>(scale.monotonic_ns(before)), static_cast<double>(begin), 1e5);
  EXPECT_NEAR(static_cast<double>(scale.monotonic_ns(after)), static_cast<double>(end), 1e5);
  EXPECT_NEAR(static_cast<double>(scale.epoch_ns(scale.now().at)),
              static_cast<double>(scale.now().epoch_ns), 5e7);
}

}  // namespace
}  // namespace weft::comm::trace
