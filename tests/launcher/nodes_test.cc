// Jobs of several nodes, all of them on this machine.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>

#include "comm/rendezvous/handshake.h"
#include "comm/rendezvous/store.h"
#include "launcher/job/launch_error.h"
#include "launcher/job/node_roll.h"
#include "tests/launcher/child_process.h"
#include "tests/support/scratch.h"

namespace weft::test {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

const std::string kCommRank = bin("launched_rank_main");

// A port of the loopback that is in use for as long as this lives. None of those that the kernel
// gives to whoever connects or listens meanwhile: once free, it stays so.
class TakenPort {
 public:
  TakenPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    std::random_device random;
    for (int tries = 0; tries < 100 && port_ == 0; ++tries) {
      const int port = 10'000 + static_cast<int>(random() % 22'000);  // below 32768
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address.sin_port = htons(static_cast<std::uint16_t>(port));
      if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) port_ = port;
    }
    EXPECT_NE(port_, 0) << "no port is free";
    EXPECT_EQ(listen(fd_, 16), 0);
  }
  ~TakenPort() { close(fd_); }
  int port() const { return port_; }

 private:
  int fd_;
  int port_ = 0;
};

int free_port() { return TakenPort().port(); }

class Nodes : public testing::Test {
 protected:
  void SetUp() override {
    secret_ = make_secret("secret");
    port_ = free_port();
  }

  std::string make_secret(const std::string& name) {
    const std::string file = tests::scratch(name);
    ChildProcess secret({"sh", "-c", "umask 077; " + bin("weft") + " secret > " + file});
    EXPECT_EQ(secret.wait(), 0);
    return file;
  }

  std::unique_ptr<ChildProcess> node(int rank, const Arguments& rest, int num_nodes = 2,
                                     const std::string& secret = {}) const {
    Arguments all{"--num-nodes=" + std::to_string(num_nodes),
                  "--node-rank=" + std::to_string(rank),
                  "--main-port=" + std::to_string(port_),
                  "--secret-file=" + (secret.empty() ? secret_ : secret),
                  "--bind=none",
                  "--grace-time=" + grace_time_};
    all.insert(all.end(), rest.begin(), rest.end());
    return std::make_unique<ChildProcess>(weft_run(all));
  }

  std::string secret_;
  std::string grace_time_ = "5";  // ends earlier where all ranks do
  int port_ = 0;
};

TEST_F(Nodes, RanksAreNumberedNodeByNodeHoweverManyEachHas) {
  const Arguments show{"sh", "-c",
                       "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $NODE_RANK "
                       "$MASTER_ADDR $MASTER_PORT"};
  Arguments two{"--devices=2"};
  Arguments one{"--devices=1"};
  two.insert(two.end(), show.begin(), show.end());
  one.insert(one.end(), show.begin(), show.end());
  const auto node1 = node(1, two, 3);
  const auto node2 = node(2, one, 3);
  const auto node0 = node(0, one, 3);
  for (const auto* each : {&node0, &node1, &node2}) EXPECT_EQ((*each)->wait(), 0) << (*each)->err();
  const std::string tail = " 127.0.0.1 " + std::to_string(port_);
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const std::string prefix = "[" + std::string(host) + ":";
  EXPECT_THAT(ChildProcess::lines(node0->out()),
              UnorderedElementsAre(prefix + "0] 0 0 4 1 0" + tail));
  EXPECT_THAT(ChildProcess::lines(node1->out()),
              UnorderedElementsAre(prefix + "1] 1 0 4 2 1" + tail, prefix + "2] 2 1 4 2 1" + tail));
  EXPECT_THAT(ChildProcess::lines(node2->out()),
              UnorderedElementsAre(prefix + "3] 3 0 4 1 2" + tail));
}

TEST_F(Nodes, CollectivesAcrossThem) {
  const auto node0 = node(0, {"--devices=2", kCommRank, "end"});
  const auto node1 = node(1, {"--devices=2", kCommRank, "end"});
  EXPECT_EQ(node0->wait(), 0) << node0->err();
  EXPECT_EQ(node1->wait(), 0) << node1->err();
  EXPECT_THAT(node1->out(), HasSubstr("rank 3 of 4 done"));
}

TEST_F(Nodes, AFailureOnOneEndsTheOtherWithTheSameCode) {
  for (const char* guilty : {"0", "3"}) {
    port_ = free_port();
    const auto node0 = node(0, {"--devices=2", kCommRank, "exit", guilty});
    const auto node1 = node(1, {"--devices=2", kCommRank, "exit", guilty});
    EXPECT_EQ(node0->wait(), 3) << node0->err();
    EXPECT_EQ(node1->wait(), 3) << node1->err();
    const std::string who = std::string("rank ") + guilty;
    EXPECT_THAT(node0->err(), HasSubstr(who));
    EXPECT_THAT(node1->err(), HasSubstr(who));
    EXPECT_THAT(node0->out() + node1->out(), HasSubstr("exited with code 3"));
  }
}

TEST_F(Nodes, ALauncherThatIsKilledEndsTheOthers) {
  grace_time_ = "0.5";
  const auto node0 = node(0, {"--devices=1", bin("rank_main"), "stay"});
  const auto node1 = node(1, {"--devices=1", bin("rank_main"), "stay"});
  ASSERT_TRUE(node0->wait_for_lines(1));
  ASSERT_TRUE(node1->wait_for_lines(1));
  node1->kill(SIGKILL);
  EXPECT_NE(node0->wait(), 0);
  EXPECT_THAT(node0->err(), HasSubstr("node 1"));
  EXPECT_EQ(node1->wait(), 137);
}

TEST_F(Nodes, MissingNodesAreNamedInTime) {
  const auto node2 = node(2, {"--rendezvous-timeout=3", "true"}, 4);  // tries until there is one
  const auto node0 = node(0, {"--rendezvous-timeout=3", "true"}, 4);
  EXPECT_EQ(node0->wait(), 1);
  EXPECT_EQ(node2->wait(), 1);
  EXPECT_LT(node0->seconds(), 15);
  EXPECT_THAT(node0->err(), HasSubstr("nodes 1 and 3 have not come"));
  EXPECT_THAT(node2->err(), HasSubstr("nodes 1 and 3 have not come"));
}

TEST_F(Nodes, NodeZeroMissing) {
  const auto node1 = node(1, {"--rendezvous-timeout=1", "true"});
  EXPECT_EQ(node1->wait(), 1);
  EXPECT_LT(node1->seconds(), 15);
  EXPECT_THAT(node1->err(), HasSubstr("cannot meet node 0 at 127.0.0.1"));
}

TEST_F(Nodes, WithAnotherNumberOfNodes) {
  const auto node0 = node(0, {"true"}, 3);
  const auto node1 = node(1, {"true"}, 2);
  EXPECT_EQ(node0->wait(), 2);
  EXPECT_EQ(node1->wait(), 2);
  for (const auto* each : {&node0, &node1}) {
    EXPECT_THAT((*each)->err(), HasSubstr("--num-nodes=3"));
    EXPECT_THAT((*each)->err(), HasSubstr("--num-nodes=2"));
  }
}

TEST_F(Nodes, TwoWithTheSameRank) {
  const auto first = node(1, {"--rendezvous-timeout=3", "true"}, 3);
  const auto second = node(1, {"--rendezvous-timeout=3", "true"}, 3);
  const auto node0 = node(0, {"--rendezvous-timeout=3", "true"}, 3);
  EXPECT_EQ(node0->wait(), 1);
  EXPECT_EQ(first->wait(), 1);
  EXPECT_EQ(second->wait(), 1);
  EXPECT_THAT(node0->err(), HasSubstr("node 2 has not come"));
  EXPECT_THAT(first->err() + second->err(), HasSubstr("two processes were given the same rank"));
}

TEST_F(Nodes, OverIpv6) {
  const auto node0 = node(0, {"--main-address=::1", "--devices=1", kCommRank, "end"});
  const auto node1 = node(1, {"--main-address=::1", "--devices=1", kCommRank, "end"});
  const int code = node0->wait();
  if (code == 2 && node0->err().find("listen") != std::string::npos) {
    node1->kill(SIGKILL);
    GTEST_SKIP() << "no IPv6 loopback here: " << node0->err();
  }
  EXPECT_EQ(code, 0) << node0->err();
  EXPECT_EQ(node1->wait(), 0) << node1->err();
}

TEST_F(Nodes, WithOtherOptions) {
  const auto node0 = node(0, {"--strategy=ddp", "true"});
  const auto node1 = node(1, {"--strategy=fsdp", "true"});
  EXPECT_EQ(node0->wait(), 2);
  EXPECT_EQ(node1->wait(), 2);
  EXPECT_THAT(node1->err(), HasSubstr("different options"));
}

TEST_F(Nodes, AnotherSecretKeepsANodeOut) {
  const std::string other = make_secret("other");
  const auto node1 = node(1, {"true"}, 2, other);
  const auto node0 = node(0, {"--rendezvous-timeout=3", "true"});
  EXPECT_EQ(node1->wait(), 1);
  EXPECT_THAT(node1->err(), HasSubstr("secret"));
  EXPECT_EQ(node0->wait(), 1);
  EXPECT_THAT(node0->err(), HasSubstr("node 1 has not come"));
}

TEST_F(Nodes, APortInUseIsRefusedBeforeAnythingStarts) {
  const TakenPort taken;
  port_ = taken.port();
  const auto node0 = node(0, {"echo", "started"});
  EXPECT_EQ(node0->wait(), 2);
  EXPECT_EQ(node0->out(), "");
  EXPECT_THAT(node0->err(), HasSubstr(std::to_string(port_)));
  EXPECT_THAT(node0->err(), HasSubstr("in use"));
}

TEST_F(Nodes, ASecretIsNeededAndMustBePrivate) {
  ChildProcess none(weft_run({"--num-nodes=2", "true"}));
  EXPECT_EQ(none.wait(), 2);
  EXPECT_THAT(none.err(), HasSubstr("weft secret > "));
  std::filesystem::permissions(secret_, static_cast<std::filesystem::perms>(0640));
  const auto open_to_group = node(0, {"true"});
  EXPECT_EQ(open_to_group->wait(), 2);
  EXPECT_THAT(open_to_group->err(), HasSubstr("chmod 600"));
  std::filesystem::permissions(secret_, static_cast<std::filesystem::perms>(0600));
  std::ofstream(secret_, std::ios::trunc) << "too short";
  const auto garbage = node(0, {"true"});
  EXPECT_EQ(garbage->wait(), 2);
  EXPECT_THAT(garbage->err(), HasSubstr("64 hexadecimal digits"));
  const auto missing = node(0, {"true"}, 2, secret_ + ".none");
  EXPECT_EQ(missing->wait(), 2);
  EXPECT_THAT(missing->err(), HasSubstr("weft secret > "));
}

comm::JobIdentity meeting_of(const std::string& secret_file) {
  std::ifstream file(secret_file);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  comm::JobIdentity job;
  job.job_id = "weft-nodes";
  job.secret = comm::parse_secret(text);
  return job;
}

// One that knows the secret, and says what this version does not.
comm::StoreClient other_version(const comm::JobIdentity& job, int node, int port) {
  comm::StoreClientOptions options;
  options.job = job;
  options.self = {-1 - node, 65536};
  options.port = static_cast<std::uint16_t>(port);
  return comm::StoreClient(options);
}

comm::Blob bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

constexpr const char* kDamaged[] = {"", "{", "{}", "[1, 2]", R"({"node": "1", "world_size": {}})"};

TEST_F(Nodes, WhatANodeSaysThatCannotBeReadIsAnError) {
  for (const char* damaged : kDamaged) {
    port_ = free_port();
    const auto node0 = node(0, {"true"});
    auto meeting = other_version(meeting_of(secret_), 1, port_);
    const auto arrival = meeting.add("arrivals", 1);
    try {
      meeting.set("arrival/" + std::to_string(arrival), bytes_of(damaged));
    } catch (const Error&) {  // node 0 may be gone before it answers
    }
    EXPECT_EQ(node0->wait(), 1) << damaged;
    EXPECT_THAT(node0->err(), HasSubstr("what a node that came said cannot be read")) << damaged;
  }
}

TEST_F(Nodes, WhatNodeZeroSaysThatCannotBeReadIsAnError) {
  for (const char* damaged : kDamaged) {
    comm::StoreServerOptions options;
    options.job = meeting_of(secret_);
    options.world_size = 65536;
    comm::StoreServer server(options);
    port_ = server.port();
    auto meeting = other_version(options.job, 0, port_);
    meeting.set("verdict", bytes_of(damaged));
    const auto node1 = node(1, {"true"});
    EXPECT_EQ(node1->wait(), 1) << damaged;
    EXPECT_THAT(node1->err(), HasSubstr("what node 0 said cannot be read")) << damaged;
  }
}

TEST_F(Nodes, NamesThatDoNotResolve) {
  const auto node0 = node(0, {"--main-address=no-such-host.invalid", "true"});
  EXPECT_EQ(node0->wait(), 2);
  EXPECT_THAT(node0->err(), HasSubstr("no-such-host.invalid"));
}

TEST(NodeRoll, NumbersRanksAndNamesWhoIsMissing) {
  launcher::NodeRoll roll(4);
  const launcher::NodeEntry main{0, 4, 2, "a", "s"};
  roll.add(main, main);
  EXPECT_EQ(roll.missing(), "nodes 1, 2 and 3 have");
  roll.add({2, 4, 3, "c", "s"}, main);
  roll.add({1, 4, 1, "b", "s"}, main);
  EXPECT_EQ(roll.missing(), "node 3 has");
  EXPECT_EQ(roll.first_rank(1), 2);
  EXPECT_EQ(roll.first_rank(2), 3);
  roll.add({3, 4, 1, "d", "s"}, main);
  EXPECT_EQ(roll.world_size(), 7);
  EXPECT_THROW(roll.add({3, 4, 1, "e", "s"}, main), launcher::LaunchError);
  EXPECT_THROW(roll.add({1, 5, 1, "b", "s"}, main), launcher::LaunchError);
}

TEST(JobEnd, TheCodeOfTheNodeAtFaultWins) {
  launcher::JobEnd end;
  end.add(0, 1, false);
  end.add(1, 7, true);
  end.add(2, 9, false);
  EXPECT_EQ(end.exit_code(), 7);
  launcher::JobEnd first;
  first.add(0, 0, false);
  first.add(1, 5, false);
  first.add(2, 6, false);
  EXPECT_EQ(first.exit_code(), 5);
}

}  // namespace
}  // namespace weft::test
