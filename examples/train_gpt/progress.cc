#include "examples/train_gpt/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "kernels/base/error.h"

namespace train_gpt {
namespace {

// weft run passes ranks' output through pipes, shows a line that is being rewritten below the
// others, and says so.
bool shown_by_launcher() {
  const char* hint = std::getenv("WEFT_TERMINAL");
  return hint != nullptr && std::string(hint) == "1";
}

// To the start of the line, which is emptied. A launcher empties it itself.
const char* start_over() { return isatty(STDOUT_FILENO) ? "\r\x1b[K" : "\r"; }

std::string human_time(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string human_count(double value) {
  if (value >= 1e6) return fmt::format("{:.2f}M", value / 1e6);
  if (value >= 1e3) return fmt::format("{:.1f}k", value / 1e3);
  return fmt::format("{:.0f}", value);
}

constexpr double kSmoothing = 0.1;
constexpr std::chrono::milliseconds kLiveEvery{100};

}  // namespace

Progress::Progress(const Options& options, bool speaks)
    : options_(options),
      speaks_(speaks),
      live_(speaks && (isatty(STDOUT_FILENO) || shown_by_launcher())) {}

void Progress::open_log(std::int64_t first_iter) {
  if (!speaks_ || options_.log_json.empty()) return;
  std::vector<std::string> kept;
  if (first_iter > 0) {
    std::error_code ignored;  // a pipe has no lines from before
    std::ifstream before;
    if (std::filesystem::is_regular_file(options_.log_json, ignored)) {
      before.open(options_.log_json);
    }
    for (std::string line; std::getline(before, line);) {
      const auto entry = nlohmann::json::parse(line, nullptr, false);
      if (entry.is_object() && entry.value("iter", first_iter) < first_iter) kept.push_back(line);
    }
  }
  json_.open(options_.log_json);
  for (const auto& line : kept) json_ << line << '\n';
  json_.flush();
  if (!json_)
    weft::fail<weft::IoError>("train_gpt: cannot write --log_json {}: check the path.",
                              options_.log_json);
}

void Progress::step(const StepReport& report) {
  if (!speaks_) return;
  if (json_.is_open()) {
    nlohmann::json line = {{"iter", report.iter},
                           {"loss", report.loss},
                           {"lr", report.lr},
                           {"sequences", report.sequences},
                           {"tokens_per_s", report.tokens_per_s},
                           {"step_ms", report.step_ms},
                           {"comm_ms", report.comm_ms},
                           {"exposed_comm_ms", report.exposed_comm_ms}};
    if (report.epoch >= 0) line["epoch"] = report.epoch;
    json_ << line << '\n';
    json_.flush();
    if (!json_)
      weft::fail<weft::IoError>("train_gpt: cannot write --log_json {}: disk full?",
                                options_.log_json);
  }
  smoothed_step_ms_ +=
      (smoothed_step_ms_ == 0 ? 1.0 : kSmoothing) * (report.step_ms - smoothed_step_ms_);
  const bool last = report.iter + 1 == options_.max_iters;
  if (live_) {
    const auto now = std::chrono::steady_clock::now();
    if (last || now - last_shown_ >= kLiveEvery) show_live(report);
    return;
  }
  if (report.iter % options_.log_interval != 0 && !last) return;
  fmt::print("iter {:>6}: loss {:.4f}, {:.2f} ms, {} tokens/s\n", report.iter, report.loss,
             report.step_ms, human_count(report.tokens_per_s));
  std::fflush(stdout);
}

void Progress::show_live(const StepReport& report) {
  constexpr int kBarWidth = 24;
  const double share =
      static_cast<double>(report.iter + 1) / static_cast<double>(options_.max_iters);
  const auto filled = static_cast<std::size_t>(share * kBarWidth);
  const double left_s =
      static_cast<double>(options_.max_iters - report.iter - 1) * smoothed_step_ms_ / 1e3;
  fmt::print("{}[{}{}] {}/{}  loss {:.4f}  {} tokens/s  {} left", start_over(),
             std::string(filled, '#'), std::string(kBarWidth - filled, '.'), report.iter + 1,
             options_.max_iters, report.loss, human_count(report.tokens_per_s), human_time(left_s));
  std::fflush(stdout);
  live_shown_ = true;
  last_shown_ = std::chrono::steady_clock::now();
}

void Progress::erase_live() {
  if (!live_shown_) return;
  fmt::print("{}", start_over());
  live_shown_ = false;
}

void Progress::validation(std::int64_t iter, double loss) {
  line(fmt::format("iter {:>6}: validation loss {:.4f}", iter, loss));
}

void Progress::line(const std::string& text) {
  if (!speaks_) return;
  erase_live();
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

}  // namespace train_gpt
