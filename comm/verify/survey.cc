#include "comm/verify/survey.h"

#include <set>

#include "comm/verify/verify.h"
#include "kernels/base/check.h"

namespace weft::comm {

namespace {

std::set<int> roots_of(Collective collective, int n) {
  if (!is_rooted(collective)) return {0};
  return {0, n / 2, n - 1};
}

// Whether all proofs of this world hold; counts them in the row.
bool prove_world(const SurveySubject& subject, const Problem& problem, SurveyRow& row) {
  std::vector<Schedule> schedules;
  for (Problem rank = problem; rank.rank < problem.world_size; ++rank.rank) {
    schedules.push_back(subject.emit(rank));
  }
  for (const bool in_place : {false, true}) {
    const Proof proof = verify(schedules, {0, in_place});
    ++row.proofs;
    row.steps += proof.steps;
    row.messages += proof.messages;
    row.counterexample = proof.counterexample;
    if (!proof.ok) return false;
  }
  return true;
}

SurveyRow prove_row(const SurveySubject& subject, Collective collective,
                    const SurveyOptions& options) {
  SurveyRow row;
  row.algorithm = subject.algorithm;
  row.variant = subject.variant;
  row.collective = collective;
  for (int n = options.world_size_min; n <= options.world_size_max; ++n) {
    if (!subject.supports({collective, 0, n, 0})) continue;
    ++row.worlds;
    for (const int root : roots_of(collective, n)) {
      if (!prove_world(subject, {collective, 0, n, root}, row)) return row;
    }
  }
  return row;
}

}  // namespace

std::vector<SurveyRow> survey(std::span<const SurveySubject> subjects, const SurveyOptions& options,
                              const std::function<void(const SurveyRow&)>& finished) {
  WEFT_ASSERT(options.world_size_min >= 1, "a world has at least one rank");
  std::vector<SurveyRow> rows;
  for (const SurveySubject& subject : subjects) {
    for (int c = 0; c < kScheduledCollectives; ++c) {
      SurveyRow row = prove_row(subject, static_cast<Collective>(c), options);
      if (row.worlds == 0) continue;
      if (finished) finished(row);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace weft::comm
