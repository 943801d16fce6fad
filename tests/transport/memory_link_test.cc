// Links between ranks that can address each other's memory: each way a frame can travel, a peer
// that goes, and areas that are damaged.
#include "comm/transport/memory/link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "comm/transport/memory/area.h"

namespace weft::comm::memory {
namespace {

using ::testing::HasSubstr;

// One registered buffer, segment 1; all others are ordinary.
class OneSegment final : public AddressBook {
 public:
  explicit OneSegment(std::vector<std::byte>& segment) : segment_(segment) {}
  Posted post(const void* data, Bytes bytes) const override {
    const auto* const at = static_cast<const std::byte*>(data);
    if (at < segment_.data() || at + bytes.size() > segment_.data() + segment_.size()) {
      return kOrdinary;
    }
    return {std::uint64_t{1} << kOffsetBits | static_cast<std::uint64_t>(at - segment_.data())};
  }
  std::byte* locate(int, Posted where, Bytes bytes) const override {
    const std::uint64_t offset = where.value & ((std::uint64_t{1} << kOffsetBits) - 1);
    if (where.value >> kOffsetBits != 1 || offset > segment_.size()) return nullptr;
    if (bytes.size() > segment_.size() - offset) return nullptr;
    return segment_.data() + offset;
  }
  bool reaches_all() const override { return false; }
  std::chrono::milliseconds patience() const override { return std::chrono::milliseconds(10); }

 private:
  std::vector<std::byte>& segment_;
};

// Two ranks, 0 which sends and 1 which receives.
class MemoryLinks : public ::testing::Test {
 protected:
  static constexpr std::size_t kLong = 5 * kPieceBytes + 100;

  MemoryLinks() {
    for (std::size_t i = 0; i < kLong; ++i) {
      plain_[i] = segment_[i] = static_cast<std::byte>(i * 7 + i / 251);
    }
    tag_.sequence = 5;
    tag_.count = 3;
  }

  static std::shared_ptr<std::byte> zeroed_area(const AreaLayout& layout) {
    auto* const memory = static_cast<std::byte*>(std::aligned_alloc(4096, layout.bytes()));
    std::memset(memory, 0, layout.bytes());
    make_area(memory, layout, 7);
    return {memory, [](std::byte* area) { std::free(area); }};
  }
  Group group_of(int self) { return {GroupMembers{self, {0, 1}, areas_, {}}, layout_, book_}; }

  // The first slot on the way from 0 to 1.
  Slot& slot() { return group_.pipe(0, 1, 0).slots[0]; }

  void send(const std::vector<std::byte>& from, std::size_t bytes) {
    sender_.start_send(tag_, from.data(), Bytes(static_cast<std::int64_t>(bytes)));
  }
  void receive(std::size_t bytes, bool view_allowed = false) {
    receiver_.start_recv(tag_, into_.data(), Bytes(static_cast<std::int64_t>(bytes)), view_allowed);
  }
  const void* poll_until_there() {
    for (int k = 0; k < 1000; ++k) {
      sender_.poll_send();
      if (const void* data = receiver_.poll_recv()) return data;
    }
    return nullptr;
  }
  void expect_damaged() {
    try {
      receiver_.poll_recv();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const Corrupt& error) {
      EXPECT_THAT(error.what(), HasSubstr("rank 0"));
      EXPECT_THAT(error.what(), HasSubstr("damaged"));
    }
  }

  const AreaLayout layout_{2, 1, 4096, true};
  const std::vector<std::shared_ptr<std::byte>> areas_{zeroed_area(layout_), zeroed_area(layout_)};
  std::vector<std::byte> segment_ = std::vector<std::byte>(kLong);
  std::vector<std::byte> plain_ = std::vector<std::byte>(kLong);
  std::vector<std::byte> into_ = std::vector<std::byte>(kLong);
  const std::shared_ptr<OneSegment> book_ = std::make_shared<OneSegment>(segment_);
  const Group senders_ = group_of(0);
  const Group group_ = group_of(1);
  FrameTag tag_;
  std::uint64_t moved_ = 0;
  MemoryLink sender_{senders_, 1, 0, moved_};
  MemoryLink receiver_{group_, 0, 0, moved_};
};

TEST_F(MemoryLinks, CarryShortRegisteredAndOrdinaryFrames) {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, kEagerBytes, kEagerBytes + 1,
                                  kPieceBytes, kPieceBytes + 1, kLong}) {
    for (const auto* from : {&plain_, &segment_}) {
      for (const bool view_allowed : {false, true}) {
        std::fill(into_.begin(), into_.end(), std::byte{0});
        send(*from, bytes);
        receive(bytes, view_allowed);
        const void* const data = poll_until_there();
        ASSERT_NE(data, nullptr) << bytes;
        EXPECT_EQ(std::memcmp(data, from->data(), bytes), 0) << bytes;
        const bool in_place = from == &segment_ && bytes > kEagerBytes;
        if (view_allowed && in_place) {
          EXPECT_EQ(data, segment_.data()) << "was copied";
        }
        receiver_.finish_recv();
        EXPECT_TRUE(sender_.poll_send());
      }
    }
  }
}

TEST_F(MemoryLinks, HoldSeveralFramesUntilTheyAreRead) {
  for (std::size_t k = 0; k < kSlots; ++k) {
    send(plain_, 8);
    EXPECT_TRUE(sender_.poll_send());
  }
  send(plain_, 8);
  EXPECT_FALSE(sender_.poll_send()) << "all slots are full";
  for (std::size_t k = 0; k <= kSlots; ++k) {
    receive(8);
    ASSERT_NE(poll_until_there(), nullptr);
    receiver_.finish_recv();
  }
}

TEST_F(MemoryLinks, NameBothFramesThatDoNotMatch) {
  send(segment_, kLong);
  tag_.sequence = 6;
  receive(kLong);
  try {
    receiver_.poll_recv();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const FrameMismatch& mismatch) {
    EXPECT_EQ(mismatch.expected.sequence, 6u);
    EXPECT_EQ(mismatch.found.sequence, 5u);
    EXPECT_EQ(mismatch.peer, 0);
  }
  EXPECT_EQ(slot().state.load(), Slot::posted) << "its sender can take it back";
  sender_.sever();
  EXPECT_EQ(slot().state.load(), Slot::empty);
}

TEST_F(MemoryLinks, WhatWasSentBeforeItsSenderLeftArrives) {
  send(plain_, 8);
  senders_.depart(Presence::left);
  receive(8);
  ASSERT_NE(receiver_.poll_recv(), nullptr);
  receiver_.finish_recv();
  receive(8);
  EXPECT_THROW(receiver_.poll_recv(), LinkLost);
}

// Between the sender's look at its frame and its look at who is there, the receiver may do both.
TEST_F(MemoryLinks, AReceiverThatReadAllMayLeave) {
  constexpr int kTimes = 500;
  std::barrier turn(2);
  std::thread reader([&] {
    for (int k = 0; k < kTimes; ++k) {
      receive(kPieceBytes, true);
      turn.arrive_and_wait();
      while (receiver_.poll_recv() == nullptr) std::this_thread::yield();
      receiver_.finish_recv();
      group_.depart(Presence::left);
      turn.arrive_and_wait();
    }
  });
  int refused = 0;
  for (int k = 0; k < kTimes; ++k) {
    group_.area(1).presence.store(Presence::here);
    turn.arrive_and_wait();
    try {
      send(segment_, kPieceBytes);
      while (!sender_.poll_send()) std::this_thread::yield();
    } catch (const LinkLost&) {
      ++refused;
      EXPECT_TRUE(sender_.poll_send());
    }
    turn.arrive_and_wait();
  }
  reader.join();
  EXPECT_EQ(refused, 0);
}

TEST_F(MemoryLinks, ASenderWaitsForWhoReadsItsMemoryButNotForEver) {
  send(segment_, kLong);
  receive(kLong, true);
  ASSERT_NE(receiver_.poll_recv(), nullptr);
  EXPECT_EQ(slot().state.load(), Slot::reading);
  sender_.sever();  // the reader died there: after OneSegment::patience()
  EXPECT_EQ(slot().state.load(), Slot::reading);
}

TEST_F(MemoryLinks, WhatASenderTakesBackIsNotRead) {
  send(segment_, kLong);
  senders_.depart(Presence::severed);
  sender_.sever();
  receive(kLong);
  EXPECT_THROW(receiver_.poll_recv(), LinkLost);
}

// --- Damaged areas: whatever a slot says, the reader stays within it or throws.

TEST_F(MemoryLinks, ALongFrameBesideItsFlagIsDamage) {
  send(segment_, kLong);
  slot().where = Where::eager;
  receive(kLong);
  expect_damaged();
}

class Nowhere : public MemoryLinks, public ::testing::WithParamInterface<std::uint64_t> {};
TEST_P(Nowhere, ABufferThatIsNotSharedIsDamage) {
  send(segment_, kLong);
  slot().data = Posted{GetParam()};
  receive(kLong);
  expect_damaged();
}
INSTANTIATE_TEST_SUITE_P(Places, Nowhere,
                         ::testing::Values(kOrdinary.value, kAbsent.value,
                                           std::uint64_t{2} << kOffsetBits,
                                           std::uint64_t{1} << kOffsetBits | 1));

TEST_F(MemoryLinks, AStagedPieceThatIsTooLongIsDamage) {
  send(plain_, kLong);
  slot().piece_bytes = ~0u;
  receive(kLong);
  expect_damaged();
}

TEST_F(MemoryLinks, AStagedPieceOfNothingIsDamage) {
  send(plain_, kLong);
  slot().piece_bytes = 0;
  receive(kLong);
  expect_damaged();
}

TEST_F(MemoryLinks, AStagingBufferThatDoesNotExistIsDamage) {
  send(plain_, kLong);
  slot().staging = 2;
  receive(kLong);
  expect_damaged();
}

TEST_F(MemoryLinks, APieceFromElsewhereInTheFrameIsDamage) {
  send(plain_, kLong);
  slot().piece_offset = ~std::uint64_t{0};
  receive(kLong);
  expect_damaged();
}

TEST_F(MemoryLinks, AWholeFrameAfterTheFirstPieceIsDamage) {
  send(plain_, kLong);
  receive(kLong);
  Slot& second = group_.pipe(0, 1, 0).slots[1];
  second.where = Where::posted;
  second.data = book_->post(segment_.data(), Bytes(kLong));
  expect_damaged();
}

TEST_F(MemoryLinks, AWayThatDoesNotExistIsDamage) {
  send(plain_, kLong);
  slot().where = static_cast<Where>(77);
  receive(kLong);
  expect_damaged();
}

TEST_F(MemoryLinks, APeerThatIsNeitherHereNorGoneIsDamage) {
  senders_.area(0).presence.store(static_cast<Presence>(9));
  receive(8);
  expect_damaged();
}

}  // namespace
}  // namespace weft::comm::memory
