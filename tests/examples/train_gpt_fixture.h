// train_gpt on a small text, as a fixture: a folder of the test's own, runs of a second or so.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft::tests {

namespace fs = std::filesystem;

inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;

class TrainGptTest : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(path("text.txt"));
    for (int i = 0; i < 400; ++i)
      text << "the shuttle carries weft thread " << i % 10 << " times.\n";
  }

  std::string path(const std::string& name) const { return folder_ / name; }

  // A run of a second or so; `more` overrides.
  std::string train(const std::string& more = "") const {
    return binary("train_gpt") + " --data " + path("text.txt") + " --out_dir " + path("out") +
           " --n_layer 2 --n_head 2 --n_embd 32 --block_size 16 --batch_size 4 --max_iters 20 "
           "--warmup_iters 5" +
           " --eval_interval 10 --eval_iters 2 --log_interval 5 --sample_tokens 20 " + more;
  }

  std::vector<double> losses(const std::string& log) const {
    std::ifstream in(path(log));
    std::vector<double> values;
    for (std::string line; std::getline(in, line);)
      values.push_back(nlohmann::json::parse(line).at("loss"));
    return values;
  }

  const ScratchDirectory folder_;
};

}  // namespace weft::tests
