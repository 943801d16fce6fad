// Large frames over several connections: whole and in order, balanced by what each delivers.
#include "comm/transport/tcp/striped.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <numeric>

#include "comm/transport/tcp/balance.h"
#include "tests/transport/link_pair.h"

namespace weft::comm::tcp {
namespace {

using std::chrono::microseconds;
using ::testing::Each;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Lt;

FrameTag tag_of(std::uint32_t sequence) {
  FrameTag tag;
  tag.sequence = sequence;
  return tag;
}

constexpr int kRoundsMax = 2'000'000;

// Sends every payload from a to b, several frames ahead of the receiver if the sockets let it;
// `between` runs once a round.
template <class Between>
void carry(End& a, End& b, const std::vector<std::vector<std::byte>>& payloads, Between&& between) {
  std::size_t sent = 0;
  std::size_t received = 0;
  bool sending = false;
  bool receiving = false;
  std::vector<std::byte> into;
  for (int round = 0; received < payloads.size(); ++round) {
    ASSERT_LT(round, kRoundsMax) << sent << " frames sent, " << received << " received";
    a.refresh();
    b.refresh();
    if (!sending && sent < payloads.size()) {
      const auto& payload = payloads[sent];
      a.link->start_send(tag_of(static_cast<std::uint32_t>(sent)), payload.data(),
                         Bytes(static_cast<std::int64_t>(payload.size())));
      sending = true;
    }
    if (sending && a.link->poll_send()) {
      sending = false;
      ++sent;
    }
    between();
    const auto& expected = payloads[received];
    if (!receiving) {
      into.assign(expected.size(), std::byte{0xee});
      b.link->start_recv(tag_of(static_cast<std::uint32_t>(received)), into.data(),
                         Bytes(static_cast<std::int64_t>(expected.size())), false);
      receiving = true;
    }
    if (const void* data = b.link->poll_recv()) {
      ASSERT_TRUE(expected.empty() || std::memcmp(data, expected.data(), expected.size()) == 0)
          << "frame " << received;
      b.link->finish_recv();
      receiving = false;
      ++received;
    }
  }
}

TEST(SegmentLengths, AreEnoughToBalanceAndNotTooSmall) {
  EXPECT_EQ(segment_bytes_of(100'000, 4), 32u << 10);
  EXPECT_EQ(segment_bytes_of(512 << 10, 2), 64u << 10);
  EXPECT_EQ(segment_bytes_of(std::size_t{1} << 30, 4), 256u << 10);
}

TEST(StripedLinks, FramesOfAllSizesInOrder) {
  const std::size_t sizes[] = {0,       1,      8192,   65'536, 65'537,    100'000, 3,
                               500'001, 65'537, 65'537, 70'000, 3'000'001, 0,       131'072};
  std::vector<std::vector<std::byte>> payloads;
  for (const std::size_t bytes : sizes) {
    payloads.push_back(payload_of(bytes, static_cast<unsigned>(payloads.size())));
  }
  for (const int connections : {1, 2, 3, 7}) {
    LinkPair pair(connections);
    carry(*pair.a, *pair.b, payloads, [] {});
    carry(*pair.b, *pair.a, payloads, [] {});
    EXPECT_THAT(pair.a->link->carried(), Each(Gt(0u))) << connections;
  }
}

// The test is the wire of one of three connections and lets a few bytes through each round.
TEST(StripedLinks, ASlowConnectionDoesNotBoundTheOthers) {
  std::vector<int> left, right;
  for (int k = 0; k < 4; ++k) {
    const auto [one, other] = socket_pair();
    left.push_back(one);
    right.push_back(other);
  }
  const int slow_in = right[2];
  const auto beyond = socket_pair();
  const int slow_out = beyond.first;  // clang: a lambda may not capture a binding
  right[2] = beyond.second;
  const int little = 4 << 10;  // as small as the kernel makes it
  ASSERT_EQ(::setsockopt(left[2], SOL_SOCKET, SO_SNDBUF, &little, sizeof little), 0);
  End a(left), b(right);
  std::size_t through_slow = 0;
  const auto trickle = [&] {
    std::byte few[512];
    const ssize_t n = ::recv(slow_in, few, sizeof few, MSG_DONTWAIT);
    if (n <= 0) return;
    ASSERT_EQ(::send(slow_out, few, static_cast<std::size_t>(n), MSG_NOSIGNAL), n);
    through_slow += static_cast<std::size_t>(n);
  };
  const std::vector<std::vector<std::byte>> payloads(40, payload_of(1'000'000));
  carry(a, b, payloads, trickle);
  const auto& carried = a.link->carried();
  EXPECT_EQ(std::accumulate(carried.begin(), carried.end(), std::uint64_t{0}), 40'000'000u);
  EXPECT_THAT(carried[1], Lt(4'000'000u))
      << "the slow one's share would be 13 MB: it has " << through_slow << " bytes behind it";
  ::close(slow_in);
  ::close(slow_out);
}

// Whoever is done may leave while others still read: each connection ends after its last segment.
TEST(StripedLinks, WhatWasSentArrivesAfterThePeerHasLeft) {
  LinkPair pair(3);
  const auto payload = payload_of(200'000);
  std::vector<std::byte> into(payload.size());
  pair.a->link->start_send(tag_of(1), payload.data(), Bytes(200'000));
  ASSERT_TRUE(pair.a->link->poll_send());
  pair.a->link->own().leave();
  for (std::size_t k = 0; k < 3; ++k) pair.a->link->bulk(k).leave();
  pair.b->link->start_recv(tag_of(1), into.data(), Bytes(200'000), false);
  ASSERT_NE(pair.b->link->poll_recv(), nullptr);
  EXPECT_EQ(into, payload);
  pair.b->link->finish_recv();
}

TEST(StripedLinks, ConnectionsThatEndTooEarlyAreALostPeer) {
  std::vector<int> ours, wire;
  for (int k = 0; k < 3; ++k) {
    const auto [one, other] = socket_pair();
    ours.push_back(one);
    wire.push_back(other);
  }
  End end(ours);
  std::vector<std::byte> into(100'000);
  end.link->start_recv(tag_of(1), into.data(), Bytes(100'000), false);
  const FrameHeader announcement = make_announcement(tag_of(1), into.size());
  ASSERT_EQ(::send(wire[0], &announcement, sizeof announcement, MSG_NOSIGNAL),
            static_cast<ssize_t>(sizeof announcement));
  ::close(wire[1]);
  EXPECT_EQ(end.link->poll_recv(), nullptr);  // the other one may have it all
  ::close(wire[2]);
  end.refresh();
  EXPECT_THROW(end.link->poll_recv(), LinkLost);
  ::close(wire[0]);
}

TEST(StripedLinks, AnotherFrameThanExpectedIsAMismatchInItsOwnLengths) {
  const auto payload = payload_of(100'000);
  const auto mismatch_of = [&](std::int64_t sent, std::int64_t expected) {
    LinkPair pair(2);
    std::vector<std::byte> into(static_cast<std::size_t>(expected));
    pair.a->link->start_send(tag_of(1), payload.data(), Bytes(sent));
    pair.b->link->start_recv(tag_of(1), into.data(), Bytes(expected), false);
    try {
      pair.b->link->poll_recv();
    } catch (const FrameMismatch& mismatch) {
      return std::pair(mismatch.found_bytes.value, mismatch.expected_bytes.value);
    }
    return std::pair<std::int64_t, std::int64_t>(-1, -1);
  };
  EXPECT_EQ(mismatch_of(100'000, 90'000), std::pair(100'000l, 90'000l));
  EXPECT_EQ(mismatch_of(100'000, 10), std::pair(100'000l, 10l));
  EXPECT_EQ(mismatch_of(10, 100'000), std::pair(10l, 100'000l));
}

// A peer that is done closes one connection after the other: what it has sent before is whole.
TEST(StripedLinks, AConnectionThatEndsEarlyTakesNothingAway) {
  std::vector<int> ours;
  std::vector<int> wire;
  for (int k = 0; k < 3; ++k) {
    const auto [one, other] = socket_pair();
    ours.push_back(one);
    wire.push_back(other);
  }
  End end(ours);
  const auto payload = payload_of(kWholeBytes + 1);
  std::vector<std::byte> into(payload.size());
  const std::size_t piece = segment_bytes_of(payload.size(), 2);
  const FrameHeader announcement = make_announcement(tag_of(1), payload.size());
  const auto write = [&](std::size_t k, const void* data, std::size_t bytes) {
    ASSERT_EQ(::send(wire[k], data, bytes, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
  };
  const auto look = [&] {
    end.refresh();
    return end.link->poll_recv();
  };
  write(0, &announcement, sizeof announcement);
  end.link->start_recv(tag_of(1), into.data(), Bytes(static_cast<std::int64_t>(payload.size())),
                       false);
  ::close(wire[1]);  // had nothing to carry
  EXPECT_EQ(look(), nullptr);
  EXPECT_FALSE(end.link->bulk(0).wants_read());
  for (std::size_t offset = 0; offset < payload.size(); offset += piece) {
    const std::size_t bytes = std::min(piece, payload.size() - offset);
    const SegmentHeader header = make_segment(0, offset, payload.data() + offset, bytes);
    write(2, &header, sizeof header);
    write(2, payload.data() + offset, bytes);
  }
  EXPECT_EQ(look(), into.data());
  EXPECT_EQ(into, payload);
  end.link->finish_recv();
  // The next frame will never come: now that is a loss.
  write(0, &announcement, sizeof announcement);
  ::close(wire[2]);
  end.link->start_recv(tag_of(1), into.data(), Bytes(static_cast<std::int64_t>(payload.size())),
                       false);
  EXPECT_THROW(look(), LinkLost);
  ::close(wire[0]);
}

// Feeds segments made by hand to a link that awaits 100,000 bytes in pieces of 32 KiB.
class Segments : public ::testing::Test {
 protected:
  void SetUp() override {
    std::vector<int> ours;
    for (int k = 0; k < 2; ++k) {
      const auto [one, other] = socket_pair();
      ours.push_back(one);
      wire_.push_back(other);
    }
    end_ = std::make_unique<End>(ours);
    const FrameHeader announcement = make_announcement(tag_of(1), payload_.size());
    write(0, &announcement, sizeof announcement);
    into_.resize(payload_.size());
    end_->link->start_recv(tag_of(1), into_.data(), Bytes(100'000), false);
  }
  void TearDown() override {
    for (const int fd : wire_) ::close(fd);
  }
  void write(std::size_t k, const void* data, std::size_t bytes) {
    ASSERT_EQ(::send(wire_[k], data, bytes, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
  }
  void segment(std::uint64_t frame, std::size_t offset, std::size_t bytes) {
    const SegmentHeader header =
        make_segment(frame, offset, payload_.data() + offset % payload_.size(), bytes);
    write(1, &header, sizeof header);
    write(1, payload_.data() + offset % payload_.size(), bytes);
  }
  std::string refusal() {
    try {
      end_->refresh();
      return end_->link->poll_recv() == nullptr ? "more is wanted" : "accepted";
    } catch (const Corrupt& error) {
      return error.what();
    }
  }

  const std::vector<std::byte> payload_ = payload_of(100'000);
  std::vector<std::byte> into_;
  std::vector<int> wire_;
  std::unique_ptr<End> end_;
};

TEST_F(Segments, MayComeInAnyOrder) {
  for (const std::size_t offset : {98'304ul, 32'768ul, 0ul}) {
    segment(0, offset, std::min<std::size_t>(32'768, payload_.size() - offset));
    EXPECT_EQ(refusal(), "more is wanted");
  }
  segment(0, 65'536, 32'768);
  EXPECT_EQ(refusal(), "accepted");
  EXPECT_EQ(into_, payload_);
}
TEST_F(Segments, OfALaterFrameWait) {
  segment(1, 0, 32'768);
  EXPECT_EQ(refusal(), "more is wanted");
  EXPECT_FALSE(end_->link->bulk(0).wants_read());
}
TEST_F(Segments, MayNotComeTwice) {
  segment(0, 0, 32'768);
  segment(0, 0, 32'768);
  EXPECT_THAT(refusal(), HasSubstr("comes twice"));
}
TEST_F(Segments, MayNotBeBeyondTheFrame) {
  segment(0, 131'072, 32'768);
  EXPECT_THAT(refusal(), HasSubstr("is not one of its pieces"));
}
TEST_F(Segments, MayNotBeAtAnotherPlaceThanPiecesAre) {
  segment(0, 100, 32'768);
  EXPECT_THAT(refusal(), HasSubstr("is not one of its pieces"));
}
TEST_F(Segments, MayNotBeOfAnotherLength) {
  segment(0, 98'304, 1000);
  EXPECT_THAT(refusal(), HasSubstr("is not one of its pieces"));
}

// Rates, in time that the test makes.
class Balances : public ::testing::Test {
 protected:
  using Time = Balance::Time;
  // Both are kept busy for `rounds` of 1 ms and deliver so many bytes in each.
  void run(std::size_t first, std::size_t second, int rounds) {
    for (int k = 0; k < rounds; ++k) {
      balance_.gave(0, first);
      balance_.gave(1, second);
      balance_.saw(0, 10'000, now_);
      balance_.saw(1, 10'000, now_);
      now_ += microseconds(1000);
    }
  }
  void SetUp() override {
    balance_.gave(0, 10'000);
    balance_.gave(1, 10'000);
    balance_.saw(0, 10'000, now_);
    balance_.saw(1, 10'000, now_);
    now_ += microseconds(1000);
  }
  Balance balance_{2};
  Time now_{};
};

TEST_F(Balances, TheFasterOneIsBest) {
  run(100'000, 400'000, 50);
  EXPECT_NEAR(balance_.rate(0), 100e6, 10e6);
  EXPECT_NEAR(balance_.rate(1), 400e6, 40e6);
  EXPECT_EQ(balance_.best(65'536), 1u);
}
TEST_F(Balances, UntilItHasSoMuchThatTheOtherOneIsEarlier) {
  run(100'000, 400'000, 50);
  balance_.gave(1, 500'000);
  balance_.saw(1, 510'000, now_);
  EXPECT_EQ(balance_.best(65'536), 0u);
}
TEST_F(Balances, OneThatStandsStillIsNotWaitedFor) {
  run(400'000, 400'000, 50);
  run(400'000, 0, 50);
  EXPECT_EQ(balance_.best(65'536), 0u);
  EXPECT_LT(balance_.rate(1), 40e6);
}
TEST_F(Balances, WhatWasSlowIsTriedAgainAfterAWhile) {
  run(400'000, 1000, 50);
  balance_.saw(0, 0, now_);
  balance_.saw(1, 0, now_);
  balance_.saw(1, 0, now_);
  EXPECT_NE(balance_.rate(1), Balance::kUnknown);
  now_ += std::chrono::seconds(2);
  balance_.saw(0, 0, now_);
  balance_.saw(1, 0, now_);
  EXPECT_EQ(balance_.rate(1), Balance::kUnknown);
}

}  // namespace
}  // namespace weft::comm::tcp
