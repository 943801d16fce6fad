// Style as a failing test: the include law of the floors, and the file habits.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
const fs::path kRoot = WEFT_SOURCE_DIR;

struct Source {
  std::string path;  // relative to the root, with '/'
  std::vector<std::string> lines;
};

const std::vector<Source>& sources() {
  static const std::vector<Source> all = [] {
    std::vector<Source> found;
    for (const char* floor :
         {"kernels", "comm", "tensor", "launcher", "bench", "examples", "tests"}) {
      for (const auto& entry : fs::recursive_directory_iterator(kRoot / floor)) {
        const auto extension = entry.path().extension();
        if (!entry.is_regular_file()) continue;
        if (extension != ".h" && extension != ".cc" && extension != ".cu" && extension != ".cuh")
          continue;
        Source source{fs::relative(entry.path(), kRoot).generic_string(), {}};
        std::ifstream in(entry.path());
        for (std::string line; std::getline(in, line);) source.lines.push_back(line);
        found.push_back(std::move(source));
      }
    }
    return found;
  }();
  return all;
}

bool starts_with(const std::string& text, const std::string& prefix) {
  return text.rfind(prefix, 0) == 0;
}

// The room a file belongs to: the longest of these that its path starts with.
const std::vector<std::string> kRooms = {"kernels/base/",    "kernels/",
                                         "comm/schedule/",   "comm/algorithms/",
                                         "comm/passes/",     "comm/verify/",
                                         "comm/simulate/",   "comm/select/",
                                         "comm/transport/",  "comm/transport/cuda_ipc/",
                                         "comm/execute/",    "comm/rendezvous/",
                                         "comm/trace/",      "comm/",
                                         "tensor/parallel/", "tensor/",
                                         "launcher/",        "bench/",
                                         "examples/",        "tests/"};

std::string room_of(const std::string& path) {
  std::string best;
  for (const auto& room : kRooms) {
    if (starts_with(path, room) && room.size() > best.size()) best = room;
  }
  return best;
}

// Which rooms (or single headers) each room may include, itself apart.
const std::map<std::string, std::set<std::string>>& include_law() {
  static const std::set<std::string> kComm = {
      "kernels/base/",           "kernels/",     "comm/schedule/",
      "comm/algorithms/",        "comm/passes/", "comm/verify/",
      "comm/simulate/",          "comm/select/", "comm/transport/",
      "comm/execute/",           "comm/trace/",  "comm/rendezvous/",
      "comm/transport/cuda_ipc/"};
  static const std::set<std::string> kEverything = [] {
    std::set<std::string> all = kComm;
    all.insert({"comm/", "tensor/", "tensor/parallel/", "launcher/"});
    return all;
  }();
  static const auto with = [](std::set<std::string> base, std::initializer_list<std::string> more) {
    base.insert(more);
    return base;
  };
  static const std::map<std::string, std::set<std::string>> law = {
      {"kernels/base/", {}},
      {"kernels/", {"kernels/base/"}},
      {"comm/schedule/", {"kernels/base/", "kernels/"}},
      {"comm/algorithms/", {"kernels/base/", "comm/schedule/"}},
      {"comm/passes/", {"kernels/base/", "comm/schedule/"}},
      {"comm/verify/", {"kernels/base/", "comm/schedule/", "comm/algorithms/", "comm/passes/"}},
      {"comm/simulate/", {"kernels/base/", "comm/schedule/", "comm/algorithms/", "comm/passes/"}},
      {"comm/select/",
       {"kernels/base/", "comm/schedule/", "comm/algorithms/", "comm/passes/", "comm/simulate/"}},
      {"comm/transport/", {"kernels/base/"}},
      {"comm/transport/cuda_ipc/",
       {"kernels/base/", "kernels/cuda/runtime.h", "kernels/cuda/collective.h"}},
      {"comm/rendezvous/", {"kernels/base/"}},
      {"comm/trace/", {"kernels/base/", "comm/schedule/"}},
      {"comm/execute/",
       {"kernels/base/", "kernels/reduce.h", "kernels/wire.h", "kernels/cuda/collective.h",
        "comm/schedule/", "comm/transport/", "comm/trace/"}},
      {"comm/", kComm},
      {"tensor/", {"kernels/base/", "kernels/"}},
      {"tensor/parallel/",
       {"kernels/base/", "kernels/", "tensor/", "comm/communicator.h", "comm/cuda_communicator.h"}},
      {"launcher/", kEverything},
      {"bench/", with(kEverything, {"bench/"})},
      {"examples/", kEverything},
      {"tests/", with(kEverything, {"bench/", "tests/"})},
  };
  return law;
}

TEST(TidyTest, EveryIncludeKeepsTheLaw) {
  const std::regex include(R"re(^\s*#\s*include\s+"([^"]+)")re");
  for (const auto& source : sources()) {
    const auto room = room_of(source.path);
    const auto& allowed = include_law().at(room);
    for (std::size_t i = 0; i < source.lines.size(); ++i) {
      std::smatch match;
      if (!std::regex_search(source.lines[i], match, include)) continue;
      const std::string target = match[1];
      const auto target_room = room_of(target);
      if (target_room.empty() && starts_with(target, "hwy/"))
        continue;  // Highway's per-target headers
      if (target_room.empty() && target == "hardware.cuh")
        continue;  // of kernels/cuda/native or of tests/emulator/include, by the include path
      EXPECT_FALSE(target_room.empty()) << source.path << ":" << i + 1 << ": include \"" << target
                                        << "\" by its path from the root, or with <>";
      EXPECT_TRUE(target_room == room || allowed.count(target_room) || allowed.count(target))
          << source.path << ":" << i + 1 << ": " << room << " may not include " << target
          << " (the floors are in docs/architecture.md)";
    }
  }
}

TEST(TidyTest, FilesAreShortAndLinesAreNarrow) {
  constexpr std::size_t kLinesMax = 450;  // "about 400"
  constexpr std::size_t kColumnsMax = 100;
  for (const auto& source : sources()) {
    EXPECT_LE(source.lines.size(), kLinesMax)
        << source.path << " is long: would two files be clearer?";
    for (std::size_t i = 0; i < source.lines.size(); ++i) {
      std::size_t columns = 0;  // code points, so that pictures in UTF-8 count as drawn
      for (const unsigned char c : source.lines[i]) columns += (c & 0xC0) != 0x80;
      EXPECT_LE(columns, kColumnsMax) << source.path << ":" << i + 1;
      EXPECT_EQ(source.lines[i].find('\t'), std::string::npos)
          << source.path << ":" << i + 1 << ": a tab";
    }
  }
}

TEST(TidyTest, HeadersAreGuardedAndSayWhatTheyAreFor) {
  for (const auto& source : sources()) {
    if (!source.path.ends_with(".h") && !source.path.ends_with(".cuh")) continue;
    const bool guarded =
        std::find(source.lines.begin(), source.lines.end(), "#pragma once") != source.lines.end();
    // Highway includes -inl.h files once per target; they carry its toggle instead.
    EXPECT_TRUE(guarded || source.path.ends_with("-inl.h")) << source.path << ": no #pragma once";
    EXPECT_TRUE(!source.lines.empty() && starts_with(source.lines[0], "//"))
        << source.path << ": the first line says what the file is for";
  }
}

TEST(TidyTest, NothingIsLeftUnfinished) {
  // Spelled apart, so that this file does not find itself.
  const std::vector<std::string> marks = {std::string("TO") + "DO", std::string("FIX") + "ME",
                                          std::string("XX") + "X:", std::string("HA") + "CK:"};
  for (const auto& source : sources()) {
    for (std::size_t i = 0; i < source.lines.size(); ++i) {
      for (const auto& mark : marks) {
        EXPECT_EQ(source.lines[i].find(mark), std::string::npos) << source.path << ":" << i + 1;
      }
    }
  }
}

TEST(TidyTest, NoBackendHidesBehindThePreprocessor) {
  const std::regex hidden(R"re(^\s*#\s*if(def|ndef)?\b.*(WEFT_HAVE|WEFT_WITH|USE_CUDA))re");
  for (const auto& source : sources()) {
    for (std::size_t i = 0; i < source.lines.size(); ++i) {
      EXPECT_FALSE(std::regex_search(source.lines[i], hidden))
          << source.path << ":" << i + 1
          << ": a backend that is not built is a no_X.cc with the same names";
    }
  }
}

TEST(TidyTest, TestsDoNotSleep) {
  const std::regex sleep(R"re(\b(sleep_for|sleep_until|usleep|nanosleep)\s*\()re");
  for (const auto& source : sources()) {
    if (!starts_with(source.path, "tests/")) continue;
    for (std::size_t i = 0; i < source.lines.size(); ++i) {
      EXPECT_FALSE(std::regex_search(source.lines[i], sleep))
          << source.path << ":" << i + 1 << ": wait for the event, not for a time";
    }
  }
}

}  // namespace
