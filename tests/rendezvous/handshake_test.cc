// The handshake as two state machines: who gets in, and that nothing else does.
#include "comm/rendezvous/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "kernels/base/error.h"

namespace weft::comm {
namespace {

using testing::HasSubstr;
using testing::Not;
using Bytes8 = std::vector<std::uint8_t>;

JobIdentity test_job() {
  JobIdentity job;
  job.job_id = "job-17";
  job.epoch = 2;
  for (std::size_t i = 0; i < job.secret.size(); ++i) job.secret[i] = static_cast<std::uint8_t>(i);
  return job;
}

enum Leg { kHello, kChallenge, kProof, kVerdict };
constexpr const char* kLegNames[] = {"Hello", "Challenge", "Proof", "Verdict"};
using Tamper = std::function<void(Leg, Bytes8&)>;

struct Side {
  bool finished = false;
  std::optional<ErrorCode> error;
  std::string text;
};
struct Outcome {
  Side client;
  Side server;
  PeerIdentity peer;
  Channel channel;
};

struct Meeting {
  JobIdentity client_job = test_job();
  JobIdentity server_job = test_job();
  PeerIdentity client{1, 4};
  PeerIdentity server{kStoreRank, 4};
  std::int32_t asks_for = kStoreRank;
  Channel channel;
  ChannelKind serves = ChannelKind::store;
};

// Feeds as much of `bytes` as it wants; gives what it answers.
template <class Handshake>
Bytes8 feed_all(Handshake& handshake, Side& side, const Bytes8& bytes) {
  Bytes8 answer;
  std::size_t at = 0;
  try {
    while (!side.error && handshake.bytes_wanted() > 0 &&
           bytes.size() - at >= handshake.bytes_wanted()) {
      const std::size_t count = handshake.bytes_wanted();
      const Bytes8 given = handshake.feed(std::span(bytes).subspan(at, count));
      answer.insert(answer.end(), given.begin(), given.end());
      at += count;
    }
  } catch (const Error& error) {
    side.error = error.code();
    side.text = error.what();
  }
  side.finished = handshake.finished();
  return answer;
}

Outcome shake(
    const Meeting& meeting, const Tamper& tamper = [](Leg, Bytes8&) {}) {
  ClientHandshake client(meeting.client_job, meeting.client, meeting.asks_for, meeting.channel);
  ServerHandshake server(meeting.server_job, meeting.server, meeting.serves);
  Outcome outcome;
  Bytes8 hello = client.start();
  tamper(kHello, hello);
  Bytes8 challenge = feed_all(server, outcome.server, hello);
  tamper(kChallenge, challenge);
  Bytes8 proof = feed_all(client, outcome.client, challenge);
  tamper(kProof, proof);
  Bytes8 verdict = feed_all(server, outcome.server, proof);
  if (outcome.server.error) verdict = server.refusal();
  tamper(kVerdict, verdict);
  feed_all(client, outcome.client, verdict);
  outcome.peer = server.peer();
  outcome.channel = server.channel();
  return outcome;
}

TEST(Handshake, AcceptsOneOfTheJob) {
  const Outcome outcome = shake({});
  EXPECT_TRUE(outcome.client.finished) << outcome.client.text;
  EXPECT_TRUE(outcome.server.finished) << outcome.server.text;
  EXPECT_EQ(outcome.peer.rank, 1);
  EXPECT_EQ(outcome.peer.world_size, 4);
  EXPECT_EQ(outcome.channel, Channel{});
}

TEST(Handshake, AcceptsAgentsAtTheStoreOnly) {
  Meeting meeting;
  meeting.client.rank = -2;
  EXPECT_TRUE(shake(meeting).server.finished);
  meeting.channel = {ChannelKind::data, 1, 0};
  meeting.serves = ChannelKind::data;
  meeting.server.rank = meeting.asks_for = 0;
  EXPECT_EQ(shake(meeting).server.error, ErrorCode::mismatch);
}

TEST(Handshake, CarriesTheDataChannel) {
  Meeting meeting;
  meeting.channel = {ChannelKind::data, 0x1122334455667788u, -1};
  meeting.serves = ChannelKind::data;
  meeting.server.rank = meeting.asks_for = 3;
  const Outcome outcome = shake(meeting);
  EXPECT_TRUE(outcome.client.finished && outcome.server.finished);
  EXPECT_EQ(outcome.channel, meeting.channel);
}

TEST(Handshake, WrongSecretIsFoundByTheClientAndNeverShown) {
  Meeting meeting;
  meeting.client_job.secret[31] ^= 1;
  const Outcome outcome = shake(meeting);
  EXPECT_EQ(outcome.client.error, ErrorCode::unauthorized);
  EXPECT_THAT(outcome.client.text, HasSubstr("secret"));
  EXPECT_THAT(outcome.client.text, Not(HasSubstr("0102030405")));
  EXPECT_FALSE(outcome.server.finished);
}

struct Refusal {
  const char* name;
  std::function<void(Meeting&)> change;
  ErrorCode code;
  std::vector<std::string> texts;
};

TEST(Handshake, RefusalsReachTheClientAsTheSameError) {
  const Refusal refusals[] = {
      {"job",
       [](Meeting& s) { s.client_job.job_id = "job-18"; },
       ErrorCode::unauthorized,
       {"rank 1", "'job-18'", "'job-17'"}},
      {"job prefix",
       [](Meeting& s) { s.client_job.job_id = "job-1"; },
       ErrorCode::unauthorized,
       {"'job-1'"}},
      {"epoch",
       [](Meeting& s) { s.client_job.epoch = 1; },
       ErrorCode::mismatch,
       {"epoch 1", "epoch 2"}},
      {"world",
       [](Meeting& s) { s.client.world_size = 8; },
       ErrorCode::mismatch,
       {"rank 1", "world size 8", "4"}},
      {"rank",
       [](Meeting& s) { s.client.rank = 4; },
       ErrorCode::mismatch,
       {"rank 4", "0..3", "world size 4"}},
      {"agent", [](Meeting& s) { s.client.rank = -5; }, ErrorCode::mismatch, {"agent of node 4"}},
      {"to", [](Meeting& s) { s.asks_for = 2; }, ErrorCode::unauthorized, {"rank 2", "the store"}},
      {"purpose",
       [](Meeting& s) { s.channel.kind = ChannelKind::data; },
       ErrorCode::unauthorized,
       {"data", "store"}},
  };
  for (const Refusal& refusal : refusals) {
    Meeting meeting;
    refusal.change(meeting);
    const Outcome outcome = shake(meeting);
    EXPECT_EQ(outcome.server.error, refusal.code) << refusal.name;
    EXPECT_EQ(outcome.client.error, refusal.code) << refusal.name;
    EXPECT_EQ(outcome.client.text, outcome.server.text) << refusal.name;
    EXPECT_FALSE(outcome.client.finished || outcome.server.finished) << refusal.name;
    for (const auto& text : refusal.texts) {
      EXPECT_THAT(outcome.client.text, HasSubstr(text)) << refusal.name;
    }
  }
}

TEST(Handshake, EverySingleFlippedBitIsFound) {
  std::vector<std::size_t> bytes(4);
  ASSERT_TRUE(
      shake({}, [&](Leg leg, Bytes8& frame) { bytes[leg] = frame.size(); }).client.finished);
  for (const Leg leg : {kHello, kChallenge, kProof, kVerdict}) {
    ASSERT_GT(bytes[leg], 0u);
    for (std::size_t bit = 0; bit < 8 * bytes[leg]; ++bit) {
      const Outcome outcome = shake({}, [&](Leg at, Bytes8& frame) {
        if (at == leg) frame[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
      });
      const bool to_server = leg == kHello || leg == kProof;
      const Side& receiver = to_server ? outcome.server : outcome.client;
      // A Hello's receiver cannot know what was meant; the sender does.
      const bool found = receiver.error.has_value() || (leg == kHello && outcome.client.error);
      ASSERT_TRUE(found) << kLegNames[leg] << " bit " << bit;
      ASSERT_FALSE(receiver.finished) << kLegNames[leg] << " bit " << bit;
      ASSERT_FALSE(outcome.client.finished) << kLegNames[leg] << " bit " << bit;
      if (leg != kVerdict) {
        ASSERT_FALSE(outcome.server.finished) << kLegNames[leg];
      }
    }
  }
}

TEST(Handshake, TruncatedFramesNeverFinish) {
  for (const Leg leg : {kHello, kChallenge, kProof, kVerdict}) {
    for (std::size_t keep = 0; keep < 300; ++keep) {
      bool cut = false;
      const Outcome outcome = shake({}, [&](Leg at, Bytes8& frame) {
        if (at == leg && keep < frame.size()) {
          frame.resize(keep);
          cut = true;
        }
      });
      if (!cut) break;
      ASSERT_FALSE(outcome.client.finished) << kLegNames[leg] << " " << keep;
      ASSERT_EQ(outcome.server.finished, leg == kVerdict) << kLegNames[leg] << " " << keep;
    }
  }
}

TEST(Handshake, ReplayedFramesAreWorthNothing) {
  Bytes8 hello, proof, challenge, verdict;
  shake({}, [&](Leg leg, Bytes8& frame) {
    (leg == kHello       ? hello
     : leg == kProof     ? proof
     : leg == kChallenge ? challenge
                         : verdict) = frame;
  });
  // A stranger replays what a rank said.
  ServerHandshake server(test_job(), {kStoreRank, 4}, ChannelKind::store);
  Side side;
  feed_all(server, side, hello);
  feed_all(server, side, proof);
  EXPECT_EQ(side.error, ErrorCode::unauthorized);
  EXPECT_TRUE(server.refusal().empty());  // strangers learn nothing
  EXPECT_FALSE(server.finished());
  // A stranger replays what the store said.
  const Outcome fooled = shake({}, [&](Leg leg, Bytes8& frame) {
    if (leg == kChallenge) frame = challenge;
    if (leg == kVerdict) frame = verdict;
  });
  EXPECT_EQ(fooled.client.error, ErrorCode::unauthorized);
  // The verdict of another connection.
  const Outcome spliced = shake({}, [&](Leg leg, Bytes8& frame) {
    if (leg == kVerdict) frame = verdict;
  });
  EXPECT_EQ(spliced.client.error, ErrorCode::unauthorized);
}

TEST(Handshake, ReflectionIsNoProof) {
  // Everything a client says is given back to it.
  ClientHandshake client(test_job(), {1, 4}, kStoreRank, Channel{});
  Side side;
  feed_all(client, side, client.start());
  EXPECT_EQ(side.error, ErrorCode::corrupt);
}

TEST(Handshake, AnotherVersionIsAMismatch) {
  const Outcome outcome = shake({}, [](Leg leg, Bytes8& frame) {
    if (leg == kChallenge) frame[4] = 9;
  });
  EXPECT_EQ(outcome.client.error, ErrorCode::mismatch);
  EXPECT_THAT(outcome.client.text, HasSubstr("version 9"));
}

TEST(Handshake, AFailedOneStaysFailed) {
  ServerHandshake server(test_job(), {kStoreRank, 4}, ChannelKind::store);
  EXPECT_THROW(server.feed(Bytes8(server.bytes_wanted(), 'G')), Corrupt);
  EXPECT_FALSE(server.finished());
  EXPECT_THROW(server.feed(Bytes8(server.bytes_wanted())), Unauthorized);
  ClientHandshake client(test_job(), {1, 4}, kStoreRank, Channel{});
  client.start();
  EXPECT_THROW(client.feed(Bytes8(client.bytes_wanted(), 'G')), Corrupt);
  EXPECT_FALSE(client.finished());
  EXPECT_THROW(client.feed(Bytes8(client.bytes_wanted())), Unauthorized);
  EXPECT_THROW(client.feed(Bytes8(1)), Unauthorized);
}

// Random bytes, some of them cut from real frames, in random order.
TEST(Handshake, RandomBytesNeverGetIn) {
  std::vector<Bytes8> real;
  shake({}, [&](Leg, Bytes8& frame) { real.push_back(frame); });
  std::mt19937 random(20240607);
  for (int round = 0; round < 20'000; ++round) {
    ServerHandshake server(test_job(), {kStoreRank, 4}, ChannelKind::store);
    ClientHandshake client(test_job(), {1, 4}, kStoreRank, Channel{});
    client.start();
    const auto next = [&](std::size_t wanted) {
      Bytes8 bytes(wanted);
      for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
      const Bytes8& frame = real[random() % real.size()];
      if (random() % 4 != 0 && frame.size() >= wanted) {
        const std::size_t from = wanted == 8 ? 0 : frame.size() - wanted;
        std::copy_n(frame.begin() + static_cast<long>(from), wanted, bytes.begin());
        if (random() % 2 == 0) bytes[random() % wanted] ^= static_cast<std::uint8_t>(random());
      }
      return bytes;
    };
    ASSERT_NO_FATAL_FAILURE({
      try {
        for (int i = 0; i < 6; ++i) server.feed(next(server.bytes_wanted()));
      } catch (const Error&) {
      }
      try {
        for (int i = 0; i < 6; ++i) client.feed(next(client.bytes_wanted()));
      } catch (const Error&) {
      }
    });
    ASSERT_FALSE(server.finished()) << "round " << round;
    ASSERT_FALSE(client.finished()) << "round " << round;
  }
}

TEST(Handshake, JobIdsHaveAtMost64Bytes) {
  JobIdentity job = test_job();
  job.job_id = std::string(64, 'x');
  Meeting meeting;
  meeting.client_job = meeting.server_job = job;
  EXPECT_TRUE(shake(meeting).client.finished);
  job.job_id += 'x';
  EXPECT_THROW(ClientHandshake(job, {0, 1}, kStoreRank, {}), InvalidArgument);
  EXPECT_THROW(ServerHandshake(job, {kStoreRank, 1}, ChannelKind::store), InvalidArgument);
}

TEST(Secrets, TextAndBack) {
  const Secret secret = make_secret();
  EXPECT_NE(secret, make_secret());
  EXPECT_EQ(parse_secret(" \n" + format_secret(secret) + "\r\n"), secret);
  EXPECT_EQ(parse_secret(std::string(64, 'A')), parse_secret(std::string(64, 'a')));
}

TEST(Secrets, ErrorsSayWhereAndNeverWhat) {
  EXPECT_THROW(parse_secret(""), InvalidArgument);
  EXPECT_THROW(parse_secret("   \n"), InvalidArgument);
  EXPECT_THROW(parse_secret(std::string(63, 'a')), InvalidArgument);
  EXPECT_THROW(parse_secret(std::string(66, 'a')), InvalidArgument);
  std::string almost(64, 'a');
  almost[9] = 'g';
  try {
    parse_secret(almost);
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), HasSubstr("character 10 "));
    EXPECT_THAT(error.what(), Not(HasSubstr("aaa")));
  }
}

}  // namespace
}  // namespace weft::comm
