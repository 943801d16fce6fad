// What callers of the store may rely on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "tests/rendezvous/store_world.h"

namespace weft::comm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

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

TEST(Store, GetWaitsForTheKey) {
  World world(2);
  auto a = world.client(0);
  auto b = world.client(1);
  auto waiting = std::async(std::launch::async, [&] { return text(b->get("late", 30s)); });
  a->set("late", blob("here"));
  EXPECT_EQ(waiting.get(), "here");
}

TEST(Store, ExchangeGivesEveryoneEverything) {
  World world(3);
  const std::vector<std::int32_t> order{2, 0, 1};
  std::vector<std::future<std::vector<Blob>>> all;
  for (int rank = 0; rank < 3; ++rank) {
    all.push_back(std::async(std::launch::async, [&world, &order, rank] {
      auto client = world.client(rank);
      return client->exchange("x", order, blob(std::to_string(rank)), 30s);
    }));
  }
  for (auto& one : all) {
    const auto blobs = one.get();
    ASSERT_EQ(blobs.size(), 3u);
    EXPECT_EQ(text(blobs[0]) + text(blobs[1]) + text(blobs[2]), "201");
  }
}

}  // namespace
}  // namespace weft::comm
