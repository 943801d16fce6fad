// `weft verify`: proves the schedules of all algorithms and prints what was proved.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "comm/verify/survey.h"
#include "launcher/commands/commands.h"
#include "launcher/job/launch_error.h"

namespace weft::launcher {
namespace {

using comm::SurveyRow;
using comm::SurveySubject;

constexpr int kWorldMax = 1024;

struct VerifyOptions {
  int world_min = 1;
  int world_max = comm::kEverySize;
  std::vector<std::string> algorithms;
  std::vector<std::string> collectives;
  std::vector<std::string> forms;
  std::string json_path;
  int jobs = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
};

std::vector<comm::Collective> collectives_of(const VerifyOptions& options) {
  std::vector<comm::Collective> all;
  std::string known;
  for (int c = 0; c < comm::kScheduledCollectives; ++c) {
    all.push_back(static_cast<comm::Collective>(c));
    known += (c > 0 ? ", " : "") + std::string(name_of(all.back()));
  }
  std::vector<comm::Collective> chosen;
  for (const std::string& name : options.collectives) {
    const auto found =
        std::ranges::find_if(all, [&](comm::Collective c) { return name == name_of(c); });
    if (found == all.end()) {
      refuse(kExitUsage, "--collective {}: there is no such one; choose from {}", name, known);
    }
    chosen.push_back(*found);
  }
  return chosen.empty() ? all : chosen;
}

// The subjects that the options name: an algorithm by its name, a form by a part of its name.
std::vector<SurveySubject> subjects_of(const VerifyOptions& options) {
  std::vector<SurveySubject> subjects = comm::survey_subjects();
  const auto keep = [&](const char* option, const std::vector<std::string>& names, auto&& matches,
                        auto&& name_of) {
    for (const std::string& name : names) {
      if (std::ranges::any_of(subjects, [&](const auto& s) { return matches(s, name); })) continue;
      std::string known;
      for (const SurveySubject& subject : comm::survey_subjects()) {
        const std::string text = fmt::format("\"{}\"", name_of(subject));
        if (known.find(text) == std::string::npos) known += (known.empty() ? "" : ", ") + text;
      }
      refuse(kExitUsage, "{} {}: there is no such one; choose from {}", option, name, known);
    }
    if (names.empty()) return;
    std::erase_if(subjects, [&](const SurveySubject& subject) {
      return std::ranges::none_of(names, [&](const auto& name) { return matches(subject, name); });
    });
  };
  const auto algorithm = [](const SurveySubject& s) { return s.algorithm; };
  const auto form = [](const SurveySubject& s) { return s.form; };
  keep(
      "--form", options.forms,
      [](const SurveySubject& s, const std::string& name) {
        return !name.empty() && s.form.find(name) != std::string::npos;
      },
      form);
  keep(
      "--algorithm", options.algorithms,
      [](const SurveySubject& s, const std::string& name) { return s.algorithm == name; },
      algorithm);
  return subjects;
}

// One line for each row, under a heading, as soon as the row is there; progress below it where
// somebody watches.
class Table {
 public:
  Table(std::span<const SurveySubject> subjects, const comm::SurveyOptions& options)
      : watched_(isatty(STDERR_FILENO) != 0) {
    for (const SurveySubject& subject : subjects) {
      widths_[0] = std::max(widths_[0], subject.algorithm.size());
      widths_[2] = std::max(widths_[2], subject.form.size());
      for (const comm::Collective collective : options.collectives) {
        const auto sizes = survey_sizes(subject, collective, options);
        if (!sizes.empty()) some_ = some_ || sizes.back() - sizes.front() + 1 > std::ssize(sizes);
        widths_[1] = std::max(widths_[1], std::string(name_of(collective)).size());
        widths_[3] = std::max(widths_[3], comm::text_of_sizes(sizes).size());
      }
    }
    line("algorithm", "collective", "form", "worlds proved", "proofs", "steps", "verdict");
  }

  void add(const SurveyRow& row) {
    clear_progress();
    std::vector<int> proved = row.sizes;
    if (!row.ok()) proved.pop_back();
    line(row.algorithm, name_of(row.collective), row.form, comm::text_of_sizes(proved),
         std::to_string(row.proofs), std::to_string(row.steps),
         row.ok() ? "proved" : fmt::format("REFUTED at {}", row.sizes.back()));
    std::fflush(stdout);
  }

  void progress(std::int64_t done, std::int64_t all) {
    if (!watched_) return;
    fmt::print(stderr, "\r{} of {} worlds ", done, all);
    std::fflush(stderr);
    progress_shown_ = true;
  }

  void clear_progress() {
    if (progress_shown_) fmt::print(stderr, "\r{:40}\r", "");
    progress_shown_ = false;
  }

  bool left_some_out() const { return some_; }

 private:
  void line(const std::string& algorithm, const std::string& collective, const std::string& form,
            const std::string& worlds, const std::string& proofs, const std::string& steps,
            const std::string& verdict) const {
    fmt::print("{:{}}  {:{}}  {:{}}  {:{}}  {:>8}  {:>11}  {}\n", algorithm, widths_[0], collective,
               widths_[1], form, widths_[2], worlds, widths_[3], proofs, steps, verdict);
  }

  bool watched_;
  bool progress_shown_ = false;
  bool some_ = false;
  std::size_t widths_[4] = {9, 10, 4, 13};
};

nlohmann::json json_of(const SurveyRow& row) {
  nlohmann::json json = {
      {"algorithm", row.algorithm}, {"collective", name_of(row.collective)},
      {"form", row.form},           {"worlds", row.sizes},
      {"proofs", row.proofs},       {"steps", row.steps},
      {"messages", row.messages},   {"proved", row.ok()},
  };
  if (!row.ok()) json["counterexample"] = row.counterexample;
  return json;
}

void write_json(std::ofstream& out, const std::string& path, const VerifyOptions& options,
                std::span<const SurveyRow> rows) {
  nlohmann::json all = {{"world_min", options.world_min}, {"world_max", options.world_max}};
  all["proved"] = std::ranges::all_of(rows, &SurveyRow::ok);
  all["rows"] = nlohmann::json::array();
  for (const SurveyRow& row : rows) all["rows"].push_back(json_of(row));
  out << all.dump(2) << '\n';
  out.close();
  if (!out) refuse(1, "--json {}: cannot be written", path);
}

int report(const VerifyOptions& options, std::span<const SurveyRow> rows, bool left_some_out,
           double seconds) {
  std::int64_t proofs = 0;
  std::int64_t steps = 0;
  std::int64_t refuted = 0;
  for (const SurveyRow& row : rows) {
    proofs += row.proofs;
    steps += row.steps;
    refuted += row.ok() ? 0 : 1;
  }
  if (left_some_out) {
    fmt::print(
        "Above {} ranks, where the work of all ranks grows with the square of their number, the "
        "sizes named are proved and the others are not.\n",
        comm::kEverySize);
  }
  for (const SurveyRow& row : rows) {
    if (!row.ok()) {
      fmt::print("\n{}, {}, {}: refuted\n{}\n", row.algorithm, name_of(row.collective), row.form,
                 row.counterexample);
    }
  }
  fmt::print("{}: {} rows, {} proofs, {} steps, {:.1f} s on {} threads\n",
             refuted == 0 ? "all proved" : fmt::format("{} REFUTED", refuted), rows.size(), proofs,
             steps, seconds, options.jobs);
  return std::fflush(stdout) == 0 && refuted == 0 ? 0 : 1;
}

int verify(const VerifyOptions& options) {
  if (options.world_min > options.world_max) {
    refuse(kExitUsage, "--min-world {}: is above --max-world {}", options.world_min,
           options.world_max);
  }
  comm::SurveyOptions survey_options{options.world_min, options.world_max, options.jobs,
                                     collectives_of(options)};
  const std::vector<SurveySubject> subjects = subjects_of(options);
  std::ofstream json;
  if (!options.json_path.empty()) {
    json.open(options.json_path);
    if (!json) refuse(kExitUsage, "--json {}: cannot be written", options.json_path);
  }
  const bool any = std::ranges::any_of(subjects, [&](const SurveySubject& subject) {
    return std::ranges::any_of(survey_options.collectives, [&](comm::Collective collective) {
      return !survey_sizes(subject, collective, survey_options).empty();
    });
  });
  if (!any) refuse(kExitUsage, "no algorithm among those chosen does what was chosen");
  Table table(subjects, survey_options);
  comm::SurveyNews news;
  news.finished = [&](const SurveyRow& row) { table.add(row); };
  news.progress = [&](std::int64_t done, std::int64_t all) { table.progress(done, all); };
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<SurveyRow> rows = survey(subjects, survey_options, news);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  table.clear_progress();
  if (json.is_open()) write_json(json, options.json_path, options, rows);
  return report(options, rows, table.left_some_out(), took.count());
}

}  // namespace

Command add_verify_command(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "verify", "Prove the schedules of all algorithms: right, free of deadlock and of races");
  const auto options = std::make_shared<VerifyOptions>();
  const auto world = CLI::Range(1, kWorldMax);
  app->add_option("--max-world", options->world_max, "Largest number of ranks")
      ->check(world)
      ->capture_default_str();
  app->add_option("--min-world", options->world_min, "Smallest number of ranks")
      ->check(world)
      ->capture_default_str();
  app->add_option("--algorithm", options->algorithms, "Only this one (may be repeated)");
  app->add_option("--collective", options->collectives, "Only this one (may be repeated)");
  app->add_option("--form", options->forms,
                  "Only forms with this in their name: messages, memory, scratch, everything, ...");
  app->add_option("--json", options->json_path, "Write the table to this file, too");
  app->add_option("--jobs", options->jobs, "Threads")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app->footer(
      "Each row is one algorithm and collective in one form: as messages, or lowered to memory "
      "that\n"
      "all ranks can reach (each other's scratch, or everything). Exit code: 0 all proved, 1\n"
      "something refuted, with the steps that break, 2 a wrong option.");
  return {app, [options] { return verify(*options); }, {}};
}

}  // namespace weft::launcher
