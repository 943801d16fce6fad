// What train_gpt says about memory: before training, and after it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>

#include "tests/examples/train_gpt_fixture.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

using tests::shell;
using tests::TrainGptTest;

// "parameters 1.50 MiB, ..., peak 20.1 MiB" as bytes by name.
std::map<std::string, double> figures(const std::string& output, const std::string& which) {
  const auto begin = output.find("memory a rank, " + which + ":");
  if (begin == std::string::npos) return {};
  const auto line = output.substr(begin, output.find('\n', begin) - begin);
  const std::map<std::string, double> units = {
      {"B", 1}, {"KiB", 1024}, {"MiB", 1024.0 * 1024}, {"GiB", 1024.0 * 1024 * 1024}};
  std::map<std::string, double> found;
  const std::regex one("(\\w+) ([0-9.]+) ([KMG]?i?B)");
  for (std::sregex_iterator it(line.begin(), line.end(), one), end; it != end; ++it) {
    found[(*it)[1]] = std::stod((*it)[2]) * units.at((*it)[3]);
  }
  return found;
}

TEST_F(TrainGptTest, MemoryIsPredictedWithinATenth) {
  for (const char* ranks : {"1", "2"}) {
    for (const char* precision : {"32-true", "bf16-mixed", "bf16-true"}) {
      for (const char* shape : {"--n_layer 3 --n_head 4 --n_embd 96 --block_size 64 --batch_size 6",
                                "--n_layer 2 --n_head 2 --n_embd 128 --block_size 32 "
                                "--batch_size 1 --gradient_accumulation_steps 2"}) {
        const auto ran = shell(train(std::string(shape) + " --max_iters 3 --devices " + ranks +
                                     " --precision " + precision));
        ASSERT_EQ(ran.exit_code, 0) << ran.output;
        const auto predicted = figures(ran.output, "predicted");
        const auto measured = figures(ran.output, "measured");
        for (const char* part : {"parameters", "gradients", "optimizer", "activations", "peak"}) {
          ASSERT_TRUE(predicted.count(part) == 1 && measured.count(part) == 1) << ran.output;
        }
        for (const char* part : {"parameters", "gradients", "optimizer", "peak"}) {
          EXPECT_NEAR(predicted.at(part) / measured.at(part), 1.0, 0.10)
              << part << ", " << ranks << " ranks, " << precision << ", " << shape << "\n"
              << ran.output;
        }
        if (std::string(ranks) == "2") {  // alone, activations are what is beyond gradients
          EXPECT_NEAR(predicted.at("activations") / measured.at("activations"), 1.0, 0.10)
              << precision << ", " << shape << "\n"
              << ran.output;
        }
      }
    }
  }
}

}  // namespace
}  // namespace weft
