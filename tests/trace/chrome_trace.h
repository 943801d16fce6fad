// Reads a merged timeline as Perfetto would, and checks what must hold of any.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/trace/files.h"

namespace weft::test {

struct ChromeSlice {
  std::string name;
  std::string category;
  double begin = 0;  // microseconds
  double end = 0;
  nlohmann::json arguments;
};

struct ChromeTrace {
  nlohmann::json head;  // what is not an event
  std::map<int, std::string> processes;
  std::map<std::pair<int, std::int64_t>, std::string> threads;
  std::map<std::pair<int, std::int64_t>, std::vector<ChromeSlice>> slices;
  int operations = 0;
  std::map<std::int64_t, std::pair<double, double>> arrows;  // from, to

  int count(int process, const std::string& category, const std::string& name = {}) const {
    int number = 0;
    for (const auto& [track, all] : slices) {
      for (const ChromeSlice& slice : all) {
        const bool named = name.empty() || slice.name == name;
        number += track.first == process && slice.category == category && named ? 1 : 0;
      }
    }
    return number;
  }
};

inline void expect_nested(std::vector<ChromeSlice> slices, const std::string& track) {
  std::sort(slices.begin(), slices.end(), [](const ChromeSlice& a, const ChromeSlice& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
  constexpr double kRounding = 0.0015;  // microseconds
  std::vector<ChromeSlice> open;
  for (const ChromeSlice& slice : slices) {
    while (!open.empty() && open.back().end <= slice.begin + kRounding) open.pop_back();
    if (!open.empty()) {
      EXPECT_LE(slice.end, open.back().end + kRounding)
          << track << ": " << slice.name << " at " << slice.begin << " sticks out of "
          << open.back().name << " at " << open.back().begin;
    }
    open.push_back(slice);
  }
}

// Names, slices that nest, operations that begin and end once, arrows with both ends inside slices.
inline ChromeTrace read_chrome_trace(const std::string& path) {
  ChromeTrace trace;
  nlohmann::json json = json_of(path);
  const nlohmann::json events = json.at("traceEvents");
  json.erase("traceEvents");
  trace.head = json;
  std::map<std::string, double> open;
  std::map<std::int64_t, std::set<std::string>> ends;
  for (const nlohmann::json& event : events) {
    const std::string phase = event.at("ph");
    const std::string name = event.at("name");
    const int process = event.at("pid");
    const std::int64_t thread = event.value("tid", std::int64_t{0});
    if (phase == "M") {
      if (name == "process_name") trace.processes[process] = event.at("args").at("name");
      if (name == "thread_name") trace.threads[{process, thread}] = event.at("args").at("name");
      continue;
    }
    const double at = event.at("ts");
    if (phase == "X") {
      const double length = event.at("dur");
      EXPECT_GE(length, 0);
      trace.slices[{process, thread}].push_back(
          {name, event.at("cat"), at, at + length, event.value("args", nlohmann::json::object())});
    } else if (phase == "b") {
      EXPECT_TRUE(open.emplace(event.at("id"), at).second) << event;
    } else if (phase == "e") {
      EXPECT_EQ(open.count(event.at("id")), 1u) << event;
      EXPECT_LE(open[event.at("id")], at);
      open.erase(event.at("id"));
      ++trace.operations;
    } else if (phase == "s" || phase == "f") {
      const std::int64_t id = event.at("id");
      EXPECT_TRUE(ends[id].insert(phase).second) << "two ends " << event;
      (phase == "s" ? trace.arrows[id].first : trace.arrows[id].second) = at;
      bool inside = false;
      for (const ChromeSlice& slice : trace.slices[{process, thread}]) {
        inside = inside || (slice.begin <= at + 0.001 && at <= slice.end + 0.001);
      }
      EXPECT_TRUE(inside) << event << " points at nothing";
    } else {
      ADD_FAILURE() << "phase " << phase;
    }
  }
  EXPECT_TRUE(open.empty()) << open.size() << " operations never end";
  for (const auto& [id, both] : ends) EXPECT_EQ(both.size(), 2u) << "arrow " << id;
  for (const auto& [track, slices] : trace.slices) {
    EXPECT_EQ(trace.threads.count(track), 1u) << track.first << "/" << track.second << " no name";
    EXPECT_EQ(trace.processes.count(track.first), 1u);
    expect_nested(slices, trace.threads[track]);
  }
  return trace;
}

}  // namespace weft::test
