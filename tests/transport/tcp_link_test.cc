// Frames over a socket pair: whole, in pieces, damaged, unexpected.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "comm/transport/tcp/frame.h"
#include "comm/transport/tcp/link.h"
#include "comm/transport/tcp/mesh.h"

namespace weft::comm::tcp {
namespace {

using ::testing::HasSubstr;

FrameTag tag_of(std::uint32_t sequence) {
  FrameTag tag;
  tag.sequence = sequence;
  tag.count = 77;
  return tag;
}

class TcpLinks : public ::testing::Test {
 protected:
  void SetUp() override { connect(); }
  void TearDown() override {
    if (raw_ >= 0) ::close(raw_);
  }

  // The test plays the peer on raw_.
  void connect() {
    if (raw_ >= 0) ::close(raw_);
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    link_ = std::make_unique<TcpLink>(1, ends[0], "rank 1 (test)", moved_);
    raw_ = ends[1];
  }

  std::vector<std::byte> frame_of(const FrameTag& tag, const std::vector<std::byte>& payload) {
    const FrameHeader header = make_header(FrameKind::data, tag, payload.data(), payload.size());
    std::vector<std::byte> frame(sizeof header + payload.size());
    std::memcpy(frame.data(), &header, sizeof header);
    if (!payload.empty()) std::memcpy(frame.data() + sizeof header, payload.data(), payload.size());
    return frame;
  }
  static std::vector<std::byte> payload_of(std::size_t bytes) {
    std::vector<std::byte> payload(bytes);
    for (std::size_t i = 0; i < bytes; ++i) payload[i] = static_cast<std::byte>(i * 7 + 1);
    return payload;
  }
  void feed(const std::byte* data, std::size_t bytes) {
    ASSERT_EQ(::send(raw_, data, bytes, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
  }
  void start_recv(const FrameTag& tag, std::size_t bytes, bool view = false) {
    into_.assign(bytes, std::byte{});
    link_->start_recv(tag, into_.data(), Bytes(static_cast<std::int64_t>(bytes)), view);
  }
  bool arrived_as(const std::vector<std::byte>& payload) {
    const void* data = link_->poll_recv();
    if (data == nullptr) return false;
    EXPECT_TRUE(payload.empty() || std::memcmp(data, payload.data(), payload.size()) == 0);
    link_->finish_recv();
    return true;
  }

  std::uint64_t moved_ = 0;
  std::unique_ptr<TcpLink> link_;
  int raw_ = -1;
  std::vector<std::byte> into_;
};

TEST_F(TcpLinks, AFaultOfThisSideIsNotBlamedOnThePeer) {
  const std::size_t bytes = 65'536;
  void* gone = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(gone, MAP_FAILED);
  const auto frame = frame_of(tag_of(1), payload_of(bytes));
  feed(frame.data(), frame.size());
  link_->start_recv(tag_of(1), gone, Bytes(65'536), false);
  try {
    link_->poll_recv();
    ADD_FAILURE() << "received into memory that cannot be written";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), HasSubstr("on this side"));
    EXPECT_THAT(error.what(), HasSubstr("Bad address"));
  }
  ::munmap(gone, bytes);
}

TEST_F(TcpLinks, FramesOfAllSizesInOneStream) {
  std::vector<std::byte> stream;
  const std::size_t sizes[] = {0, 1, 100, 8192, 8193, 20'000, 3, 0, 9000, 8192, 5};
  for (std::uint32_t k = 0; k < std::size(sizes); ++k) {
    const auto frame = frame_of(tag_of(k), payload_of(sizes[k]));
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  feed(stream.data(), stream.size());
  for (std::uint32_t k = 0; k < std::size(sizes); ++k) {
    start_recv(tag_of(k), sizes[k], k % 2 == 0);
    ASSERT_TRUE(arrived_as(payload_of(sizes[k]))) << "frame " << k;
  }
  EXPECT_EQ(moved_, stream.size());
}

TEST_F(TcpLinks, BytesMayComeOneByOne) {
  for (const std::size_t bytes : {0ul, 10ul, 8500ul}) {
    const auto payload = payload_of(bytes);
    const auto frame = frame_of(tag_of(1), payload);
    start_recv(tag_of(1), bytes);
    for (std::size_t i = 0; i < frame.size(); ++i) {
      ASSERT_EQ(link_->poll_recv(), nullptr);
      feed(&frame[i], 1);
      link_->set_ready(true, true);
    }
    ASSERT_TRUE(arrived_as(payload));
  }
}

TEST_F(TcpLinks, EveryFlippedBitIsFound) {
  for (const std::size_t bytes : {0ul, 9ul, 8200ul}) {
    const auto frame = frame_of(tag_of(5), payload_of(bytes));
    for (std::size_t bit = 0; bit<frame.size() * 8; bit += bytes> 100 ? 997 : 1) {
      connect();
      auto damaged = frame;
      damaged[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      start_recv(tag_of(5), bytes);
      feed(damaged.data(), damaged.size());
      EXPECT_THROW(link_->poll_recv(), Corrupt) << "bit " << bit << " of a frame of " << bytes;
    }
  }
}

TEST_F(TcpLinks, AnotherFrameThanExpectedIsAMismatch) {
  const auto payload = payload_of(100);
  start_recv(tag_of(4), 100);
  const auto frame = frame_of(tag_of(3), payload);
  feed(frame.data(), frame.size());
  try {
    link_->poll_recv();
    FAIL() << "accepted";
  } catch (const FrameMismatch& mismatch) {
    EXPECT_EQ(mismatch.peer, 1);
    EXPECT_EQ(mismatch.expected, tag_of(4));
    EXPECT_EQ(mismatch.found, tag_of(3));
  }
  connect();
  start_recv(tag_of(3), 10'000);  // the same tag, another length
  feed(frame.data(), frame.size());
  EXPECT_THROW(link_->poll_recv(), FrameMismatch);
}

TEST_F(TcpLinks, TheEndOfAConnectionIsTold) {
  const auto frame = frame_of(tag_of(1), payload_of(50));
  feed(frame.data(), frame.size() - 1);
  ::shutdown(raw_, SHUT_WR);
  start_recv(tag_of(1), 50);
  try {
    link_->poll_recv();
    FAIL() << "accepted";
  } catch (const LinkLost& lost) {
    EXPECT_THAT(lost.what(), HasSubstr("in the middle of a frame"));
  }
  connect();
  const FrameHeader goodbye = make_header(FrameKind::goodbye, FrameTag{}, nullptr, 0);
  feed(reinterpret_cast<const std::byte*>(&goodbye), sizeof goodbye);
  start_recv(tag_of(1), 50);
  try {
    link_->poll_recv();
    FAIL() << "accepted";
  } catch (const LinkLost& lost) {
    EXPECT_THAT(lost.what(), HasSubstr("has left"));
  }
}

TEST_F(TcpLinks, SendsGoAsFarAsTheSocketTakesThem) {
  const auto payload = payload_of(5'000'000);
  link_->start_send(tag_of(9), payload.data(), Bytes(5'000'000));
  EXPECT_FALSE(link_->poll_send());
  const auto expected = frame_of(tag_of(9), payload);
  std::vector<std::byte> got;
  std::vector<std::byte> buffer(100'000);
  while (got.size() < expected.size()) {
    const ssize_t n = ::recv(raw_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) got.insert(got.end(), buffer.begin(), buffer.begin() + n);
    link_->set_ready(true, true);
    link_->poll_send();
  }
  EXPECT_TRUE(link_->poll_send());
  EXPECT_EQ(got, expected);
  ::close(std::exchange(raw_, -1));
  EXPECT_THROW(
      {
        link_->start_send(tag_of(10), payload.data(), Bytes(100));
        link_->poll_send();
      },
      LinkLost);  // and no SIGPIPE
}

}  // namespace
}  // namespace weft::comm::tcp
