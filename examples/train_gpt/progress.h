// What a person and a program see of the training: lines, or one live line on a terminal, and JSON.
#pragma once

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>

#include "examples/train_gpt/options.h"

namespace train_gpt {

struct StepReport {
  std::int64_t iter = 0;
  std::int64_t epoch = -1;     // -1: the data has none
  std::int64_t sequences = 0;  // of all ranks
  double loss = 0;
  double lr = 0;
  double tokens_per_s = 0;
  double step_ms = 0;
  double comm_ms = 0;
  double exposed_comm_ms = 0;
};

// Of rank 0 alone; the other ranks make one that is silent.
class Progress {
 public:
  Progress(const Options& options, bool speaks);
  // Starts --log_json, or goes on with it: what it holds of iterations before `first_iter` stays.
  // IoError where it cannot be written.
  void open_log(std::int64_t first_iter);
  void step(const StepReport& report);
  void validation(std::int64_t iter, double loss);
  void line(const std::string& text);  // anything else; keeps the live line below it

 private:
  void show_live(const StepReport& report);
  void erase_live();

  const Options& options_;
  bool speaks_;
  bool live_;
  bool live_shown_ = false;
  double smoothed_step_ms_ = 0;
  std::chrono::steady_clock::time_point last_shown_{};
  std::ofstream json_;
};

}  // namespace train_gpt
