// The small examples.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using testing::HasSubstr;
using tests::binary;
using tests::shell;

TEST(AllReduceExampleTest, SumsOverTheRanksItStarts) {
  const auto ran = shell(binary("all_reduce") + " --devices 3");
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  for (const char* rank : {"rank 0 of 3", "rank 1 of 3", "rank 2 of 3"})
    EXPECT_THAT(ran.output, HasSubstr(rank));
  EXPECT_THAT(ran.output, HasSubstr("every element is 6"));
}

TEST(AllReduceExampleTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(shell(binary("all_reduce") + " --bogus").exit_code, 2);
}

TEST(AllReduceExampleTest, SumsUnderWeftRun) {
  const auto ran = shell(binary("weft") + " run --devices=2 " + binary("all_reduce"));
  EXPECT_EQ(ran.exit_code, 0) << ran.output;
  EXPECT_THAT(ran.output, HasSubstr("rank 1 of 2: every element is 3"));
}

TEST(TrainMlpTest, LearnsASyntheticSetOnTwoRanks) {
  for (const char* model : {"mlp", "conv"}) {
    const auto ran =
        shell(binary("train_mlp") + " --devices 2 --epochs 3 --batch_size 50 --model " + model);
    ASSERT_EQ(ran.exit_code, 0) << ran.output;
    const auto last = ran.output.rfind("accuracy ");
    ASSERT_NE(last, std::string::npos) << ran.output;
    EXPECT_GT(std::stod(ran.output.substr(last + 9)), 80.0) << ran.output;
  }
}

TEST(TrainMlpTest, BadFilesAreNamed) {
  const auto file = tests::scratch("not_idx");
  std::ofstream(file) << "hello";
  const auto ran = shell(binary("train_mlp") + " --images " + file + " --labels " + file);
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.output, HasSubstr("not_idx"));
  EXPECT_EQ(shell(binary("train_mlp") + " --images " + file).exit_code, 2);
}

}  // namespace
}  // namespace weft
