// Two steps of a rank that touch the same cell, one of them writing, must be ordered by `after`,
// whatever the links do. It is enough to look at neighbours: each read after the last write before
// it, each write after the reads since the last write, or after that write if there are none.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "comm/schedule/cells.h"
#include "comm/verify/world.h"

namespace weft::comm {

namespace {

class HazardCheck {
 public:
  HazardCheck(const World& world, std::int32_t rank)
      : world_(world),
        schedule_(world.schedule(rank)),
        rank_(rank),
        map_(schedule_, world.options.in_place),
        cells_(static_cast<std::size_t>(map_.size())),
        direct_(schedule_.steps.size(), -1),
        reached_(schedule_.steps.size(), -1) {}

  void run() {
    for (StepId id = 0; id < std::ssize(schedule_.steps); ++id) {
      const Step& step = schedule_.steps[static_cast<std::size_t>(id)];
      for (const StepId before : step.after) direct_[static_cast<std::size_t>(before)] = id;
      for_each_access(map_, step, [&](std::int32_t index, bool writes) {
        const Cell& cell = cells_[static_cast<std::size_t>(index)];
        if (!writes || cell.readers < 0) return need(cell.writer, id);
        for (std::int32_t r = cell.readers; r >= 0;
             r = readers_[static_cast<std::size_t>(r)].next) {
          need(readers_[static_cast<std::size_t>(r)].step, id);
        }
      });
      for_each_access(map_, step, [&](std::int32_t index, bool writes) {
        Cell& cell = cells_[static_cast<std::size_t>(index)];
        if (writes) {
          cell = {id, -1};
        } else {
          readers_.push_back({id, cell.readers});
          cell.readers = static_cast<std::int32_t>(readers_.size()) - 1;
        }
      });
    }
  }

 private:
  struct Cell {
    StepId writer = -1;
    std::int32_t readers = -1;
  };
  struct Reader {
    StepId step;
    std::int32_t next;
  };

  void need(StepId before, StepId id) {
    if (before < 0 || before == id || direct_[static_cast<std::size_t>(before)] == id) return;
    if (reaches(before, id)) return;
    throw Refuted{
        fmt::format("two steps touch the same memory{} and nothing orders them:\n  {}\n  {}",
                    world_.options.in_place ? " (in place)" : "", world_.text({rank_, before}),
                    world_.text({rank_, id}))};
  }

  // Whether `id` comes, by way of other steps, after `before`. Rare: the builder's dependencies are
  // direct.
  bool reaches(StepId before, StepId id) {
    ++search_;
    open_.assign(1, id);
    while (!open_.empty()) {
      const StepId at = open_.back();
      open_.pop_back();
      for (const StepId earlier : schedule_.steps[static_cast<std::size_t>(at)].after) {
        if (earlier == before) return true;
        std::int64_t& mark = reached_[static_cast<std::size_t>(earlier)];
        if (earlier < before || mark == search_) continue;
        mark = search_;
        open_.push_back(earlier);
      }
    }
    return false;
  }

  const World& world_;
  const Schedule& schedule_;
  std::int32_t rank_;
  CellMap map_;
  std::vector<Cell> cells_;
  std::vector<Reader> readers_;
  std::vector<StepId> direct_;  // the last step that names this one in `after`
  std::vector<std::int64_t> reached_;
  std::int64_t search_ = 0;
  std::vector<StepId> open_;
};

}  // namespace

void check_hazards(const World& world) {
  for (std::int32_t rank = 0; rank < world.size(); ++rank) HazardCheck(world, rank).run();
}

}  // namespace weft::comm
