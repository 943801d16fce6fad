#include "comm/schedule/builder.h"

#include <algorithm>
#include <utility>

#include "comm/schedule/cells.h"
#include "kernels/base/check.h"

namespace weft::comm {

Builder::Builder(const Problem& problem, std::string algorithm, int chunks_per_block) {
  WEFT_ASSERT(problem.world_size >= 1 && problem.rank >= 0 && problem.rank < problem.world_size &&
                  problem.root >= 0 && problem.root < problem.world_size,
              "rank and root lie in the world");
  WEFT_ASSERT(chunks_per_block >= 1, "a block has at least one chunk");
  schedule_.problem = problem;
  schedule_.algorithm = std::move(algorithm);
  schedule_.chunks_per_block = chunks_per_block;
}

Slice Builder::new_scratch(int wide_chunk, int count) {
  const auto first = static_cast<std::int32_t>(schedule_.scratch.size());
  for (int i = 0; i < count; ++i) schedule_.scratch.push_back(wide_chunk + i);
  return {Buffer::scratch, first, count};
}

StepId Builder::add(Step step) {
  const auto exists = [&](Slice slice) {
    return slice.chunk >= 0 && slice.count >= 0 &&
           slice.chunk + slice.count <= chunk_count(schedule_, slice.buffer);
  };
  WEFT_ASSERT((step.from.count == 0 || exists(step.from)) &&
                  (step.to.count == 0 || exists(step.to)) &&
                  std::ranges::all_of(step.operands, exists),
              "steps name chunks that exist");
  schedule_.lanes = std::max({schedule_.lanes, step.lane + 1, step.send_lane + 1});
  schedule_.steps.push_back(std::move(step));
  return static_cast<StepId>(schedule_.steps.size()) - 1;
}

StepId Builder::send(int peer, Slice from, int lane) {
  Step step;
  step.kind = StepKind::send;
  step.peer = peer;
  step.lane = lane;
  step.from = from;
  return add(std::move(step));
}

StepId Builder::recv(int peer, Slice to, int lane) {
  Step step;
  step.kind = StepKind::recv;
  step.peer = peer;
  step.lane = lane;
  step.to = to;
  return add(std::move(step));
}

StepId Builder::recv_reduce(int peer, Slice from, Slice to, Completes completes, int lane) {
  Step step;
  step.kind = StepKind::recv_reduce;
  step.completes = completes == Completes::yes;
  step.peer = peer;
  step.lane = lane;
  step.from = from;
  step.to = to;
  return add(std::move(step));
}

StepId Builder::copy(Slice from, Slice to) {
  Step step;
  step.kind = StepKind::copy;
  step.from = from;
  step.to = to;
  return add(std::move(step));
}

StepId Builder::reduce(std::vector<Slice> operands, Slice to, Completes completes) {
  Step step;
  step.kind = StepKind::reduce;
  step.completes = completes == Completes::yes;
  step.operands = std::move(operands);
  step.to = to;
  return add(std::move(step));
}

Schedule Builder::finish() {
  compute_dependencies(schedule_);
  return std::move(schedule_);
}

namespace {

// Who touched a cell: its last writer, and the readers since, as a list threaded through one pool.
struct Cell {
  StepId writer = -1;
  std::int32_t readers = -1;  // head of the list
};

struct Reader {
  StepId step;
  std::int32_t next;
};

// Runs of cells that every step touches as a whole or not at all, numbered: with few steps over
// many chunks (halving and doubling among thousands of ranks) there are far fewer of them than
// cells.
class Regions {
 public:
  Regions(const CellMap& map, const Schedule& schedule) : size_(map.size()) {
    std::size_t ends = 0;
    for (const Step& step : schedule.steps) ends += 6 + 2 * step.operands.size();
    if (ends >= static_cast<std::size_t>(map.size())) return;  // as many regions as cells
    starts_.reserve(ends + 2);
    starts_ = {0, map.size()};
    for (const Step& step : schedule.steps) {
      for_each_range(map, step, [&](std::int32_t first, std::int32_t count, bool) {
        starts_.push_back(first);
        starts_.push_back(first + count);
      });
    }
    std::sort(starts_.begin(), starts_.end());
    starts_.erase(std::unique(starts_.begin(), starts_.end()), starts_.end());
    size_ = static_cast<std::int32_t>(starts_.size());
  }

  std::int32_t size() const { return size_; }
  // The region that begins at this cell.
  std::int32_t at(std::int32_t cell) const {
    if (starts_.empty()) return cell;
    return static_cast<std::int32_t>(std::lower_bound(starts_.begin(), starts_.end(), cell) -
                                     starts_.begin());
  }

 private:
  std::vector<std::int32_t> starts_;  // empty: every cell is a region
  std::int32_t size_;
};

// Adds to every step's `after` what it conflicts with when used in place, or out of place.
void add_dependencies(Schedule& schedule, bool in_place) {
  const CellMap map(schedule, in_place);
  const Regions regions(map, schedule);
  std::vector<Cell> cells(static_cast<std::size_t>(regions.size()));
  std::vector<Reader> readers;
  std::vector<StepId> seen(schedule.steps.size(), -1);  // the last step that depends on this one
  StepId id = 0;
  for (Step& step : schedule.steps) {
    for (const StepId on : step.after) seen[static_cast<std::size_t>(on)] = id;
    const auto depend = [&](StepId on) {
      if (on < 0 || on == id || seen[static_cast<std::size_t>(on)] == id) return;
      seen[static_cast<std::size_t>(on)] = id;
      step.after.push_back(on);
    };
    const auto for_each_region = [&](auto&& visit) {
      for_each_range(map, step, [&](std::int32_t first, std::int32_t count, bool writes) {
        const std::int32_t end = regions.at(first + count);
        for (std::int32_t i = regions.at(first); i < end; ++i) visit(i, writes);
      });
    };
    // First look, then record: a step that reads and writes one cell does not wait for itself.
    for_each_region([&](std::int32_t index, bool writes) {
      const Cell& cell = cells[static_cast<std::size_t>(index)];
      if (!writes || cell.readers < 0) return depend(cell.writer);
      for (std::int32_t r = cell.readers; r >= 0; r = readers[static_cast<std::size_t>(r)].next) {
        depend(readers[static_cast<std::size_t>(r)].step);  // who waited for the writer
      }
    });
    for_each_region([&](std::int32_t index, bool writes) {
      Cell& cell = cells[static_cast<std::size_t>(index)];
      if (writes) {
        cell = {id, -1};
      } else {
        readers.push_back({id, cell.readers});
        cell.readers = static_cast<std::int32_t>(readers.size()) - 1;
      }
    });
    ++id;
  }
}

}  // namespace

void compute_dependencies(Schedule& schedule) {
  for (Step& step : schedule.steps) step.after.clear();
  add_dependencies(schedule, false);
  add_dependencies(schedule, true);
  for (Step& step : schedule.steps) std::sort(step.after.begin(), step.after.end());
}

}  // namespace weft::comm
