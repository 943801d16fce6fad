#include "comm/verify/survey.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// 26 pairs of algorithm and collective in four forms each.
TEST(Survey, HasARowForEachAlgorithmCollectiveAndForm) {
  int seen = 0;
  std::int64_t done = 0;
  SurveyNews news;
  news.finished = [&](const SurveyRow& row) { seen += row.ok() ? 1 : 0; };
  news.progress = [&](std::int64_t now, std::int64_t all) {
    EXPECT_EQ(now, ++done);
    EXPECT_LE(now, all);
  };
  std::set<std::string> algorithms_seen;
  std::set<std::string> forms;
  const auto rows = survey(survey_subjects(), {1, 9, 3, {}}, news);
  EXPECT_EQ(seen, std::ssize(rows));
  for (const SurveyRow& row : rows) {
    algorithms_seen.insert(row.algorithm);
    forms.insert(row.form);
    EXPECT_GE(std::ssize(row.sizes), 1);
    EXPECT_GE(row.proofs, 2);
    EXPECT_EQ(row.counterexample, "") << row.algorithm;
  }
  EXPECT_EQ(algorithms_seen.size(), algorithms().size());
  EXPECT_THAT(forms, ElementsAre("memory, everything", "memory, scratch", "messages",
                                 "messages, 3 tiles, fused, 2 lanes"));
  std::size_t pairs = 0;
  for (const SurveySubject& subject : survey_subjects()) {
    for (const Collective collective : scheduled_collectives()) {
      pairs += survey_sizes(subject, collective, {1, 9, 1, {}}).empty() ? 0 : 1;
    }
  }
  EXPECT_EQ(rows.size(), pairs);
}

TEST(Survey, TheNumberOfThreadsChangesNothing) {
  SurveyOptions options{1, 12, 1, {Collective::all_gather, Collective::reduce}};
  const auto alone = survey(survey_subjects(), options);
  options.jobs = 4;
  const auto together = survey(survey_subjects(), options);
  ASSERT_EQ(alone.size(), together.size());
  for (std::size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(alone[i].algorithm, together[i].algorithm);
    EXPECT_EQ(alone[i].form, together[i].form);
    EXPECT_EQ(alone[i].sizes, together[i].sizes);
    EXPECT_EQ(alone[i].proofs, together[i].proofs);
    EXPECT_EQ(alone[i].steps, together[i].steps);
    EXPECT_EQ(alone[i].messages, together[i].messages);
  }
}

SurveySubject broken_ring(std::optional<Reach> reach) {
  SurveySubject subject;
  subject.algorithm = "broken";
  subject.form = "plain";
  subject.supports = [](const Problem& p) { return p.collective == Collective::all_gather; };
  subject.emit = [reach](const Problem& problem) {
    Schedule schedule = find_algorithm("ring")->emit(problem);
    if (problem.world_size == 5 && problem.rank == 3) {
      // A message that never comes, or the wrong block passed on.
      if (!reach) schedule.steps.pop_back();
      if (reach) schedule.steps[3].from.chunk = (schedule.steps[3].from.chunk + 1) % 5;
    }
    return schedule;
  };
  subject.reach = reach;
  return subject;
}

TEST(Survey, EndsARowAtACounterexample) {
  for (const int jobs : {1, 3}) {
    const SurveySubject broken = broken_ring({});
    const auto rows = survey({&broken, 1}, {1, 30, jobs, {}});
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_THAT(rows[0].sizes, ElementsAre(1, 2, 3, 4, 5));
    EXPECT_FALSE(rows[0].ok());
    EXPECT_THAT(rows[0].counterexample, HasSubstr("rank 2 step"));
  }
}

TEST(Survey, RefutesABrokenScheduleInItsLoweredForms) {
  for (const Reach reach : {Reach::scratch, Reach::everything}) {
    const SurveySubject broken = broken_ring(reach);
    const auto rows = survey({&broken, 1}, {1, 30, 1, {}});
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_THAT(rows[0].sizes, ElementsAre(1, 2, 3, 4, 5));
    EXPECT_THAT(rows[0].counterexample, HasSubstr("all_gather by ring through"));
  }
}

// What cannot even be lowered is refuted like the rest.
TEST(Survey, SaysWhatCannotBeLowered) {
  SurveySubject broken = broken_ring({});
  broken.reach = Reach::scratch;
  const auto rows = survey({&broken, 1}, {5, 5, 1, {}});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_FALSE(rows[0].ok()) << "the receive that is missing leaves a block unwritten";
}

TEST(Survey, ProvesEveryLayoutOfHosts) {
  std::set<std::size_t> hosts;
  SurveySubject subject;
  subject.algorithm = "grouped";
  subject.form = "messages";
  subject.supports = [](const Problem& problem) {
    return problem.collective == Collective::all_reduce && problem.hosts != nullptr;
  };
  subject.emit = [&](const Problem& problem) {
    hosts.insert(problem.hosts->hosts.size());
    Schedule schedule = find_algorithm("ring")->emit(problem);
    if (problem.hosts->hosts.size() == 3 && problem.world_size == 7) schedule.steps.pop_back();
    return schedule;
  };
  subject.layouts = host_layouts;
  const auto rows = survey({&subject, 1}, {6, 7, 1, {}});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_THAT(hosts, ElementsAre(1, 2, 3, 6, 7));
  EXPECT_THAT(rows[0].sizes, ElementsAre(6, 7));
  EXPECT_THAT(rows[0].counterexample, HasSubstr("(hosts: 3 uneven hosts)"));
}

TEST(Survey, LayoutsPlaceEveryRankOnce) {
  for (int n = 1; n <= 20; ++n) {
    for (const HostLayout& layout : host_layouts(n)) {
      std::vector<int> seen(static_cast<std::size_t>(n), 0);
      ASSERT_EQ(std::ssize(layout.hosts->host_of), n) << layout.name;
      for (std::size_t host = 0; host < layout.hosts->hosts.size(); ++host) {
        EXPECT_FALSE(layout.hosts->hosts[host].empty()) << layout.name << " of " << n;
        for (const std::int32_t rank : layout.hosts->hosts[host]) {
          ++seen[static_cast<std::size_t>(rank)];
          EXPECT_EQ(layout.hosts->host_of[static_cast<std::size_t>(rank)],
                    static_cast<std::int32_t>(host));
        }
      }
      EXPECT_EQ(std::ranges::count(seen, 1), n) << layout.name;
    }
  }
}

// Above 64 ranks all of them where the work is linear, and some where it is not.
TEST(Survey, ChoosesSizes) {
  const auto sizes = [](const char* algorithm, const char* form, Collective collective) {
    for (const SurveySubject& subject : survey_subjects()) {
      if (subject.algorithm == algorithm && subject.form == form) {
        return text_of_sizes(survey_sizes(subject, collective, {1, 300, 1, {}}));
      }
    }
    return std::string("no such subject");
  };
  const std::string some = "1-65, 96, 127-129, 192, 255-257";
  EXPECT_EQ(sizes("tree", "messages", Collective::all_reduce), "1-300");
  EXPECT_EQ(sizes("tree", "messages, 3 tiles, fused, 2 lanes", Collective::all_reduce), "1-300");
  EXPECT_EQ(sizes("direct", "memory, scratch", Collective::broadcast), "1-300");
  EXPECT_EQ(sizes("ring", "memory, scratch", Collective::reduce), "1-300");
  EXPECT_EQ(sizes("direct", "messages", Collective::all_reduce), some);
  EXPECT_EQ(sizes("two_shot", "memory, everything", Collective::all_reduce), some);
  EXPECT_EQ(sizes("ring", "messages", Collective::all_gather), some);
  EXPECT_EQ(sizes("two_shot", "messages", Collective::all_gather), "");
}

TEST(Survey, NamesSizesInRuns) {
  EXPECT_EQ(text_of_sizes(std::vector<int>{}), "");
  EXPECT_EQ(text_of_sizes(std::vector<int>{3}), "3");
  EXPECT_EQ(text_of_sizes(std::vector<int>{1, 2, 5, 6, 7, 9}), "1, 2, 5-7, 9");
}

}  // namespace
}  // namespace weft::comm
