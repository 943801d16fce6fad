// Forming a TCP mesh among strangers, latecomers and the absent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <asio/connect.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/write.hpp>
#include <chrono>
#include <thread>

#include "comm/transport/tcp/form.h"
#include "comm/transport/tcp/interface.h"

namespace weft::comm::tcp {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

// Twelve bytes of password, rank and lane, answered by one byte.
class Password final : public Greeting {
 public:
  Password(int rank, int lane) : calls_(true), peer_(rank), lane_(lane), wanted_(1) {}
  Password() : wanted_(12) {}
  std::vector<std::uint8_t> start() override {
    if (!calls_) return {};
    return {'o',
            'p',
            'e',
            'n',
            static_cast<std::uint8_t>(peer_),
            static_cast<std::uint8_t>(lane_ + 1),
            0,
            0,
            0,
            0,
            0,
            0};
  }
  std::vector<std::uint8_t> feed(std::span<const std::uint8_t> bytes) override {
    wanted_ = 0;
    if (calls_) return {};
    if (bytes[0] != 'o' || bytes[3] != 'n') fail<Unauthorized>("who is there?");
    peer_ = bytes[4];
    lane_ = bytes[5] - 1;
    return {1};
  }
  std::size_t bytes_wanted() const override { return wanted_; }
  int peer() const override { return peer_; }
  int lane() const override { return lane_; }
  std::vector<std::uint8_t> refusal() const override { return {0}; }

 private:
  bool calls_ = false;
  int peer_ = -1;
  int lane_ = 0;
  std::size_t wanted_;
};

class Passwords final : public Greeter {
 public:
  explicit Passwords(int rank) : rank_(rank) {}
  std::unique_ptr<Greeting> call(int, int lane) override {
    return std::make_unique<Password>(rank_, lane);
  }
  std::unique_ptr<Greeting> answer() override { return std::make_unique<Password>(); }

 private:
  int rank_;
};

struct Formation {
  std::vector<Listener> listeners;
  FormOptions options;

  explicit Formation(int size, int lanes = 1, const std::string& address = "127.0.0.1") {
    for (int r = 0; r < size; ++r) {
      listeners.emplace_back(address);
      options.endpoints.push_back(listeners.back().endpoint());
      options.names.push_back(r);
    }
    options.size = size;
    options.lanes = lanes;
    options.timeout = milliseconds(10'000);
  }
  std::unique_ptr<Mesh> form(int rank) {
    FormOptions mine = options;
    mine.rank = rank;
    Passwords greeter(rank);
    return std::move(listeners[static_cast<std::size_t>(rank)]).form(mine, greeter);
  }
};

// Rank r sends its number, over and over, to every other rank on every lane.
void exchange(Mesh& mesh, std::size_t count) {
  const Bytes bytes(static_cast<std::int64_t>(count * sizeof(int)));
  for (int lane = kPointToPointLane; lane < mesh.lanes(); ++lane) {
    for (int peer = 0; peer < mesh.size(); ++peer) {
      if (peer == mesh.rank()) continue;
      const std::vector<int> mine(count, mesh.rank() * 100 + lane);
      std::vector<int> theirs(count, -1);
      Link& link = mesh.link(peer, lane);
      link.start_send(FrameTag{}, mine.data(), bytes);
      link.start_recv(FrameTag{}, theirs.data(), bytes, false);
      bool sent = false;
      bool received = false;
      while (!sent || !received) {
        mesh.refresh();
        sent = sent || link.poll_send();
        if (!received && link.poll_recv() != nullptr) {
          link.finish_recv();
          received = true;
        }
        if (!sent || !received) mesh.wait(milliseconds(1000));
      }
      EXPECT_THAT(theirs, Each(peer * 100 + lane));
    }
  }
}

void form_everywhere(Formation& formation, std::size_t count = 1) {
  std::vector<std::thread> ranks;
  for (int r = 0; r < formation.options.size; ++r) {
    ranks.emplace_back([&, r] {
      try {
        const auto mesh = formation.form(r);
        exchange(*mesh, count);
        mesh->leave();
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << r << ": " << error.what();
      }
    });
  }
  for (auto& rank : ranks) rank.join();
}

TEST(Form, EveryPairIsConnectedOnEveryLane) {
  Formation formation(5, 3);
  form_everywhere(formation);
}

TEST(Form, EveryLaneHasItsBulkConnections) {
  Formation formation(3, 2);
  formation.options.connections = 3;
  form_everywhere(formation, 300'000);
}

TEST(Form, OverIPv6) {
  Formation formation(3, 1, "::1");
  form_everywhere(formation);
}

TEST(Form, StrangersDisturbNobody) {
  Formation formation(3);
  formation.options.greeting_timeout = milliseconds(1000);
  formation.options.max_strangers = 4;
  asio::io_context io;
  std::vector<asio::ip::tcp::socket> strangers;
  for (int k = 0; k < 60; ++k) {
    for (const Endpoint& endpoint : formation.options.endpoints) {
      auto& socket = strangers.emplace_back(io);
      socket.connect({asio::ip::make_address(endpoint.address), endpoint.port});
      const std::string noise(static_cast<std::size_t>(k) * 3, 'x');  // the first are silent
      asio::error_code ignored;
      asio::write(socket, asio::buffer(noise), ignored);
      if (k % 7 == 6) socket.close();
    }
  }
  form_everywhere(formation);
}

TEST(Form, TheAbsentAreNamed) {
  Formation formation(4);
  formation.options.timeout = milliseconds(1500);
  std::vector<std::string> told(4);
  std::vector<std::thread> ranks;
  for (const int r : {0, 1, 3}) {
    ranks.emplace_back([&, r] {
      try {
        formation.form(r);
      } catch (const Timeout& error) {
        told[static_cast<std::size_t>(r)] = error.what();
      }
    });
  }
  for (auto& rank : ranks) rank.join();
  for (const std::size_t r : {0u, 1u, 3u}) {
    EXPECT_THAT(told[r], HasSubstr("no connection to rank 2 at")) << r;
  }
}

TEST(Form, AFailureOfTheJobEndsTheWait) {
  Formation formation(2);
  formation.options.check = [] { fail<PeerLost>("rank 1 died young"); };
  EXPECT_THROW(formation.form(0), PeerLost);
}

TEST(Interfaces, AreChosenByNameAddressOrRoute) {
  EXPECT_EQ(choose_address("", "10.2.3.4"), "10.2.3.4");
  EXPECT_EQ(choose_address("127.0.0.1", "10.2.3.4"), "127.0.0.1");
  EXPECT_EQ(choose_address("lo", "127.0.0.1"), "127.0.0.1");
  EXPECT_TRUE(is_loopback("127.0.0.1"));
  EXPECT_TRUE(is_loopback("::1"));
  EXPECT_FALSE(is_loopback("10.0.0.1"));
  EXPECT_THROW(choose_address("0.0.0.0", "127.0.0.1"), InvalidArgument);
  try {
    choose_address("warp0", "127.0.0.1");
    FAIL() << "accepted";
  } catch (const InvalidArgument& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("'warp0'"), HasSubstr("lo")));
  }
  EXPECT_THROW(Listener("203.0.113.77"), IoError);  // an address of documentation, nobody's
}

}  // namespace
}  // namespace weft::comm::tcp
