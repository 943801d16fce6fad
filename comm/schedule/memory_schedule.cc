#include "comm/schedule/memory_schedule.h"

#include <fmt/format.h>

#include <iterator>

namespace weft::comm {

namespace {

std::string text_of(const std::vector<Location>& locations) {
  std::string text;
  for (const Location& at : locations) {
    fmt::format_to(std::back_inserter(text), " {}:{}", at.rank, print(at.slice));
  }
  return text;
}

}  // namespace

std::string print(const MemoryStep& step, StepId id) {
  switch (step.kind) {
    case MemoryStepKind::publish:
      return fmt::format("{} publish {}", id, step.stage);
    case MemoryStepKind::await:
      return fmt::format("{} await {} stage {}", id, step.peer, step.stage);
    case MemoryStepKind::move:
      return fmt::format("{} move{} ->{}{}", id, text_of(step.sources), text_of(step.targets),
                         step.completes ? " completes" : "");
  }
  return fmt::format("{} unknown step", id);
}

std::string print(const MemorySchedule& schedule) {
  const Problem& problem = schedule.problem;
  std::string text =
      fmt::format("{} by {} through {}, rank {} of {}", name_of(problem.collective),
                  schedule.algorithm, name_of(schedule.reach), problem.rank, problem.world_size);
  if (is_rooted(problem.collective)) text += fmt::format(", root {}", problem.root);
  const auto rank = static_cast<std::size_t>(problem.rank);
  const bool known = schedule.scratch != nullptr && rank < schedule.scratch->size();
  text += fmt::format(": {} chunks a block, {} scratch chunks\n", schedule.chunks_per_block,
                      known ? (*schedule.scratch)[rank].size() : 0);
  StepId id = 0;
  for (const MemoryStep& step : schedule.steps) {
    text += print(step, id++);
    text += '\n';
  }
  return text;
}

const char* name_of(Reach reach) { return reach == Reach::scratch ? "scratch" : "everything"; }

}  // namespace weft::comm
