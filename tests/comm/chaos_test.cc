// A few of the chaos runs (chaos_main.cc), beside other tests; run that by hand for a thousand, and
// for the times.
#include <gtest/gtest.h>

#include "tests/support/shell.h"

namespace weft::comm {
namespace {

void expect_calm(const std::string& options) {
  const auto ran = tests::shell(tests::binary("chaos_main") + " " + options, 240);
  EXPECT_EQ(ran.exit_code, 0) << options << ":\n" << ran.output;
}

TEST(Chaos, KilledRanksAreNamedOverTcp) {
  expect_calm("--transport tcp --runs 20 --within-ms 8000");
}
TEST(Chaos, KilledRanksAreNamedOverSeveralConnections) {
  expect_calm("--transport tcp --connections 3 --runs 10 --seed 100 --within-ms 8000");
}
TEST(Chaos, KilledRanksAreNamedOverSharedMemory) {
  expect_calm("--transport shm --runs 20 --within-ms 8000");
}
TEST(Chaos, KilledRanksAreNamedOnHostsThatShareMemory) {
  expect_calm("--transport auto --hosts 2 --runs 10 --seed 200 --within-ms 8000");
}
// Found by its silence: six heartbeats of 500 ms, and the window for the verdict.
TEST(Chaos, AStoppedRankIsToldFromADeadOne) {
  expect_calm("--transport tcp --signal stop --runs 2 --within-ms 12000");
  expect_calm("--transport shm --signal stop --runs 2 --within-ms 12000");
}

}  // namespace
}  // namespace weft::comm
