// Ten thousand flipped bits, in headers and payloads, of frames and of segments: each is an error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "tests/transport/link_pair.h"

namespace weft::comm::tcp {
namespace {

constexpr int kConnections = 2;

// What a link puts on each of its connections for one frame.
using Streams = std::vector<std::vector<std::byte>>;

FrameTag tag() {
  FrameTag tag;
  tag.sequence = 7;
  tag.count = 12345;
  tag.index = 3;
  return tag;
}

Streams streams_of(const std::vector<std::byte>& payload) {
  std::vector<int> ours, wire;
  for (int k = 0; k <= kConnections; ++k) {
    const auto [one, other] = socket_pair();
    ours.push_back(one);
    wire.push_back(other);
  }
  End end(ours);
  Streams streams(wire.size());
  end.link->start_send(tag(), payload.data(), Bytes(static_cast<std::int64_t>(payload.size())));
  std::vector<std::byte> buffer(100'000);
  bool moved = true;
  while (!end.link->poll_send() || moved) {
    moved = false;
    end.refresh();
    for (std::size_t k = 0; k < wire.size(); ++k) {
      const ssize_t n = ::recv(wire[k], buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (n <= 0) continue;
      streams[k].insert(streams[k].end(), buffer.begin(), buffer.begin() + n);
      moved = true;
    }
  }
  for (const int fd : wire) ::close(fd);
  return streams;
}

enum class Outcome { whole, corrupt, waits, wrong };

// What a receiver of that frame makes of the streams.
Outcome outcome_of(const Streams& streams, const std::vector<std::byte>& payload) {
  std::vector<int> ours, wire;
  for (std::size_t k = 0; k < streams.size(); ++k) {
    const auto [one, other] = socket_pair();
    ours.push_back(one);
    wire.push_back(other);
  }
  End end(ours);
  std::vector<std::byte> into(payload.size());
  std::vector<std::size_t> fed(streams.size());
  Outcome outcome = Outcome::waits;
  end.link->start_recv(tag(), into.data(), Bytes(static_cast<std::int64_t>(payload.size())), false);
  try {
    bool moved = true;
    while (outcome == Outcome::waits && moved) {
      moved = false;
      for (std::size_t k = 0; k < streams.size(); ++k) {
        const std::size_t left = streams[k].size() - fed[k];
        if (left == 0) continue;
        const ssize_t n =
            ::send(wire[k], streams[k].data() + fed[k], left, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0) continue;
        fed[k] += static_cast<std::size_t>(n);
        moved = true;
      }
      end.refresh();
      const void* data = end.link->poll_recv();
      if (data == nullptr) continue;
      const bool same = payload.empty() || std::memcmp(data, payload.data(), payload.size()) == 0;
      outcome = same ? Outcome::whole : Outcome::wrong;
    }
  } catch (const Corrupt&) {
    outcome = Outcome::corrupt;
  }
  for (const int fd : wire) ::close(fd);
  return outcome;
}

// `flips` runs with one bit each; whichever bits, the same in every run of the test.
void flip(std::size_t bytes, int flips) {
  const auto payload = payload_of(bytes);
  const Streams sound = streams_of(payload);
  ASSERT_EQ(outcome_of(sound, payload), Outcome::whole);
  std::mt19937 random(static_cast<unsigned>(bytes) + 1);
  for (int i = 0; i < flips; ++i) {
    // Headers are small: every fourth flip hits the first bytes of a stream.
    std::size_t stream = random() % sound.size();
    while (sound[stream].empty()) stream = random() % sound.size();
    const std::size_t reach =
        i % 4 == 0 ? std::min<std::size_t>(sound[stream].size(), sizeof(FrameHeader)) * 8
                   : sound[stream].size() * 8;
    const std::size_t bit = random() % reach;
    Streams damaged = sound;
    damaged[stream][bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    ASSERT_EQ(outcome_of(damaged, payload), Outcome::corrupt)
        << "bit " << bit << " of stream " << stream << ", frame of " << bytes << " bytes";
  }
}

TEST(FlippedBits, OfEmptyFrames) { flip(0, 1000); }
TEST(FlippedBits, OfSmallFrames) { flip(8, 2000); }
TEST(FlippedBits, OfFramesThatAreLookedAtInTheBuffer) { flip(4000, 2000); }
TEST(FlippedBits, OfFramesReceivedInPlace) { flip(20'000, 2500); }
TEST(FlippedBits, OfFramesInSegments) { flip(70'000, 2500); }

}  // namespace
}  // namespace weft::comm::tcp
