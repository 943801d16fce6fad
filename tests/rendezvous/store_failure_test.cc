// One verdict for everybody: what it is, whom it reaches, and how soon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <future>

#include "comm/rendezvous/wire.h"
#include "tests/rendezvous/child.h"
#include "tests/rendezvous/raw_socket.h"
#include "tests/rendezvous/store_world.h"
#include "tests/support/soon.h"

namespace weft::comm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using Source = Failure::Source;

Failure told(Source source, std::int32_t rank, ErrorCode code, std::string what) {
  Failure failure;
  failure.source = source;
  failure.rank = rank;
  failure.code = code;
  failure.what = std::move(what);
  return failure;
}

std::string command(const World& world, std::int32_t rank, int heartbeat_ms, const char* mode) {
  return std::to_string(world.server->port()) + " " + std::to_string(rank) + " " +
         std::to_string(world.world_size) + " " + format_secret(world.job.secret) + " " +
         std::to_string(heartbeat_ms) + " " + mode;
}

const std::string kRankProgram = std::string(WEFT_BIN_DIR) + "/store_rank_main";

TEST(StoreFailure, ReachesEveryBlockedCallLaterCallsAndLateJoiners) {
  World world(3);
  auto a = world.client(0);
  auto b = world.client(1);
  auto getting = std::async(std::launch::async, [&] { a->get("never", 60s); });
  auto exchanging = std::async(std::launch::async, [&] {
    const std::vector<std::int32_t> all{0, 1, 2};
    a->exchange("never", all, {}, 60s);
  });
  const auto begin = Clock::now();
  b->report(told(Source::self, 1, ErrorCode::corrupt, "a flipped bit"));
  EXPECT_THROW(getting.get(), Corrupt);
  try {
    exchanging.get();
    FAIL();
  } catch (const Corrupt& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 1 (" + this_host()));
    EXPECT_THAT(error.what(), HasSubstr("pid " + std::to_string(::getpid())));
    EXPECT_THAT(error.what(), HasSubstr("a flipped bit"));
  }
  EXPECT_LT(Clock::now() - begin, tests::kSoon);
  EXPECT_THROW(b->set("x", {}), Corrupt);
  EXPECT_THROW(b->get("x", 0ms), Corrupt);
  const auto late = world.client(2);
  ASSERT_TRUE(late->failure());
  EXPECT_THROW(late->add("n", 1), Corrupt);
  const std::string same = describe(*world.server->failure());
  EXPECT_EQ(describe(*a->failure()), same);
  EXPECT_EQ(describe(*b->wait_failure(0ms)), same);
  EXPECT_EQ(describe(*late->failure()), same);
}

TEST(StoreFailure, CallbacksAreCalledOnceSoonerOrLater) {
  World world(2);
  auto a = world.client(0);
  std::promise<std::string> before, after, server_before, server_after;
  a->on_failure([&](const Failure& failure) { before.set_value(describe(failure)); });
  world.server->on_failure([&](const Failure& f) { server_before.set_value(describe(f)); });
  world.server->report(told(Source::agent, 1, ErrorCode::peer_lost, "exited with code 3"));
  const std::string text = before.get_future().get();
  a->on_failure([&](const Failure& failure) { after.set_value(describe(failure)); });
  world.server->on_failure([&](const Failure& f) { server_after.set_value(describe(f)); });
  EXPECT_EQ(text, "rank 1: exited with code 3");
  EXPECT_EQ(after.get_future().get(), text);
  EXPECT_EQ(server_before.get_future().get(), text);
  EXPECT_EQ(server_after.get_future().get(), text);
}

TEST(StoreFailure, TheMostTellingReportOfTheWindowWins) {
  World world(3, [](StoreServerOptions& options) { options.verdict_window = 20s; });
  auto a = world.client(0);
  auto b = world.client(1);
  auto agent = world.client(-1);
  a->report(told(Source::peer, 1, ErrorCode::peer_lost, "reset by peer"));
  a->report(told(Source::self, 0, ErrorCode::peer_lost, "lost rank 1"));
  agent->report(told(Source::agent, 1, ErrorCode::peer_lost, "killed by signal 9 (SIGKILL)"));
  const auto verdict = b->wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->source, Source::agent);
  EXPECT_EQ(verdict->rank, 1);
  EXPECT_EQ(verdict->what, "killed by signal 9 (SIGKILL)");
}

TEST(StoreFailure, AComplaintStandsWhenNobodyKnowsBetter) {
  World world(2);
  auto a = world.client(0);
  auto b = world.client(1);
  Failure complaint = told(Source::peer, 1, ErrorCode::peer_lost, "closed the data connection");
  complaint.operation = "all_reduce #3";
  a->report(complaint);
  const auto verdict = a->wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->source, Source::peer);
  EXPECT_EQ(verdict->pid, ::getpid());  // filled in by the server
  EXPECT_THAT(describe(*verdict), HasSubstr("during all_reduce #3"));
}

TEST(StoreFailure, WhatNobodyInParticularDidNamesNobody) {
  World world(2);
  auto a = world.client(0);
  auto agent = world.client(-1);
  Failure disagreement = told(Source::self, -1, ErrorCode::mismatch, "ranks disagree");
  a->report(disagreement);
  const auto verdict = agent->wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(describe(*verdict), "ranks disagree");
}

// A store of the test's own, up to where a client has joined.
RawSocket welcome(const World& world, RawSocket& listener) {
  auto socket = listener.accept();
  ServerHandshake handshake(world.job, {kStoreRank, 1}, ChannelKind::store);
  while (!handshake.finished()) {
    socket.send(handshake.feed(socket.receive(handshake.bytes_wanted())));
  }
  const auto join = decode_header(socket.receive(FrameHeader::kBytes), kJoinBytesMax);
  socket.receive(join.body_bytes);
  socket.send(to_bytes(make_frame(FrameType::welcome, encode(WelcomeBody{3000ms, {}}))));
  return socket;
}

// An answer that all got stands: the news right behind it must not hide what it says.
TEST(StoreFailure, DoesNotHideAnAnswerThatCameBefore) {
  World world(1);
  for (int round = 0; round < 20; ++round) {
    auto options = world.options(0);
    auto listener = RawSocket::bind(true);
    options.port = listener.port();
    auto serving = std::async(std::launch::async, [&] {
      auto socket = welcome(world, listener);
      FrameHeader asked;
      do {
        asked = decode_header(socket.receive(FrameHeader::kBytes), kBodyBytesMax);
        socket.receive(asked.body_bytes);
      } while (asked.type != FrameType::get);
      Blob both = to_bytes(make_frame(FrameType::reply, Blob{7}, asked.id));
      const auto lost = told(Source::agent, 0, ErrorCode::peer_lost, "exited with code 3");
      const Blob news = to_bytes(make_frame(FrameType::news, encode(lost)));
      both.insert(both.end(), news.begin(), news.end());
      socket.send(both);
      return socket;
    });
    StoreClient client(options);
    EXPECT_NO_THROW(EXPECT_EQ(client.get("x", 20s), Blob{7})) << round;
    serving.get();
  }
}

TEST(StoreFailure, ARankDoesNotSpeakForAnAgentOrAnother) {
  World world(3, [](StoreServerOptions& options) { options.verdict_window = 20s; });
  auto a = world.client(0);
  auto b = world.client(1);
  auto agent = world.client(-1);
  a->report(told(Source::agent, 1, ErrorCode::peer_lost, "slander"));
  a->report(told(Source::self, 1, ErrorCode::corrupt, "more slander"));
  agent->report(told(Source::agent, 0, ErrorCode::peer_lost, "exited with code 7"));
  const auto verdict = b->wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->what, "exited with code 7");
}

TEST(StoreFailure, AGoodbyeIsNone) {
  World world(2);
  auto a = world.client(0);
  EXPECT_FALSE(world.server->wait_all_left(0ms));
  world.client(1).reset();
  world.client(1).reset();               // and it may come again
  EXPECT_FALSE(a->wait_failure(150ms));  // longer than the window
  EXPECT_FALSE(world.server->failure());
  EXPECT_EQ(world.server->connected_ranks(), (std::vector<std::int32_t>{0, 1}));
  a.reset();
  EXPECT_TRUE(world.server->wait_all_left(0ms));
}

TEST(StoreFailure, LeavingByAnExceptionIsOne) {
  World world(2);
  auto a = world.client(0);
  try {
    auto b = world.client(1);
    throw std::runtime_error("bad batch");
  } catch (const std::runtime_error&) {
  }
  const auto verdict = a->wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->source, Source::connection);
  EXPECT_EQ(verdict->rank, 1);
  EXPECT_THAT(verdict->what, HasSubstr("exception"));
}

TEST(StoreFailure, AStoreThatVanishesIsNamed) {
  World world(2);
  auto a = world.client(0);
  const std::string where = "127.0.0.1:" + std::to_string(world.server->port());
  auto getting = std::async(std::launch::async, [&] { a->get("never", 60s); });
  world.server.reset();
  try {
    getting.get();
    FAIL();
  } catch (const PeerLost& error) {
    EXPECT_THAT(error.what(), HasSubstr(where));
  }
  EXPECT_THROW(a->set("x", {}), PeerLost);
}

TEST(StoreFailure, AStoreThatBreaksTheProtocolIsNamedToo) {
  World world(1);
  auto options = world.options(0);
  auto listener = RawSocket::bind(true);
  options.port = listener.port();
  auto serving = std::async(std::launch::async, [&] {
    auto socket = welcome(world, listener);
    socket.send(std::string(64, '?'));
    return socket;
  });
  StoreClient client(options);
  const auto verdict = client.wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->code, ErrorCode::peer_lost);
  EXPECT_THAT(verdict->what, HasSubstr("127.0.0.1:" + std::to_string(options.port)));
  EXPECT_THAT(verdict->what, HasSubstr("broke the protocol"));
  serving.get();
}

TEST(StoreFailure, AStoreThatEndsStillSaysItsLastWords) {
  World world(2);
  auto a = world.client(0);
  world.server->report(told(Source::connection, 1, ErrorCode::peer_lost, "last words"));
  world.server.reset();
  const auto verdict = a->wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->what, "last words");
}

class StoreProcess : public testing::TestWithParam<int> {};

// Killed, or gone without a goodbye: the closed connection tells, and soon.
TEST_P(StoreProcess, ADeadOneIsFound) {
  World world(2);
  auto a = world.client(0);
  Child child(kRankProgram);
  child.say(command(world, 1, 500, GetParam() == 0 ? "exit" : "wait"));
  ASSERT_EQ(child.hear(), "joined");
  auto getting = std::async(std::launch::async, [&] { a->get("never", 60s); });
  const auto begin = Clock::now();
  if (GetParam() == 0) {
    child.close_stdin();
  } else {
    child.kill(GetParam());
  }
  EXPECT_THROW(getting.get(), PeerLost);
  EXPECT_LT(Clock::now() - begin, tests::kSoon);
  const auto verdict = a->failure();
  EXPECT_EQ(verdict->rank, 1);
  EXPECT_EQ(verdict->pid, child.pid());
  EXPECT_EQ(verdict->host, this_host());
  EXPECT_EQ(verdict->source, Source::connection);
  EXPECT_THAT(verdict->what, HasSubstr("lost connection"));
}
INSTANTIATE_TEST_SUITE_P(Ways, StoreProcess, testing::Values(0, SIGKILL, SIGSEGV, SIGTERM));

TEST(StoreFailure, AStoppedProcessIsToldApartFromADeadOne) {
  World world(2, [](StoreServerOptions& options) { options.heartbeat_timeout = 2000ms; });
  auto a = world.client(0);
  Child child(kRankProgram);
  child.say(command(world, 1, 500, "wait"));
  ASSERT_EQ(child.hear(), "joined");
  const auto begin = Clock::now();
  child.kill(SIGSTOP);
  const auto verdict = a->wait_failure(30s);
  const auto took = Clock::now() - begin;
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->rank, 1);
  EXPECT_EQ(verdict->pid, child.pid());
  EXPECT_THAT(verdict->what, HasSubstr("silent for"));
  EXPECT_THAT(verdict->what, HasSubstr("stopped, or its machine is unreachable"));
  EXPECT_GT(took, 1200ms);
  EXPECT_LT(took, 2s + tests::kSoon);
  child.kill(SIGCONT);  // it hears of its own loss
  EXPECT_EQ(child.hear(), "told: " + describe(*verdict));
  EXPECT_EQ(child.wait(), 0);
}

TEST(StoreFailure, AProcessThatLeavesInOrderIsNone) {
  World world(2);
  auto a = world.client(0);
  Child child(kRankProgram);
  child.say(command(world, 1, 500, "leave"));
  ASSERT_EQ(child.hear(), "joined");
  child.close_stdin();
  EXPECT_EQ(child.wait(), 0);
  EXPECT_FALSE(a->wait_failure(150ms));
}

TEST(StoreFailure, ALostAgentIsOneToo) {
  World world(2);
  auto a = world.client(0);
  Child child(kRankProgram);
  child.say(command(world, -2, 500, "exit"));
  ASSERT_EQ(child.hear(), "joined");
  child.close_stdin();
  const auto verdict = a->wait_failure(20s);
  ASSERT_TRUE(verdict);
  EXPECT_THAT(describe(*verdict), HasSubstr("the agent of node 1 ("));
}

}  // namespace
}  // namespace weft::comm
