// Hosts with a network between them: ranks in network namespaces, on rate-limited links. What is
// checked is that sums are right and that the bytes took the interface they were told; times are
// for bench/netns. Needs root and a kernel that gives namespaces, or says why it is skipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <string>

#include "tests/support/shell.h"

namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using weft::tests::shell;

const std::string kScripts = std::string(WEFT_SOURCE_DIR) + "/bench/netns/";

class Namespaces : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto check = shell(kScripts + "hosts.sh --hosts 2 --check");
    if (check.exit_code == 77) GTEST_SKIP() << check.output;
    ASSERT_EQ(check.exit_code, 0) << check.output;
  }

  // All ranks' sums are checked by weft bench itself.
  std::string bench(const std::string& variables, const std::string& hosts,
                    const std::string& options) {
    const auto ran = shell(variables + " " + kScripts + "all_reduce.sh --bin " + WEFT_BIN_DIR +
                               " --stats " + hosts + " -- " + options,
                           200);
    EXPECT_EQ(ran.exit_code, 0) << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("Out of bounds values : 0 OK"));
    return ran.output;
  }

  // What a host sent over its link.
  static long long sent(const std::string& output, const std::string& host) {
    std::smatch match;
    const std::regex line("netns: " + host +
                          " eth0 received [0-9]+ bytes [0-9]+ packets, sent "
                          "([0-9]+) bytes");
    return std::regex_search(output, match, line) ? std::stoll(match[1]) : -1;
  }
};

// In place and out of place, a check of each: eight times a rank sends 2 (n - 1) / n MiB.
TEST_F(Namespaces, ThreeHostsSumOverTheirLinks) {
  const std::string output =
      bench("", "--hosts 3 --rate 1gbit", "all_reduce -b 1M -e 1M -n 2 -w 1 --algorithm ring");
  for (const char* host : {"wh0", "wh1", "wh2"}) {
    EXPECT_GT(sent(output, host), 8 * (4ll << 20) / 3) << output;
    EXPECT_LT(sent(output, host), 12 * (4ll << 20) / 3) << output;
  }
}

TEST_F(Namespaces, SeveralConnectionsShareALink) {
  const std::string output = bench("WEFT_CONNECTIONS=4", "--hosts 2 --rate 1gbit",
                                   "all_reduce -b 4M -e 4M -n 2 -w 1 --algorithm ring");
  EXPECT_GT(sent(output, "wh0"), 8 * (4ll << 20)) << output;
}

TEST_F(Namespaces, SeveralRanksAHostAndOneSlowLink) {
  bench("", "--hosts 2 --devices 2 --rate 1gbit --lane 1:200mbit",
        "all_reduce -b 64K -e 1M -f 16 -n 2 -w 1");
}

TEST_F(Namespaces, AnInterfaceThatTheOthersCannotReachIsNamed) {
  const auto ran = shell("WEFT_INTERFACE=lo " + kScripts + "hosts.sh --hosts 1 --timeout 20 -- " +
                         WEFT_BIN_DIR + "/weft run --devices 1 --interface warp0 true");
  EXPECT_NE(ran.exit_code, 0);
  EXPECT_THAT(ran.output, HasSubstr("warp0"));
}

TEST_F(Namespaces, GoWithTheScriptOrWithTheNextOne) {
  const auto whole = shell(kScripts + "hosts.sh --hosts 2 -- \"echo script \\$HOSTS_PID\"");
  EXPECT_EQ(whole.exit_code, 0) << whole.output;
  const auto killed = shell(kScripts +
                            "hosts.sh --hosts 2 -- \"echo script \\$HOSTS_PID; "
                            "kill -KILL \\$HOSTS_PID; exec tail -f /dev/null > /dev/null 2>&1\"");
  EXPECT_NE(killed.exit_code, 0);
  const auto clean = shell(kScripts + "hosts.sh --clean");
  EXPECT_EQ(clean.exit_code, 0) << clean.output;
  const auto left = shell("ip netns list");
  for (const std::string& output : {whole.output, killed.output}) {
    std::smatch match;
    ASSERT_TRUE(std::regex_search(output, match, std::regex("script ([0-9]+)"))) << output;
    EXPECT_THAT(left.output, Not(HasSubstr("weft-" + match[1].str() + "-")));
  }
}

TEST_F(Namespaces, TheFirstStatusThatIsNotNullIsTold) {
  EXPECT_EQ(shell(kScripts + "hosts.sh --hosts 3 -- \"exit \\$((HOST_RANK * 10))\"").exit_code, 10);
}

}  // namespace
