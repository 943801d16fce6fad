#include "comm/verify/survey.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <iterator>
#include <mutex>
#include <set>
#include <thread>

#include "comm/passes/lower.h"
#include "comm/verify/verify.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

// An ordinary rank that touches more chunks than this does so because its work grows with the
// number of ranks, and that of all of them with its square.
constexpr std::int64_t kLinearChunksMax = 48;

// Above it, where the work grows with the square, a proof takes a GiB and more.
constexpr int kManyRanks = 256;

std::set<int> roots_of(Collective collective, int n) {
  if (!is_rooted(collective)) return {0};
  return {0, n / 2, n - 1};
}

std::vector<HostLayout> layouts_of(const SurveySubject& subject, int n) {
  if (!subject.layouts) return {{"", nullptr}};
  return subject.layouts(n);
}

// The proofs of one world size.
struct Worlds {
  bool supported = false;
  std::int64_t proofs = 0;
  std::int64_t steps = 0;
  std::int64_t messages = 0;
  std::string counterexample;
};

void add(const Proof& proof, Worlds& worlds) {
  ++worlds.proofs;
  worlds.steps += proof.steps;
  worlds.messages += proof.messages;
  worlds.counterexample = proof.counterexample;
}

void prove(const SurveySubject& subject, const Problem& problem, Worlds& worlds) {
  std::vector<Schedule> schedules;
  schedules.reserve(static_cast<std::size_t>(problem.world_size));
  for (Problem rank = problem; rank.rank < problem.world_size; ++rank.rank) {
    schedules.push_back(subject.emit(rank));
  }
  std::vector<MemorySchedule> lowered;
  if (subject.reach) {
    lowered = lower(schedules, *subject.reach);
    schedules = {};
  }
  for (const bool in_place : {false, true}) {
    add(subject.reach ? verify(lowered, in_place) : verify(schedules, {0, in_place}), worlds);
    if (!worlds.counterexample.empty()) return;
  }
}

Worlds prove_size(const SurveySubject& subject, Collective collective, int n) {
  Worlds worlds;
  for (const HostLayout& layout : layouts_of(subject, n)) {
    if (!subject.supports({collective, 0, n, 0, layout.hosts})) continue;
    worlds.supported = true;
    for (const int root : roots_of(collective, n)) {
      try {
        prove(subject, {collective, 0, n, root, layout.hosts}, worlds);
      } catch (const std::exception& error) {
        worlds.counterexample = error.what();
      }
      if (worlds.counterexample.empty()) continue;
      if (is_rooted(collective)) worlds.counterexample += fmt::format("\n  (root {})", root);
      if (layout.hosts) worlds.counterexample += fmt::format("\n  (hosts: {})", layout.name);
      return worlds;
    }
  }
  return worlds;
}

bool supports(const SurveySubject& subject, Collective collective, int n) {
  return std::ranges::any_of(layouts_of(subject, n), [&](const HostLayout& layout) {
    return subject.supports({collective, 0, n, 0, layout.hosts});
  });
}

// Whether the work of all ranks grows like their number, judged by an ordinary rank.
bool is_linear(const SurveySubject& subject, Collective collective, int n) {
  for (const HostLayout& layout : layouts_of(subject, n)) {
    const Problem problem{collective, n / 3, n, 0, layout.hosts};
    if (!subject.supports(problem)) continue;
    const Schedule schedule = subject.emit(problem);
    std::int64_t chunks = 0;
    for (const Step& step : schedule.steps) {
      chunks += std::max<std::int64_t>(step.from.count, step.to.count);
      for (const Slice& operand : step.operands) chunks += operand.count;
    }
    const int tiles = std::max(1, schedule.chunks_per_block);
    if (chunks > kLinearChunksMax * std::min(tiles, 8)) return false;
  }
  return true;
}

// Hands (row, size) pairs to threads and gathers what they find.
class Survey {
 public:
  Survey(std::span<const SurveySubject> subjects, const SurveyOptions& options,
         const SurveyNews& news)
      : news_(news) {
    for (const SurveySubject& subject : subjects) {
      for (int c = 0; c < kScheduledCollectives; ++c) {
        const auto collective = static_cast<Collective>(c);
        const auto& asked = options.collectives;
        if (!asked.empty() && std::ranges::count(asked, collective) == 0) continue;
        const std::vector<int> sizes = survey_sizes(subject, collective, options);
        if (sizes.empty()) continue;
        const bool linear = is_linear(subject, collective, sizes.back());
        for (const int n : sizes) tasks_.push_back({rows_.size(), n, !linear && n > kManyRanks});
        Part& part = rows_.emplace_back();
        part.subject = &subject;
        part.row.algorithm = subject.algorithm;
        part.row.form = subject.form;
        part.row.collective = collective;
        part.open = sizes.size();
      }
    }
  }

  std::vector<SurveyRow> run(int jobs) {
    std::vector<std::jthread> threads;
    for (int i = 1; i < jobs; ++i) threads.emplace_back([this] { work(); });
    work();
    threads.clear();  // joins them
    std::vector<SurveyRow> rows;
    for (Part& part : rows_) rows.push_back(std::move(part.row));
    return rows;
  }

 private:
  struct Task {
    std::size_t row;
    int n;
    bool large;
  };
  struct Part {
    const SurveySubject* subject = nullptr;
    SurveyRow row;
    std::size_t open = 0;  // sizes to come
    int failed_at = 0;     // 0: nowhere yet
    std::vector<std::pair<int, Worlds>> found;
  };

  void work() {
    for (std::size_t i = next_++; i < tasks_.size(); i = next_++) {
      const Task task = tasks_[i];
      Part& part = rows_[task.row];
      bool skip = false;
      {
        const std::lock_guard lock(mutex_);
        skip = part.failed_at != 0 && part.failed_at < task.n;
      }
      Worlds worlds;
      {
        // Proofs that take much memory go one by one.
        std::unique_lock one(large_, std::defer_lock);
        if (task.large) one.lock();
        if (!skip) worlds = prove_size(*part.subject, part.row.collective, task.n);
      }
      const std::lock_guard lock(mutex_);
      if (!worlds.counterexample.empty()) part.failed_at = task.n;
      if (!skip) part.found.emplace_back(task.n, std::move(worlds));
      --part.open;
      if (news_.progress) news_.progress(++done_, std::ssize(tasks_));
      report_rows();
    }
  }

  // With the mutex: rows that are complete, and all before them.
  void report_rows() {
    for (; reported_ < rows_.size() && rows_[reported_].open == 0; ++reported_) {
      Part& part = rows_[reported_];
      std::ranges::sort(part.found, {}, &std::pair<int, Worlds>::first);
      for (auto& [n, worlds] : part.found) {
        part.row.sizes.push_back(n);
        part.row.proofs += worlds.proofs;
        part.row.steps += worlds.steps;
        part.row.messages += worlds.messages;
        part.row.counterexample = std::move(worlds.counterexample);
        if (!part.row.ok()) break;
      }
      if (news_.finished) news_.finished(part.row);
    }
  }

  const SurveyNews& news_;
  std::vector<Part> rows_;
  std::vector<Task> tasks_;
  std::atomic<std::size_t> next_ = 0;
  std::mutex mutex_;
  std::mutex large_;
  std::int64_t done_ = 0;
  std::size_t reported_ = 0;
};

}  // namespace

std::vector<int> survey_sizes(const SurveySubject& subject, Collective collective,
                              const SurveyOptions& options) {
  // Powers of two, their neighbours, and some with odd factors.
  static constexpr int kSome[] = {65,  96,  127, 128, 129, 192,  255, 256,
                                  257, 384, 511, 512, 768, 1023, 1024};
  std::vector<int> sizes;
  const int every = std::min(kEverySize, options.world_size_max);
  for (int n = options.world_size_min; n <= every; ++n) sizes.push_back(n);
  if (options.world_size_max > kEverySize) {
    const bool all = is_linear(subject, collective, options.world_size_max);
    const int first = std::max(options.world_size_min, kEverySize + 1);
    for (int n = first; n <= options.world_size_max; ++n) {
      if (all || std::ranges::count(kSome, n) > 0) sizes.push_back(n);
    }
  }
  std::erase_if(sizes, [&](int n) { return !supports(subject, collective, n); });
  return sizes;
}

std::vector<SurveyRow> survey(std::span<const SurveySubject> subjects, const SurveyOptions& options,
                              const SurveyNews& news) {
  WEFT_ASSERT(options.world_size_min >= 1, "a world has at least one rank");
  WEFT_ASSERT(options.jobs >= 1, "somebody has to do it");
  return Survey(subjects, options, news).run(options.jobs);
}

std::string text_of_sizes(std::span<const int> sizes) {
  std::string text;
  for (std::size_t i = 0; i < sizes.size();) {
    std::size_t end = i + 1;
    while (end < sizes.size() && sizes[end] == sizes[end - 1] + 1) ++end;
    if (!text.empty()) text += ", ";
    fmt::format_to(std::back_inserter(text), "{}", sizes[i]);
    // Two neighbours read better apart.
    if (end - i > 2) fmt::format_to(std::back_inserter(text), "-{}", sizes[end - 1]);
    if (end - i == 2) fmt::format_to(std::back_inserter(text), ", {}", sizes[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace weft::comm
