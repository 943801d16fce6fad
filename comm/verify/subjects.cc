// What `weft verify` and the tests prove: every algorithm, in every form in which it is run.
#include <fmt/format.h>

#include <array>
#include <numeric>
#include <string_view>

#include "comm/algorithms/algorithms.h"
#include "comm/passes/passes.h"
#include "comm/verify/survey.h"

namespace weft::comm {

namespace {

constexpr SurveyForm kForms[] = {
    {"messages", 1, false, 1, {}},
    {"messages, 3 tiles, fused, 2 lanes", 3, true, 2, {}},
    {"memory, scratch", 1, false, 1, Reach::scratch},
    {"memory, everything", 1, false, 1, Reach::everything},
};

// Algorithms whose schedules depend on who shares a host: they are proved for several layouts each.
constexpr std::array<std::string_view, 1> kAsksForHosts = {"hierarchical"};

bool asks_for_hosts(std::string_view algorithm) {
  for (const std::string_view name : kAsksForHosts) {
    if (name == algorithm) return true;
  }
  return false;
}

HostLayout layout(std::string name, const std::vector<int>& ranks_per_host) {
  auto map = std::make_shared<HostMap>();
  std::int32_t rank = 0;
  for (const int count : ranks_per_host) {
    std::vector<std::int32_t>& host = map->hosts.emplace_back();
    for (int i = 0; i < count; ++i) {
      map->host_of.push_back(static_cast<std::int32_t>(map->hosts.size()) - 1);
      host.push_back(rank++);
    }
  }
  return {std::move(name), std::move(map)};
}

// Rank r lives on host r modulo `hosts`: neighbours in number are not neighbours in place.
HostLayout dealt_out(int n, int hosts) {
  auto map = std::make_shared<HostMap>();
  map->hosts.resize(static_cast<std::size_t>(hosts));
  for (std::int32_t rank = 0; rank < n; ++rank) {
    map->host_of.push_back(rank % hosts);
    map->hosts[static_cast<std::size_t>(rank % hosts)].push_back(rank);
  }
  return {fmt::format("dealt out over {} hosts", hosts), std::move(map)};
}

}  // namespace

std::span<const SurveyForm> survey_forms() { return kForms; }

std::vector<HostLayout> host_layouts(int n) {
  std::vector<HostLayout> layouts = {layout("one host", {n})};
  if (n == 1) return layouts;
  layouts.push_back(layout("a host each", std::vector<int>(static_cast<std::size_t>(n), 1)));
  for (const int hosts : {2, 3}) {
    if (n >= 2 * hosts && n % hosts == 0) {
      layouts.push_back(layout(fmt::format("{} even hosts", hosts),
                               std::vector<int>(static_cast<std::size_t>(hosts), n / hosts)));
    }
  }
  if (n >= 3) {
    const int first = n - n / 3;
    layouts.push_back(layout("2 uneven hosts", {first, n - first}));
  }
  if (n >= 6) {
    layouts.push_back(layout("3 uneven hosts", {1, n / 2, n - 1 - n / 2}));
    layouts.push_back(dealt_out(n, 3));
  }
  return layouts;
}

std::vector<SurveySubject> survey_subjects() {
  std::vector<SurveySubject> subjects;
  for (const Algorithm& algorithm : algorithms()) {
    for (const SurveyForm& form : kForms) {
      SurveySubject& subject = subjects.emplace_back();
      subject.algorithm = algorithm.name;
      subject.form = form.name;
      subject.supports = algorithm.supports;
      subject.emit = [algorithm, form](const Problem& problem) {
        Schedule schedule = tile(algorithm.emit(problem), form.tiles);
        if (form.fused) schedule = fuse(schedule);
        return stripe(schedule, form.lanes);
      };
      subject.reach = form.reach;
      if (asks_for_hosts(algorithm.name)) subject.layouts = host_layouts;
    }
  }
  return subjects;
}

}  // namespace weft::comm
