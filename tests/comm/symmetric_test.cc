// Memory that ranks of one host map from each other, and what happens where that cannot be had.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>

#include "tests/comm/process.h"
#include "tests/support/sanitized.h"

namespace weft::comm {
namespace {

using std::chrono::milliseconds;
using testing::Backend;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Process;

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(maps), {}, '\n'));
}

void expect_sums(Communicator& world, const SymmetricMemory& memory) {
  const auto data = memory.as<float>();
  std::fill(data.begin(), data.end(), static_cast<float>(world.rank() + 1));
  world.all_reduce(data);
  const auto sum = static_cast<float>(world.size() * (world.size() + 1)) / 2;
  for (const float element : data) ASSERT_EQ(element, sum);
}

class Symmetric : public ::testing::TestWithParam<Backend> {};

TEST_P(Symmetric, AnySizeIsZeroedAndReduces) {
  testing::expect_world(GetParam(), 3, [](Communicator& world) {
    for (const std::int64_t bytes : {0, 1, 4, 4097, 3 << 20}) {
      const SymmetricMemory memory = world.allocate_symmetric(Bytes(bytes));
      EXPECT_EQ(memory.size(), Bytes(bytes));
      const std::byte* const data = memory.data();
      ASSERT_NE(data, nullptr);
      EXPECT_TRUE(std::all_of(data, data + bytes, [](std::byte b) { return b == std::byte{0}; }));
      expect_sums(world, memory);
    }
  });
}

// What cannot be had fails on all ranks alike, and breaks nothing.
TEST_P(Symmetric, RefusalsAreTheSameOnAllRanks) {
  testing::expect_world(GetParam(), 3, [](Communicator& world) {
    const auto expect_refusal = [&](std::int64_t bytes, const std::string& text) {
      try {
        world.allocate_symmetric(Bytes(bytes));
        ADD_FAILURE() << bytes << " bytes were given";
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr(text));
      }
    };
    for (int again = 0; again < 2; ++again) {
      expect_refusal(std::int64_t{1} << 60, "rank 0: ");
      expect_refusal(std::numeric_limits<std::int64_t>::max(), "more than");
      expect_refusal(world.rank() == 1 ? 4096 : 8192,
                     "rank 0 asks for 8192 bytes, rank 1 for 4096");
      expect_refusal(world.rank() == 1 ? std::int64_t{1} << 60 : 8192, "rank 1: ");
      expect_refusal(-1, "expected 0 or more");
      expect_sums(world, world.allocate_symmetric(Bytes(40'000)));
    }
  });
}

TEST_P(Symmetric, OutlivesItsCommunicator) {
  testing::expect_world(GetParam(), 3, [](Communicator& world) {
    SymmetricMemory memory;
    {
      std::optional<Communicator> split = world.split(0);
      memory = split->allocate_symmetric(Bytes(40'000));
      expect_sums(*split, memory);
    }
    expect_sums(world, memory);  // another communicator: ordinary memory there
    const auto data = memory.as<float>();
    EXPECT_EQ(data[9999], 6.0f);
  });
}

TEST_P(Symmetric, BelongsToASplit) {
  testing::expect_world(GetParam(), 4, [](Communicator& world) {
    std::optional<Communicator> half = world.split(world.rank() % 2);
    const SymmetricMemory ours = half->allocate_symmetric(Bytes(40'000));
    const SymmetricMemory everybodys = world.allocate_symmetric(Bytes(40'000));
    expect_sums(*half, ours);
    expect_sums(world, everybodys);
    expect_sums(*half, everybodys);
  });
}

INSTANTIATE_TEST_SUITE_P(Transports, Symmetric,
                         ::testing::Values(Backend{"inproc"}, testing::shm_backend(),
                                           Backend{"tcp", true}),
                         [](const auto& param_info) { return param_info.param.name; });

TEST(SymmetricMemory, ThousandsOfCyclesLeakNothing) {
  testing::expect_world(testing::shm_backend(), 2, [](Communicator& world) {
    std::size_t descriptors = 0;
    std::size_t mapped = 0;
    for (int k = 0; k < 2000; ++k) {
      const SymmetricMemory memory = world.allocate_symmetric(Bytes(5000));
      if (k == 100 && world.rank() == 0) {
        descriptors = open_descriptors();
        mapped = mappings();
      }
    }
    world.barrier();
    if (world.rank() != 0) return;
    EXPECT_LE(open_descriptors(), descriptors + 4);
    EXPECT_LE(mappings(), mapped + 16);
  });
}

// --- Ranks that are processes.

class Hosts : public ::testing::Test {
 protected:
  static Backend automatic() {
    Backend backend = testing::shm_backend();
    backend.transport = TransportKind::automatic;
    return backend;
  }
  // One rank for each key: those with the same are on one host.
  static void expect_conforms(const std::vector<std::string>& keys) {
    const auto size = static_cast<int>(keys.size());
    testing::TestJob job(size, automatic());
    const testing::SecretFd secret(job.identity().secret);
    std::vector<Process> ranks;
    for (int r = 0; r < size; ++r) {
      ranks.emplace_back(job.options(r), secret, std::vector<std::string>{"conform_main"},
                         keys[static_cast<std::size_t>(r)]);
    }
    for (Process& rank : ranks) {
      EXPECT_TRUE(rank.says("conforms", milliseconds(60'000))) << rank.said();
      EXPECT_EQ(rank.wait_for_exit(), 0);
    }
  }
};

TEST_F(Hosts, OneHostConforms) { expect_conforms({"a", "a", "a"}); }
TEST_F(Hosts, TwoHostsOfTwoConform) { expect_conforms({"a", "a", "b", "b"}); }
TEST_F(Hosts, RanksDealtToTwoHostsConform) { expect_conforms({"a", "b", "a", "b"}); }
TEST_F(Hosts, ARankAloneOnItsHostConforms) { expect_conforms({"a", "b", "a"}); }
TEST_F(Hosts, HostsOfOneConform) { expect_conforms({"a", "b", "c"}); }

// Rank 2 of 4 is such that the others cannot map its memory, or it not theirs.
class Refused : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (tests::kSanitized && std::string(GetParam()) == "cramped") {
      GTEST_SKIP() << "a sanitizer ends the process where its address space is small";
    }
  }
  static std::vector<Process> start(testing::TestJob& job, const testing::SecretFd& secret) {
    std::vector<Process> ranks;
    for (int r = 0; r < 4; ++r) {
      const bool hides = std::string(GetParam()) == "hidden";
      const std::string deed = r == 2 ? GetParam() : hides ? "work plain" : "work";
      ranks.emplace_back(job.options(r), secret,
                         std::vector<std::string>{"comm_member_main", deed, "5"});
    }
    return ranks;
  }
};

TEST_P(Refused, WithAutoAllTalkOverTcpAndOneSaysWhy) {
  Backend backend = testing::shm_backend();
  backend.transport = TransportKind::automatic;
  testing::TestJob job(4, backend);
  const testing::SecretFd secret(job.identity().secret);
  auto ranks = start(job, secret);
  for (Process& rank : ranks) {
    EXPECT_TRUE(rank.says("ready", milliseconds(30'000))) << rank.said();
  }
  EXPECT_THAT(ranks[0].said(), HasSubstr("talk over TCP, since they cannot share memory: rank "));
  for (const std::size_t r : {1u, 2u, 3u})
    EXPECT_THAT(ranks[r].said(), Not(HasSubstr("talk over")));
}

TEST_P(Refused, WithShmAllFailAlike) {
  testing::TestJob job(4, testing::shm_backend());
  const testing::SecretFd secret(job.identity().secret);
  for (Process& rank : start(job, secret)) {
    EXPECT_TRUE(rank.says("thrown: ", milliseconds(30'000))) << rank.said();
    EXPECT_TRUE(rank.says("\n", milliseconds(1000)));
    EXPECT_THAT(rank.said(), HasSubstr("shared memory was asked for, but rank "));
    EXPECT_THAT(rank.said(), HasSubstr("cannot"));
  }
}

// hidden: /proc does not show it to its own user; cramped: little address space; short: files may
// have a few bytes only.
INSTANTIATE_TEST_SUITE_P(Ranks, Refused, ::testing::Values("hidden", "cramped", "short"),
                         [](const auto& param_info) { return std::string(param_info.param); });

// Rank 1 of 3 has no descriptors left, or 64 from the start: all ranks say so, soon, and go on.
class FewDescriptors : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (tests::kSanitized) GTEST_SKIP() << "a sanitizer needs descriptors to look at objects";
  }
  void expect_told(const std::string& deed) {
    testing::TestJob job(3, GetParam());
    const testing::SecretFd secret(job.identity().secret);
    std::vector<Process> ranks;
    for (int r = 0; r < 3; ++r) {
      ranks.emplace_back(
          job.options(r), secret,
          std::vector<std::string>{"comm_member_main", r == 1 ? deed : "split", "0"});
    }
    for (Process& rank : ranks) {
      EXPECT_TRUE(rank.says("thrown: ", job.options(0).connect_timeout / 2)) << rank.said();
      EXPECT_TRUE(rank.says("works on: 3\n", milliseconds(10'000))) << rank.said();
      EXPECT_THAT(rank.said(), HasSubstr("rank 1"));
      EXPECT_THAT(rank.said(), HasSubstr("raise ulimit -n"));
      EXPECT_THAT(rank.said(), Not(HasSubstr("not an Error")));
    }
  }
};
TEST_P(FewDescriptors, NoneIsToldToAllRanks) { expect_told("split hog"); }
TEST_P(FewDescriptors, TooFewIsToldToAllRanks) { expect_told("split few"); }

INSTANTIATE_TEST_SUITE_P(Transports, FewDescriptors,
                         ::testing::Values(testing::shm_backend(), Backend{"tcp", true}),
                         [](const auto& param_info) { return param_info.param.name; });

TEST(Descriptors, SixtyFourAreEnoughForEightRanks) {
  testing::TestJob job(8, testing::shm_backend());
  const testing::SecretFd secret(job.identity().secret);
  std::vector<Process> ranks;
  for (int r = 0; r < 8; ++r) {
    ranks.emplace_back(job.options(r), secret,
                       std::vector<std::string>{"comm_member_main", "work few", "5"});
  }
  for (Process& rank : ranks) {
    EXPECT_TRUE(rank.says("ready", milliseconds(30'000))) << rank.said();
  }
}

}  // namespace
}  // namespace weft::comm
