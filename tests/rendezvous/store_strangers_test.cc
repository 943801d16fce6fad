// Those who do not belong to the job: they learn nothing, hold nothing, and disturb nobody.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <random>

#include "comm/rendezvous/wire.h"
#include "tests/rendezvous/raw_socket.h"
#include "tests/rendezvous/store_world.h"
#include "tests/support/sanitized.h"

namespace weft::comm {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Speaks the handshake by hand; the socket is a member then.
RawSocket authenticated(const World& world, std::int32_t rank) {
  auto socket = RawSocket::connect(world.server->port());
  ClientHandshake handshake(world.job, {rank, world.world_size}, kStoreRank, Channel{});
  socket.send(handshake.start());
  while (!handshake.finished()) {
    socket.send(handshake.feed(socket.receive(handshake.bytes_wanted())));
  }
  return socket;
}

RawSocket joined(const World& world, std::int32_t rank) {
  auto socket = authenticated(world, rank);
  socket.send(to_bytes(make_frame(FrameType::join, encode(JoinBody{77, "elsewhere"}))));
  const auto header = decode_header(socket.receive(FrameHeader::kBytes), 1 << 20);
  EXPECT_EQ(header.type, FrameType::welcome);
  socket.receive(header.body_bytes);
  return socket;
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Two ranks that keep exchanging while strangers are about.
class StoreStrangers : public testing::Test {
 protected:
  void work(int rounds) {
    const std::vector<std::int32_t> both{0, 1};
    auto other = std::async(std::launch::async, [&] {
      for (int i = 0; i < rounds; ++i) b->exchange("x", both, blob("b"), 20s);
    });
    for (int i = 0; i < rounds; ++i) a->exchange("x", both, blob("a"), 20s);
    other.get();
    EXPECT_FALSE(world.server->failure());
  }
  World world{4, [](StoreServerOptions& options) { options.handshake_timeout = 400ms; }};
  std::unique_ptr<StoreClient> a = world.client(0);
  std::unique_ptr<StoreClient> b = world.client(1);
};

TEST_F(StoreStrangers, GarbageIsDroppedAtOnce) {
  for (const char* line : {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01",
                           "WEFTWEFTWEFTWEFT", "quit quit quit"}) {
    auto stranger = RawSocket::connect(world.server->port());
    stranger.send(line);
    EXPECT_TRUE(stranger.closed_by_peer()) << line;
  }
  std::mt19937 random(7);
  for (int i = 0; i < 50; ++i) {
    Blob noise(1 + random() % 4096);
    for (auto& byte : noise) byte = static_cast<std::uint8_t>(random());
    if (i % 2 == 0) std::copy_n("WEFT\x01\x01\x80", 8, noise.begin());
    auto stranger = RawSocket::connect(world.server->port());
    stranger.send(noise);
    EXPECT_LE(stranger.receive(1000).size(), 72u);  // a challenge at most
  }
  work(10);
}

TEST_F(StoreStrangers, SilentOnesAreDroppedInTime) {
  auto silent = RawSocket::connect(world.server->port());
  auto half = RawSocket::connect(world.server->port());
  half.send("WEF");
  work(10);
  EXPECT_TRUE(silent.closed_by_peer());
  EXPECT_TRUE(half.closed_by_peer());
  work(10);
}

TEST_F(StoreStrangers, AFloodOfHalfOpenConnectionsIsBounded) {
  World patient(2, [](StoreServerOptions& options) {
    options.handshake_timeout = 60s;
    options.max_pending_handshakes = 64;
  });
  auto first = patient.client(0);
  const std::size_t before = open_descriptors();
  std::vector<RawSocket> flood;
  for (int i = 0; i < 500; ++i) flood.push_back(RawSocket::connect(patient.server->port()));
  // All but the newest 64 are dropped, long before their time.
  for (int i = 0; i < 500 - 64; ++i) {
    EXPECT_TRUE(flood[static_cast<std::size_t>(i)].closed_by_peer()) << i;
  }
  EXPECT_LE(open_descriptors(), before + 500 + 64 + 8);
  auto second = patient.client(1);  // one of ours still gets in
  second->set("k", blob("v"));
  EXPECT_EQ(text(first->get("k", 5s)), "v");
  EXPECT_FALSE(patient.server->failure());
}

TEST_F(StoreStrangers, RunningOutOfDescriptorsIsSurvived) {
  if (tests::kSanitized) GTEST_SKIP() << "a sanitizer needs descriptors to look at objects";
  std::vector<RawSocket> flood;
  for (int i = 0; i < 40; ++i) flood.push_back(RawSocket::unconnected());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit tight = before;
  const int probe = ::dup(0);  // the lowest number that is free
  ASSERT_GE(probe, 0);
  ::close(probe);
  tight.rlim_cur = static_cast<rlim_t>(probe) + 4;  // so few can be accepted
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  for (auto& stranger : flood) stranger.connect_to(world.server->port());
  std::string error;
  try {
    work(20);
    for (auto& stranger : flood) EXPECT_TRUE(stranger.closed_by_peer());
  } catch (const std::exception& thrown) {
    error = thrown.what();
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(error, "");
  world.client(2);  // and the door is open again
}

TEST_F(StoreStrangers, AReplayedHandshakeGetsNobodyIn) {
  Blob recorded;
  {
    auto socket = RawSocket::connect(world.server->port());
    ClientHandshake handshake(world.job, {2, 4}, kStoreRank, Channel{});
    const auto say = [&](const Blob& bytes) {
      recorded.insert(recorded.end(), bytes.begin(), bytes.end());
      socket.send(bytes);
    };
    say(handshake.start());
    while (!handshake.finished()) say(handshake.feed(socket.receive(handshake.bytes_wanted())));
  }
  auto replay = RawSocket::connect(world.server->port());
  replay.send(recorded);
  EXPECT_EQ(replay.receive(1000).size(), 72u);  // the challenge, then the door
  EXPECT_EQ(world.server->connected_ranks(), (std::vector<std::int32_t>{0, 1}));
  work(10);
}

TEST_F(StoreStrangers, OneWhoHoldsTheSecretButDoesNotJoinIsNoRank) {
  { auto gone = authenticated(world, 2); }
  auto silent = authenticated(world, 2);
  EXPECT_TRUE(silent.closed_by_peer());
  auto large = authenticated(world, 2);
  FrameHeader header;
  header.type = FrameType::join;
  header.body_bytes = kJoinBytesMax + 1;
  large.send(encode(header));
  EXPECT_TRUE(large.closed_by_peer());
  auto rude = authenticated(world, 2);
  rude.send(to_bytes(make_frame(FrameType::heartbeat)));
  EXPECT_TRUE(rude.closed_by_peer());
  work(10);
}

TEST_F(StoreStrangers, AMemberThatBreaksTheProtocolIsLostByName) {
  auto member = joined(world, 2);
  FrameHeader header;
  header.type = FrameType::set;
  header.body_bytes = 0xffffffffu;
  member.send(encode(header));
  const auto verdict = a->wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_THAT(describe(*verdict), AllOf(HasSubstr("rank 2 (elsewhere, pid 77)"),
                                        HasSubstr("protocol"), HasSubstr("4294967295 bytes")));
}

TEST_F(StoreStrangers, RandomFramesOfAMemberNeverCrashTheServer) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    World victim(2);
    auto member = joined(victim, 1);
    Blob bytes;
    for (int i = 0; i < 20; ++i) {
      Blob body(random() % 64);
      for (auto& byte : body) byte = static_cast<std::uint8_t>(random() % (i % 2 ? 4 : 256));
      const auto type = static_cast<FrameType>(1 + random() % 14);
      if (type == FrameType::goodbye && random() % 4 != 0) continue;
      const Blob frame = to_bytes(make_frame(type, std::move(body), random()));
      bytes.insert(bytes.end(), frame.begin(), frame.end());
    }
    member.send(bytes);
    victim.client(0);  // the server still serves
  }
}

TEST_F(StoreStrangers, OnesOfTheWrongJobAreToldWhy) {
  const auto refused = [&](auto change) -> std::pair<ErrorCode, std::string> {
    auto options = world.options(2);
    change(options);
    try {
      StoreClient client(options);
    } catch (const Error& error) {
      return {error.code(), error.what()};
    }
    return {ErrorCode::io, "accepted"};
  };
  const auto secret = refused([](auto& o) { o.job.secret = make_secret(); });
  EXPECT_EQ(secret.first, ErrorCode::unauthorized);
  EXPECT_THAT(secret.second, AllOf(HasSubstr("rank 2"), HasSubstr("secret"),
                                   Not(HasSubstr(format_secret(world.job.secret)))));
  const auto job = refused([](auto& o) { o.job.job_id = "another"; });
  EXPECT_EQ(job.first, ErrorCode::unauthorized);
  const auto epoch = refused([](auto& o) { o.job.epoch = 4; });
  EXPECT_EQ(epoch.first, ErrorCode::mismatch);
  EXPECT_THAT(epoch.second, AllOf(HasSubstr("epoch 4"), HasSubstr("epoch 3")));
  const auto size = refused([](auto& o) { o.self.world_size = 8; });
  EXPECT_EQ(size.first, ErrorCode::mismatch);
  EXPECT_THAT(size.second, AllOf(HasSubstr("world size 8"), HasSubstr("has 4")));
  const auto rank = refused([](auto& o) { o.self.rank = 4; });
  EXPECT_EQ(rank.first, ErrorCode::mismatch);
  EXPECT_THAT(rank.second, AllOf(HasSubstr("rank 4"), HasSubstr("0..3")));
  const auto twice = refused([](auto& o) { o.self.rank = 1; });
  EXPECT_EQ(twice.first, ErrorCode::mismatch);
  EXPECT_THAT(twice.second, AllOf(HasSubstr("rank 1 is connected already"),
                                  HasSubstr("pid " + std::to_string(::getpid()))));
  work(10);
  EXPECT_EQ(world.server->connected_ranks(), (std::vector<std::int32_t>{0, 1}));
}

}  // namespace
}  // namespace weft::comm
