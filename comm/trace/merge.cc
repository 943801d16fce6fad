#include "comm/trace/merge.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <utility>

#include "comm/trace/fields.h"
#include "comm/trace/merge_output.h"

namespace weft::comm::trace {

namespace {

namespace fs = std::filesystem;

std::vector<std::string> find_files(const std::vector<std::string>& inputs) {
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    std::error_code error;
    if (!fs::is_directory(input, error)) {
      files.push_back(input);
      continue;
    }
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(input, error)) {
      const std::string name = entry.path().filename().string();
      if (name.rfind("timeline.", 0) == 0 && name.ends_with(".json")) {
        found.push_back(entry.path().string());
      }
    }
    if (error) fail<IoError>("{}: cannot list it: {}", input, error.message());
    if (found.empty()) {
      fail<InvalidArgument>(
          "{}: no timeline.*.json in it; run the job with WEFT_TIMELINE={} (or "
          "weft run --timeline {})",
          input, input, input);
    }
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

// The files of one job, those of the lowest rank first.
std::vector<TimelineHead> read_heads(std::vector<std::string>& files, const std::string& job) {
  std::vector<std::pair<TimelineHead, std::string>> all;
  std::set<std::string> jobs;
  for (const std::string& file : files) {
    const TimelineReader reader(file);
    if (!job.empty() && reader.head().identity.job != job) continue;
    jobs.insert(reader.head().identity.job);
    all.emplace_back(reader.head(), file);
  }
  if (all.empty()) fail<InvalidArgument>("none of these timelines is of the job '{}'", job);
  if (jobs.size() > 1) {
    std::string text;
    for (const std::string& one : jobs) text += (text.empty() ? "'" : ", '") + one + "'";
    fail<InvalidArgument>("these timelines are of several jobs: {}; choose one with --job", text);
  }
  const auto key = [](const TimelineHead& head) {
    return std::make_tuple(head.identity.job_rank, head.pid, head.number);
  };
  std::sort(all.begin(), all.end(),
            [&](const auto& a, const auto& b) { return key(a.first) < key(b.first); });
  std::vector<TimelineHead> heads;
  files.clear();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i > 0 && key(all[i].first) == key(all[i - 1].first)) {
      fail<InvalidArgument>("{} and {} are the same timeline; give one of them", files.back(),
                            all[i].second);
    }
    heads.push_back(all[i].first);
    files.push_back(all[i].second);
  }
  return heads;
}

const char* name_of(ClockMap::Source source) {
  switch (source) {
    case ClockMap::Source::reference:
      return "reference";
    case ClockMap::Source::measured:
      return "measured";
    case ClockMap::Source::wall_clock:
      break;
  }
  return "wall_clock";
}

std::map<std::string, ClockMap> map_clocks(const std::vector<TimelineHead>& heads) {
  std::map<std::string, std::vector<ClockPoint>> points;
  std::map<std::string, std::int64_t> wall;  // epoch - monotonic
  for (const TimelineHead& head : heads) {
    auto& mine = points[head.clock_id];
    mine.insert(mine.end(), head.clock.begin(), head.clock.end());
    wall.emplace(head.clock_id, head.base_epoch_ns - head.base_monotonic_ns);
  }
  const std::string& reference = heads.front().clock_id;
  std::map<std::string, ClockMap> maps;
  for (auto& [id, measured] : points) {
    if (id == reference) {
      maps.emplace(id, ClockMap(ClockMap::Source::reference, {}));
    } else if (!measured.empty() && heads.front().identity.job_rank == 0) {
      maps.emplace(id, ClockMap(ClockMap::Source::measured, std::move(measured)));
    } else {
      maps.emplace(
          id, ClockMap(ClockMap::Source::wall_clock, {{0, wall.at(id) - wall.at(reference), 0}}));
    }
  }
  return maps;
}

std::string describe(const std::string& host, const ClockMap& map) {
  switch (map.source()) {
    case ClockMap::Source::reference:
      return fmt::format("{}: the reference", host);
    case ClockMap::Source::measured: {
      const ClockPoint& first = map.points().front();
      const ClockPoint& last = map.points().back();
      std::string text = fmt::format("{}: {:+.3f} ms, +-{:.3f} ms", host,
                                     static_cast<double>(-first.offset_ns) / 1e6,
                                     static_cast<double>(map.uncertainty_ns()) / 1e6);
      if (map.points().size() < 2) return text + ", measured once";
      return text + fmt::format(", drifting by {:+.3f} ms in {:.1f} s",
                                static_cast<double>(first.offset_ns - last.offset_ns) / 1e6,
                                static_cast<double>(last.at_ns - first.at_ns) / 1e9);
    }
    case ClockMap::Source::wall_clock:
      break;
  }
  return fmt::format("{}: not measured; by its wall clock, which may be milliseconds off", host);
}

}  // namespace

void ClockMap::set_points(std::vector<ClockPoint> points) {
  points_ = std::move(points);
  std::stable_sort(points_.begin(), points_.end(),
                   [](const ClockPoint& a, const ClockPoint& b) { return a.at_ns < b.at_ns; });
  const auto same = [](const ClockPoint& a, const ClockPoint& b) { return a.at_ns == b.at_ns; };
  points_.erase(std::unique(points_.begin(), points_.end(), same), points_.end());
}

std::int64_t ClockMap::to_reference(std::int64_t monotonic_ns) const {
  if (points_.empty()) return monotonic_ns;
  if (points_.size() == 1) return monotonic_ns + points_.front().offset_ns;
  std::size_t k = 1;
  while (k + 1 < points_.size() && points_[k].at_ns < monotonic_ns) ++k;
  const ClockPoint& before = points_[k - 1];
  const ClockPoint& after = points_[k];
  constexpr double kDriftMost = 0.01;  // no clock is as bad; measurements nanoseconds apart are
  const double slope = std::clamp(static_cast<double>(after.offset_ns - before.offset_ns) /
                                      static_cast<double>(after.at_ns - before.at_ns),
                                  -kDriftMost, kDriftMost);
  const double since = static_cast<double>(monotonic_ns - before.at_ns);
  return monotonic_ns + before.offset_ns + static_cast<std::int64_t>(std::llround(slope * since));
}

std::int64_t ClockMap::uncertainty_ns() const {
  std::int64_t most = 0;
  for (const ClockPoint& point : points_) most = std::max(most, point.uncertainty_ns);
  return most;
}

MergeReport merge_timelines(const MergeOptions& options) {
  std::vector<std::string> files = find_files(options.inputs);
  const std::vector<TimelineHead> heads = read_heads(files, options.job);
  const std::map<std::string, ClockMap> clocks = map_clocks(heads);
  MergeReport report;
  report.files = static_cast<int>(files.size());
  std::set<std::pair<int, std::int64_t>> processes;
  std::set<std::string> told;
  std::int64_t base = std::numeric_limits<std::int64_t>::max();
  for (const TimelineHead& head : heads) {
    const ClockMap& clock = clocks.at(head.clock_id);
    base = std::min(base, clock.to_reference(head.base_monotonic_ns));
    report.dropped += head.dropped;
    processes.insert({head.identity.job_rank, head.pid});
    if (told.insert(head.clock_id).second) {
      report.clocks.push_back(describe(head.identity.host, clock));
    }
  }
  report.ranks = static_cast<int>(processes.size());

  for (const std::string& file : files) {
    std::error_code error;
    if (std::filesystem::equivalent(file, options.output, error)) {
      fail<InvalidArgument>("{}: is to be read and written; give the output another name", file);
    }
  }
  MergeOutput output(options.output, base);
  // First all sends, so that receives find them.
  for (std::size_t i = 0; i < files.size(); ++i) {
    TimelineReader reader(files[i]);
    TimelineEvent event;
    while (reader.next(event)) output.learn(heads[i], event);
  }
  std::string clock_text;
  for (const TimelineHead& head : heads) {
    const ClockMap& clock = clocks.at(head.clock_id);
    clock_text += fmt::format(
        R"({}{{"rank":{},"pid":{},"host":{},"source":"{}","offset_ns":{},"uncertainty_ns":{}}})",
        clock_text.empty() ? "" : ",", head.identity.job_rank, head.pid,
        json_text(head.identity.host), name_of(clock.source()),
        clock.to_reference(head.base_monotonic_ns) - head.base_monotonic_ns,
        clock.uncertainty_ns());
  }
  output.begin(fmt::format(R"("weft_merged":{{"version":1,"job":{},"dropped":{},"clocks":[{}]}})",
                           json_text(heads.front().identity.job), report.dropped, clock_text));
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto first = processes.begin();
    const auto process =
        std::distance(first, processes.find({heads[i].identity.job_rank, heads[i].pid}));
    TimelineReader reader(files[i]);
    TimelineEvent event;
    while (reader.next(event)) {
      output.add(heads[i], clocks.at(heads[i].clock_id), static_cast<int>(process), event);
    }
  }
  output.finish();
  report.events = output.events();
  report.arrows = output.arrows();
  return report;
}

}  // namespace weft::comm::trace
