#include "comm/locality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

namespace weft::comm {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;

Locality at(const std::string& key, int package = -1, int numa = -1, int l3 = -1) {
  return {key, "node", package, numa, l3, 2};
}

TEST(HostMapOfLocalities, HostsComeInTheOrderOfTheirLowestRanks) {
  const Locality ranks[] = {at("z"), at("a"), at("z"), at("m"), at("a"), at("z")};
  const HostMap map = make_host_map(ranks);
  EXPECT_THAT(map.hosts, ElementsAre(ElementsAre(0, 2, 5), ElementsAre(1, 4), ElementsAre(3)));
  EXPECT_THAT(map.host_of, ElementsAre(0, 1, 0, 2, 1, 0));
}

TEST(HostMapOfLocalities, NeighboursAreNear) {
  // Two packages of two NUMA nodes, ranks dealt to them in turn as Slurm's cyclic binding does.
  std::vector<Locality> ranks;
  for (int r = 0; r < 8; ++r) ranks.push_back(at("host", 1 - r % 2, 2 * (1 - r % 2) + r / 2 % 2));
  EXPECT_THAT(make_host_map(ranks).hosts, ElementsAre(ElementsAre(0, 4, 2, 6, 1, 5, 3, 7)));
  // Within a NUMA node by last-level cache.
  const Locality caches[] = {at("host", 0, 0, 7), at("host", 0, 0, 3), at("host", 0, 0, 7),
                             at("host", 0, 0, 3)};
  EXPECT_THAT(make_host_map(caches).hosts, ElementsAre(ElementsAre(0, 2, 1, 3)));
}

TEST(HostMapOfLocalities, TheLowestRankLeads) {
  const Locality ranks[] = {at("b", 1, 1), at("a", 1), at("a", 0), at("b", 0, 0), at("b", 1, 0)};
  EXPECT_THAT(make_host_map(ranks).hosts, ElementsAre(ElementsAre(0, 4, 3), ElementsAre(1, 2)));
}

TEST(HostMapOfLocalities, IsSaneWhereNothingIsKnown) {
  const Locality nothing[] = {{}, {}, {}};
  EXPECT_THAT(make_host_map(nothing).hosts,
              ElementsAre(ElementsAre(0), ElementsAre(1), ElementsAre(2)));
  const Locality names[] = {{"", "x"}, {"", "y"}, {"", "x"}, {"x", "x"}};
  EXPECT_THAT(make_host_map(names).hosts,
              ElementsAre(ElementsAre(0, 2), ElementsAre(1), ElementsAre(3)));
  const Locality partly[] = {at("h", 1), at("h"), at("h", 1), at("h")};
  EXPECT_THAT(make_host_map(partly).hosts, ElementsAre(ElementsAre(0, 2, 1, 3)));
  EXPECT_TRUE(make_host_map({}).hosts.empty());
}

TEST(Locality, ComesBackFromJson) {
  const Locality place{"key", "node7", 1, 3, 5, 16};
  const auto text = nlohmann::json(place).dump();
  EXPECT_EQ(nlohmann::json::parse(text).get<Locality>(), place);
}

TEST(Locality, TakesFromJsonWhatIsThere) {
  const auto read = [](const char* text) { return nlohmann::json::parse(text).get<Locality>(); };
  EXPECT_EQ(read("{}"), Locality{});
  EXPECT_EQ(read("[1, 2]"), Locality{});
  EXPECT_EQ(read("null"), Locality{});
  EXPECT_EQ(read(R"({"key": 7, "host": "n", "package": "x", "numa": 1.5, "l3": -9})"),
            (Locality{"", "n", -1, -1, -1}));
  EXPECT_EQ(read(R"({"key": "k", "package": 99999999999999, "numa": 2})"),
            (Locality{"k", "", 1 << 20, 2, -1}));
}

// Sets an environment variable, or takes it away, as long as it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    value != nullptr ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Variable() { before_.empty() ? unsetenv(name_) : setenv(name_, before_.c_str(), 1); }

 private:
  const char* name_;
  std::string before_;
};

TEST(Locality, AProcessWithoutDescriptorsIsStillOfItsHost) {
  const auto key = this_locality().key;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto starved = this_locality().key;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(starved, key);
}

TEST(Locality, OfThisProcessIsStable) {
  const Variable unset("WEFT_HOST_KEY", nullptr);
  const Locality first = this_locality();
  EXPECT_EQ(this_locality(), first);
  EXPECT_FALSE(first.host.empty());
  EXPECT_THAT(first.key, EndsWith(fmt::format("/{}", geteuid())));
  EXPECT_GE(first.package, -1);
  EXPECT_GE(first.cpus, 1);
}

TEST(Locality, TheKeyCanBeSet) {
  const Variable set("WEFT_HOST_KEY", "rack 7");
  EXPECT_EQ(this_locality().key, "rack 7");
  const Variable empty("WEFT_HOST_KEY", "");
  EXPECT_NE(this_locality().key, "");
}

// What a child says its key is, after it has moved to namespaces of these kinds; "" and errno in
// `error` if it may not.
std::string key_in_namespaces(int kinds, int& error) {
  int ends[2];
  if (pipe(ends) != 0) return {};
  const pid_t child = fork();
  if (child == 0) {
    std::string answer = unshare(kinds) == 0 ? "k" : "e" + std::to_string(errno);
    if (answer == "k" && (kinds & CLONE_NEWPID) != 0) {
      const pid_t inside = fork();  // only children are in the new PID namespace
      if (inside != 0) _exit(waitpid(inside, nullptr, 0) == inside ? 0 : 1);
    }
    if (answer == "k") answer += this_locality().key;
    _exit(write(ends[1], answer.data(), answer.size()) == std::ssize(answer) ? 0 : 1);
  }
  close(ends[1]);
  std::string answer;
  char buffer[512];
  for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!answer.empty() && answer[0] == 'e') error = std::atoi(answer.c_str() + 1);
  return !answer.empty() && answer[0] == 'k' ? answer.substr(1) : std::string();
}

TEST(Locality, DiffersInAnotherNamespace) {
  const Variable unset("WEFT_HOST_KEY", nullptr);
  const std::string here = this_locality().key;
  int error = 0;
  EXPECT_EQ(key_in_namespaces(0, error), here);
  for (const int kind : {CLONE_NEWNET, CLONE_NEWPID}) {
    const std::string there = key_in_namespaces(kind, error);
    if (error == EPERM) GTEST_SKIP() << "only root may make namespaces";
    ASSERT_EQ(error, 0) << std::strerror(error);
    ASSERT_NE(there, "");
    EXPECT_NE(there, here);
  }
}

TEST(Locality, SaysWhereBoundProcessesRun) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &before)) continue;
    CPU_SET(cpu, &one);
    break;
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  const Locality bound = this_locality();
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_GE(bound.numa, 0);  // one CPU is in one NUMA node
}

}  // namespace
}  // namespace weft::comm
