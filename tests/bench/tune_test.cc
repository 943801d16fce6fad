// weft tune as its users run it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "comm/select/tuning_file.h"
#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using testing::HasSubstr;
using tests::binary;
using tests::shell;

std::string tune(const std::string& options) { return binary("weft") + " tune " + options; }
std::string bench(const std::string& options) { return binary("weft") + " bench " + options; }

TEST(TuneTest, WritesAFileThatIsUsed) {
  for (const std::string transport : {"shm", "tcp"}) {
    const std::string file = tests::scratch("tune_test_" + transport + "/new/tuning.json");
    const auto ran =
        shell(tune("--quick --devices 2 --transport " + transport + " --output " + file));
    ASSERT_EQ(ran.exit_code, 0) << ran.output;
    EXPECT_THAT(ran.output, HasSubstr("the model is off by"));
    const auto tuning = comm::parse_tuning(comm::read_tuning_text(file), file);
    EXPECT_EQ(tuning.ranks, 2);
    EXPECT_FALSE(tuning.measured.empty());
    const auto used =
        shell("WEFT_TUNING=" + file + " " +
              bench("all_reduce --devices 2 -b 8 -e 1M -f 8 -n 2 --transport " + transport));
    EXPECT_EQ(used.exit_code, 0) << used.output;
    EXPECT_THAT(used.output, HasSubstr("0 OK"));
    const auto shown = shell(tune("--show --ranks 2 --file " + file + " --transport " + transport));
    EXPECT_EQ(shown.exit_code, 0) << shown.output;
    EXPECT_THAT(shown.output, HasSubstr(file));
    EXPECT_THAT(shown.output, HasSubstr("decided by measured"));
    std::remove(file.c_str());
  }
}

TEST(TuneTest, ShowsAChoiceOfSeveralHosts) {
  const auto shown = shell(tune("--show --file none --bytes 64M --ranks 32 --ranks-per-host 8"));
  EXPECT_EQ(shown.exit_code, 0) << shown.output;
  EXPECT_THAT(shown.output, HasSubstr("over network: hierarchical"));
  EXPECT_THAT(shown.output, HasSubstr("tuning: built in"));
  EXPECT_THAT(shown.output, HasSubstr("halving_doubling"));
}

// Rank 1 has a file of its own, which nobody reads; rank 0's counts on both.
TEST(TuneTest, RankZeroDecidesForAll) {
  const std::string good = tests::scratch("tune_test_good.json");
  const std::string bad = tests::scratch("tune_test_bad.json");
  std::ofstream(good) << R"({"weft_tuning": 1, "measured": [{"transport": "tcp",
      "collective": "all_reduce", "ranks": 2,
      "choices": [{"up_to_bytes": 1048576, "algorithm": "tree"}]}]})";
  std::ofstream(bad) << "{\"weft_tuning\": 1,\n\"tcp\": {\"gbyte_s\": -5}}";
  const auto job = [&](const std::string& first, const std::string& other) {
    const std::string script = tests::scratch("tune_test_rank.sh");
    std::ofstream(script) << "if [ $WEFT_RANK = 0 ]; then export WEFT_TUNING=" << first
                          << "; else export WEFT_TUNING=" << other << "; fi\nexec "
                          << binary("weft-bench") << " all_reduce -b 8 -e 64K -f 64 -n 2\n";
    auto ran = shell(binary("weft") + " run --quiet --transport tcp --devices 2 sh " + script);
    std::remove(script.c_str());
    return ran;
  };
  const auto agreed = job(good, bad);
  EXPECT_EQ(agreed.exit_code, 0) << agreed.output;
  EXPECT_THAT(agreed.output, HasSubstr("0 OK"));
  const auto damaged = job(bad, good);
  EXPECT_NE(damaged.exit_code, 0);
  for (const char* rank : {"[rank 0]", "[rank 1]"}) {  // both, whoever comes to it first
    EXPECT_THAT(damaged.output,
                HasSubstr(std::string(rank) + " weft bench: invalid_argument: connect: " + bad));
  }
  EXPECT_THAT(damaged.output, HasSubstr("line 2, field /tcp/gbyte_s"));
  std::remove(good.c_str());
  std::remove(bad.c_str());
}

// The file that is used without being asked for: in the configuration folder, and of this machine.
TEST(TuneTest, TheDefaultFileIsUsedIfItIsOfThisMachine) {
  const std::string home = tests::scratch("tune_test_home");
  const std::string file = home + "/weft/tuning.json";
  const std::string with_home = "XDG_CONFIG_HOME=" + home + " ";
  const auto made = shell(with_home + tune("--quick --devices 2 --transport tcp"));
  ASSERT_EQ(made.exit_code, 0) << made.output;
  EXPECT_THAT(made.output, HasSubstr(file));
  const auto show = [&](const std::string& options = "") {
    return shell(with_home + tune("--show --ranks 2 --transport tcp " + options)).output;
  };
  EXPECT_THAT(show(), HasSubstr(file));
  EXPECT_THAT(show("--file none"), HasSubstr("tuning: built in"));

  // What bench chooses follows from it, and is told by the job that comes to read it.
  std::ofstream(file) << "{\"weft_tuning\": 1,\n\"tcp\": {\"gbyte_s\": -5}}";
  const std::string work = "all_reduce --devices 2 --transport tcp -b 8 -e 8 -n 2";
  const auto damaged = shell(with_home + bench(work));
  EXPECT_NE(damaged.exit_code, 0);
  EXPECT_THAT(damaged.output, HasSubstr(file));
  EXPECT_THAT(damaged.output, HasSubstr("line 2, field /tcp/gbyte_s"));
  EXPECT_EQ(shell(with_home + "WEFT_TUNING=none " + bench(work)).exit_code, 0);

  // Of another machine: as if it were not there.
  std::ofstream(file) << R"({"weft_tuning": 1, "host": "another", "cores": 999,
      "measured": [{"transport": "tcp", "collective": "all_reduce", "ranks": 2,
      "choices": [{"up_to_bytes": 1048576, "algorithm": "tree"}]}]})";
  EXPECT_EQ(shell(with_home + bench(work)).exit_code, 0);
  EXPECT_THAT(show(), HasSubstr("tuning: built in"));
  std::filesystem::remove_all(home);
}

TEST(TuneTest, RunTakesAFileByOption) {
  const std::string bad = tests::scratch("tune_test_option.json");
  std::ofstream(bad) << "{\"weft_tuning\": 1,\n\"tcp\": {\"gbyte_s\": -5}}";
  const auto run = [&](const std::string& tuning) {
    return shell("WEFT_TUNING=" + bad + " " + binary("weft") +
                 " run --quiet --transport tcp --devices 2 --tuning " + tuning + " " +
                 binary("weft-bench") + " all_reduce -b 8 -e 8 -n 2");
  };
  EXPECT_THAT(run(bad).output, HasSubstr("line 2, field /tcp/gbyte_s"));
  const auto without = run("none");  // the option goes before the variable
  EXPECT_EQ(without.exit_code, 0) << without.output;
  EXPECT_THAT(run(bad + ".not_there").output, HasSubstr(bad + ".not_there"));
  std::remove(bad.c_str());
}

TEST(TuneTest, AlgorithmsByCollective) {
  const auto run = [](const std::string& algorithms) {
    return shell("WEFT_ALGORITHM=" + algorithms + " " +
                 bench("all_reduce --devices 2 --transport tcp -b 8 -e 1K -f 32 -n 2"));
  };
  for (const char* right : {"ring", "all_reduce=ring,broadcast=tree", "tree,all_reduce=auto"}) {
    const auto ran = run(right);
    EXPECT_EQ(ran.exit_code, 0) << ran.output;
  }
  EXPECT_THAT(run("all_reduce=bush").output, HasSubstr("no algorithm is called"));
  EXPECT_THAT(run("all_redooce=ring").output, HasSubstr("no collective is called"));
  EXPECT_THAT(run("ring,tree").output, HasSubstr("twice"));
  EXPECT_THAT(run("ring,").output, HasSubstr("a name is missing"));
}

}  // namespace
}  // namespace weft
