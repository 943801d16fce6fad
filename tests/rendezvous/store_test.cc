// What callers of the store may rely on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <numeric>
#include <thread>

#include "comm/rendezvous/wire.h"
#include "tests/rendezvous/raw_socket.h"
#include "tests/rendezvous/store_world.h"

namespace weft::comm {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

// The message of the E that `call` must throw.
template <class E, class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
    return {};
  }
  ADD_FAILURE() << "no error";
  return {};
}

std::vector<std::int32_t> first_ranks(int count) {
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(count));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

TEST(Store, KeepsWhatItIsGiven) {
  World world(2);
  auto a = world.client(0);
  auto b = world.client(1);
  a->set("color", blob("red"));
  EXPECT_EQ(text(b->get("color", 1s)), "red");
  b->set("color", blob(""));
  EXPECT_EQ(text(a->get("color", 1s)), "");
  a->erase("color");
  a->erase("color");
  EXPECT_THROW(b->get("color", 0ms), Timeout);
  EXPECT_EQ(world.server->connected_ranks(), (std::vector<std::int32_t>{0, 1}));
  EXPECT_EQ(a->local_address(), "127.0.0.1");
}

TEST(Store, LargeValuesArriveWhole) {
  World world(2);
  auto a = world.client(0);
  auto b = world.client(1);
  Blob large(kValueBytesMax);
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<std::uint8_t>(i * 7 >> 3);
  a->set("large", large);
  EXPECT_TRUE(b->get("large", 60s) == large);
}

TEST(Store, BoundsAreTheCallersMistake) {
  World world(1);
  auto a = world.client(0);
  EXPECT_THROW(a->set("", {}), InvalidArgument);
  EXPECT_THROW(a->get(std::string(kKeyBytesMax + 1, 'k'), 1s), InvalidArgument);
  EXPECT_THROW(a->set("k", Blob(kValueBytesMax + 1)), InvalidArgument);
  const std::vector<std::int32_t> others{1, 2};
  EXPECT_THROW(a->exchange("x", others, {}, 1s), InvalidArgument);
  const std::string longest(kKeyBytesMax, 'k');
  a->set(longest, blob("still here"));
  EXPECT_EQ(text(a->get(longest, 1s)), "still here");
  const std::vector<std::int32_t> alone{0};
  EXPECT_EQ(text(a->exchange("x", alone, blob("me"), 1s).at(0)), "me");
}

TEST(Store, GetWaitsForTheKeyAndTimeoutsNameIt) {
  World world(2);
  auto a = world.client(0);
  auto b = world.client(1);
  auto waiting = std::async(std::launch::async, [&] { return text(b->get("late", 30s)); });
  a->set("late", blob("here"));
  EXPECT_EQ(waiting.get(), "here");
  const auto begin = Clock::now();
  EXPECT_THAT(error_of<Timeout>([&] { b->get("never", 50ms); }),
              AllOf(HasSubstr("rank 1"), HasSubstr("'never'"), HasSubstr("50 ms"),
                    HasSubstr(std::to_string(world.server->port()))));
  EXPECT_GE(Clock::now() - begin, 50ms);
}

TEST(Store, CountersAreAtomic) {
  World world(4);
  std::vector<std::thread> threads;
  std::vector<std::unique_ptr<StoreClient>> clients;
  for (int rank = 0; rank < 4; ++rank) clients.push_back(world.client(rank));
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&clients, i] {
      for (int k = 0; k < 100; ++k) clients[static_cast<std::size_t>(i % 4)]->add("n", i % 2 + 1);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(clients[0]->add("n", 0), 4 * 100 + 4 * 200);
  EXPECT_EQ(clients[0]->add("n", -1300), -100);
}

TEST(Store, ExchangeGivesEveryoneEverythingAgainAndAgain) {
  World world(3);
  const std::vector<std::int32_t> order{2, 0, 1};
  std::vector<std::future<std::string>> all;
  for (int rank = 0; rank < 3; ++rank) {
    all.push_back(std::async(std::launch::async, [&world, &order, rank] {
      auto client = world.client(rank);
      std::string seen;
      for (int round = 0; round < 50; ++round) {
        const Blob mine = blob(std::to_string(rank) + "." + std::to_string(round) + " ");
        for (const Blob& one : client->exchange("x", order, mine, 30s)) seen += text(one);
      }
      return seen;
    }));
  }
  std::string expected;
  for (int round = 0; round < 50; ++round) {
    for (const int rank : order) {
      expected += std::to_string(rank) + "." + std::to_string(round) + " ";
    }
  }
  for (auto& one : all) EXPECT_EQ(one.get(), expected);
}

TEST(Store, ExchangeNamesWhoHasNotCome) {
  World world(6);
  auto zero = world.client(0);
  auto two = world.client(2);
  world.client(1).reset();
  const auto all = first_ranks(6);
  auto other = std::async(std::launch::async, [&] {
    return error_of<Timeout>([&] { two->exchange("mesh", all, {}, 200ms); });
  });
  EXPECT_THAT(other.get(), AllOf(HasSubstr("rank 2: exchange('mesh')"), HasSubstr("200 ms"),
                                 HasSubstr("missing: ranks 0, 1, 3-5"),
                                 HasSubstr("never connected: ranks 3-5; left: rank 1")));
}

TEST(Store, DifferentParticipantsAreAMismatch) {
  World world(2);
  auto a = world.client(0);
  auto b = world.client(1);
  auto first = std::async(std::launch::async, [&] {
    const std::vector<std::int32_t> list{0, 1};
    return error_of<Mismatch>([&] { a->exchange("x", list, {}, 60s); });
  });
  const std::vector<std::int32_t> list{1, 0};
  const std::string second = error_of<Mismatch>([&] { b->exchange("x", list, {}, 60s); });
  for (const auto& message : {first.get(), second}) {
    EXPECT_THAT(message, AllOf(HasSubstr("[0, 1]"), HasSubstr("[1, 0]")));
  }
}

TEST(Store, ServesIPv6AndNames) {
  if (!RawSocket::has_ipv6()) GTEST_SKIP() << "this machine has no ::1";
  World world(2, [](StoreServerOptions& options) {
    options.listen_addresses = {"127.0.0.1", "::1", "127.0.0.1"};
  });
  auto options = world.options(0);
  options.host = "::1";
  StoreClient six(options);
  EXPECT_EQ(six.local_address(), "::1");
  options = world.options(1);
  options.host = "localhost";
  StoreClient named(options);
  named.set("k", blob("v"));
  EXPECT_EQ(text(six.get("k", 5s)), "v");
}

TEST(Store, ListensOnlyWhereItMay) {
  World world(1);
  StoreServerOptions options;
  options.port = world.server->port();
  EXPECT_THAT(error_of<IoError>([&] { StoreServer second(options); }),
              AllOf(HasSubstr("127.0.0.1:" + std::to_string(options.port)), HasSubstr("in use"),
                    HasSubstr("--main-port")));
  options.port = 0;
  for (const char* address : {"0.0.0.0", "::", "node7", ""}) {
    options.listen_addresses = {address};
    EXPECT_THROW(StoreServer{options}, InvalidArgument) << address;
  }
  options.listen_addresses = {"192.0.2.1"};  // of documentation, nobody's
  EXPECT_THAT(error_of<IoError>([&] { StoreServer server(options); }), HasSubstr("192.0.2.1"));
  options.listen_addresses = {};
  EXPECT_THROW(StoreServer{options}, InvalidArgument);
  StoreServerOptions empty;
  empty.world_size = 0;
  EXPECT_THROW(StoreServer{empty}, InvalidArgument);
}

TEST(Store, APortIsFreeAgainAtOnce) {
  World world(1);
  StoreServerOptions options;
  options.job = world.job;
  options.port = world.server->port();
  auto client = world.client(0);
  world.server.reset();
  world.server = std::make_unique<StoreServer>(options);
  EXPECT_EQ(world.server->port(), options.port);
}

TEST(StoreConnect, GivesUpInTimeAndSaysWhatItTried) {
  const auto nobody = RawSocket::bind(false);
  StoreClientOptions options;
  options.self = {3, 4};
  options.port = nobody.port();
  options.connect_timeout = 500ms;
  const auto begin = Clock::now();
  EXPECT_THAT(error_of<Timeout>([&] { StoreClient client(options); }),
              AllOf(HasSubstr("rank 3"), HasSubstr("127.0.0.1:" + std::to_string(options.port)),
                    HasSubstr("500 ms"), HasSubstr("Connection refused")));
  EXPECT_LT(Clock::now() - begin, 5s);
  options.host = "no-such-host.invalid";
  EXPECT_THAT(error_of<Timeout>([&] { StoreClient client(options); }),
              HasSubstr("no-such-host.invalid"));
  options.port = 0;
  EXPECT_THROW(StoreClient{options}, InvalidArgument);
}

TEST(StoreConnect, AListenerThatSaysNothingDoesNotHoldUs) {
  const auto silent = RawSocket::bind(true);
  StoreClientOptions options;
  options.port = silent.port();
  options.connect_timeout = 1000ms;
  EXPECT_THAT(error_of<Timeout>([&] { StoreClient client(options); }),
              HasSubstr("during the handshake"));
}

TEST(StoreConnect, AnotherServiceIsToldFromAStore) {
  auto service = RawSocket::bind(true);
  auto greeting = std::async(std::launch::async, [&] {
    auto visitor = service.accept();
    visitor.send("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
    return visitor.receive(8);
  });
  StoreClientOptions options;
  options.port = service.port();
  EXPECT_THAT(error_of<Corrupt>([&] { StoreClient client(options); }),
              HasSubstr("does not speak weft's protocol"));
  EXPECT_EQ(greeting.get().size(), 8u);
}

TEST(StoreConnect, WaitsForAStoreThatStartsLater) {
  World world(1);
  auto options = world.options(0);
  world.server.reset();
  std::future<std::unique_ptr<StoreClient>> early;
  {
    auto before = RawSocket::bind(true);  // seen once by the client, then gone
    options.port = before.port();
    early = std::async(std::launch::async, [&] { return std::make_unique<StoreClient>(options); });
    before.accept();
  }
  StoreServerOptions late;
  late.job = world.job;
  late.port = options.port;
  StoreServer server(late);
  auto client = early.get();
  client->set("k", blob("v"));
  EXPECT_EQ(text(client->get("k", 1s)), "v");
}

TEST(StoreScale, ManyClientsAtOnce) {
  constexpr int kClients = 256;
  if (!raise_descriptor_limit(6 * kClients)) GTEST_SKIP() << "too few file descriptors allowed";
  World world(kClients);
  std::vector<std::unique_ptr<StoreClient>> clients(kClients);
  std::vector<std::thread> threads;
  const auto begin = Clock::now();
  for (int rank = 0; rank < kClients; ++rank) {
    threads.emplace_back(
        [&, rank] { clients[static_cast<std::size_t>(rank)] = world.client(rank); });
  }
  for (auto& thread : threads) thread.join();
  const auto connected = Clock::now();
  threads.clear();
  const auto all = first_ranks(64);
  for (const int rank : all) {
    threads.emplace_back([&, rank] {
      const auto blobs = clients[static_cast<std::size_t>(rank)]->exchange(
          "mesh", all, blob(std::to_string(rank)), 30s);
      EXPECT_EQ(text(blobs.at(63)), "63");
    });
  }
  for (auto& thread : threads) thread.join();
  const auto exchanged = Clock::now();
  const auto ms = [](auto d) { return std::chrono::duration<double, std::milli>(d).count(); };
  RecordProperty("connect_ms", std::to_string(ms(connected - begin)));
  RecordProperty("exchange_ms", std::to_string(ms(exchanged - connected)));
  std::printf("256 clients connected in %.1f ms, 64 ranks exchanged in %.1f ms\n",
              ms(connected - begin), ms(exchanged - connected));
  EXPECT_EQ(world.server->connected_ranks().size(), std::size_t{kClients});
  EXPECT_FALSE(world.server->failure());
  EXPECT_LT(connected - begin, 10s);
}

}  // namespace
}  // namespace weft::comm
