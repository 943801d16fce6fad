// Proofs in bulk: a table of what has been proved, for `weft verify` and the tests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/schedule/host_map.h"
#include "comm/schedule/memory_schedule.h"
#include "comm/schedule/schedule.h"

namespace weft::comm {

// Who shares a host with whom, and what to call that.
struct HostLayout {
  std::string name;  // "2 hosts"
  std::shared_ptr<const HostMap> hosts;
};

// One way of making schedules: an algorithm, the passes its schedules went through, and whether
// they were lowered to memory after that.
struct SurveySubject {
  std::string algorithm;
  std::string form;  // "messages, 3 tiles, fused, 2 lanes", as the table should call it
  std::function<bool(const Problem&)> supports;
  std::function<Schedule(const Problem&)> emit;
  std::optional<Reach> reach = {};  // given: what emit() makes is lowered, with this reach
  // For algorithms that ask who shares a host: the layouts to prove for n ranks. Empty: none known.
  std::function<std::vector<HostLayout>(int n)> layouts = {};
};

struct SurveyOptions {
  int world_size_min = 1;
  int world_size_max = 64;
  int jobs = 1;                              // threads
  std::vector<Collective> collectives = {};  // empty: all
};

// All world sizes of one subject and collective. Message schedules are proved over links that hold
// nothing (what is free of deadlock there is so over any), all in place and not; rooted collectives
// for the first, the middle and the last root; with layouts, each of them.
struct SurveyRow {
  std::string algorithm;
  std::string form;
  Collective collective = Collective::all_reduce;
  std::vector<int> sizes;  // world sizes that were looked at, ascending
  std::int64_t proofs = 0;
  std::int64_t steps = 0;      // of all ranks, over all proofs
  std::int64_t messages = 0;   // the same; of memory schedules: awaits
  std::string counterexample;  // of the first proof that failed, at which the row ends; else empty
  bool ok() const { return counterexample.empty(); }
};

// What survey() tells while it runs, one call at a time, from any of its threads.
struct SurveyNews {
  std::function<void(const SurveyRow&)> finished = {};  // each row, in their order
  std::function<void(std::int64_t done, std::int64_t all)> progress = {};  // in worlds
};

// One row for each collective that a subject supports somewhere in the range, in the order of
// subjects. Every world size is proved up to kEverySize; above it, every one where the work grows
// like the ranks (trees, and what goes to or from a root), and the sizes of survey_sizes() where it
// grows with their square.
std::vector<SurveyRow> survey(std::span<const SurveySubject> subjects, const SurveyOptions& options,
                              const SurveyNews& news = {});

inline constexpr int kEverySize = 64;
std::vector<int> survey_sizes(const SurveySubject& subject, Collective collective,
                              const SurveyOptions& options);

// The forms in which every algorithm is proved, and the subjects of all algorithms in all forms.
struct SurveyForm {
  const char* name;
  int tiles;
  bool fused;
  int lanes;
  std::optional<Reach> reach;
};
std::span<const SurveyForm> survey_forms();
std::vector<SurveySubject> survey_subjects();

// One host, a host a rank, even and uneven ones.
std::vector<HostLayout> host_layouts(int n);

// "1-64, 127, 128"
std::string text_of_sizes(std::span<const int> sizes);

}  // namespace weft::comm
