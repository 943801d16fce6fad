// Who must wait for whom, by who touches which memory, and the fewest awaits that say so.
//
// A rank's operations between two of its waits are a segment: nothing in it blocks, so one publish
// after the last that others wait for serves them all. Clocks count segments: known[r][j] is the
// last segment of j that r knows to be published, 0 if only that j has entered, -1 if not even
// that. The order of the program is a witness that nobody waits for ever: an operation waits for
// earlier ones only.
#include <algorithm>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

#include "comm/passes/lowering.h"

namespace weft::comm::lowering {

namespace {

constexpr OpId kEntry = -1;  // as if operation -1 of every rank were that it enters

struct Need {
  std::int32_t rank;
  OpId op;  // of that rank; kEntry
};

std::size_t at(std::int32_t i) { return static_cast<std::size_t>(i); }

// The accesses that an operation must come after. Only other ranks' are of interest: a rank runs
// its own in order.
class Needs {
 public:
  explicit Needs(Program& program) : program_(program) {
    for (std::size_t rank = 0; rank < program.world.size(); ++rank) {
      const Schedule& schedule = program.world[rank];
      for (const bool in_place : {false, true}) {
        maps_[in_place].emplace_back(schedule.problem, schedule.chunks_per_block, 0, in_place);
        cells_[in_place].emplace_back(at(maps_[in_place].back().size()));
      }
      writers_.emplace_back(program.scratch[rank].size(), kNone);
    }
    touched_.resize(program.world.size());
  }

  // In the order of the program.
  void add(OpId id) {
    id_ = id;
    const Op& op = program_.op(id);
    begin_.push_back(needs_.size());
    for (const Place& place : op.sources) scratch(place, false);
    for (const Place& place : op.targets) scratch(place, true);
    for (const bool in_place : {false, true}) {
      // A copy of memory onto itself touches nothing.
      const auto same = [&](const Place& target) {
        return op.sources.size() == 1 && same_cell(in_place, op.sources.front(), target);
      };
      if (!std::all_of(op.targets.begin(), op.targets.end(), same)) {
        for (const Place& place : op.sources) touch(in_place, place, false);
      }
      for (const Place& place : op.targets) {
        if (!same(place)) touch(in_place, place, true);
      }
    }
  }

  std::span<const Need> of(OpId id) const {
    const std::size_t end = at(id) + 1 < begin_.size() ? begin_[at(id) + 1] : needs_.size();
    return {needs_.data() + begin_[at(id)], end - begin_[at(id)]};
  }

  // The last operation of each other rank that touches this one's input or output.
  std::vector<Need> to_finish(std::int32_t rank) const {
    std::vector<Need> all;
    for (const auto& [who, op] : touched_[at(rank)]) all.push_back({who, op});
    return all;
  }

 private:
  struct Cell {
    OpId writer = kNone;
    std::int32_t readers = kNone;  // since; a list in readers_
  };
  struct Reader {
    OpId op;
    std::int32_t next;
  };

  std::size_t cell_of(bool in_place, const Place& place) const {
    return at(
        maps_[in_place][at(place.rank)].cell(place.buffer, static_cast<std::int32_t>(place.chunk)));
  }
  bool same_cell(bool in_place, const Place& a, const Place& b) const {
    return a.rank == b.rank && a.buffer != Buffer::scratch && b.buffer != Buffer::scratch &&
           cell_of(in_place, a) == cell_of(in_place, b);
  }

  void need(OpId op) {
    const std::int32_t rank = program_.op(op).rank;
    if (rank != program_.op(id_).rank) needs_.push_back({rank, op});
  }

  // Each scratch chunk is written once.
  void scratch(const Place& place, bool writes) {
    if (place.buffer != Buffer::scratch) return;
    OpId& writer = writers_[at(place.rank)][static_cast<std::size_t>(place.chunk)];
    if (writes) {
      writer = id_;
    } else {
      need(writer);
    }
  }

  void touch(bool in_place, const Place& place, bool writes) {
    if (place.buffer == Buffer::scratch) return;
    const std::int32_t me = program_.op(id_).rank;
    if (place.rank != me) {
      needs_.push_back({place.rank, kEntry});
      touched_[at(place.rank)][me] = id_;
    }
    Cell& cell = cells_[in_place][at(place.rank)][cell_of(in_place, place)];
    if (cell.writer != kNone && cell.writer != id_) need(cell.writer);
    if (writes) {
      for (std::int32_t r = cell.readers; r != kNone; r = readers_[at(r)].next) {
        if (readers_[at(r)].op != id_) need(readers_[at(r)].op);
      }
      cell = {id_, kNone};
    } else {
      readers_.push_back({id_, cell.readers});
      cell.readers = static_cast<std::int32_t>(readers_.size()) - 1;
    }
  }

  Program& program_;
  OpId id_ = 0;
  std::vector<std::size_t> begin_;  // by operation
  std::vector<Need> needs_;
  std::vector<CellMap> maps_[2];
  std::vector<std::vector<Cell>> cells_[2];
  std::vector<Reader> readers_;
  std::vector<std::vector<OpId>> writers_;  // of scratch
  std::vector<std::unordered_map<std::int32_t, OpId>> touched_;
};

struct Wait {
  std::int32_t rank;
  std::int32_t segment;
};

struct Segment {
  std::vector<Wait> waits;  // before it
  std::vector<OpId> ops;
  std::size_t needed = 0;  // of them, up to the last that another rank waits for
  bool published = false;
  std::int64_t pending = 0;         // operations that may still ask for what it knew
  std::vector<std::int32_t> clock;  // once it is closed, while somebody may ask
};

class Synchroniser {
 public:
  explicit Synchroniser(Program& program)
      : program_(program), needs_(program), segment_of_(program.ops.size(), 0) {
    const std::size_t n = program.world.size();
    known_.assign(n, std::vector<std::int32_t>(n, kNone));
    // Segments are numbered from 1; 0 is that the rank has entered.
    segments_.assign(n, std::vector<Segment>(2));
  }

  std::vector<MemorySchedule> run() {
    const auto count = static_cast<OpId>(program_.ops.size());
    std::vector<std::int32_t> dependents(program_.ops.size(), 0);
    for (OpId id = 0; id < count; ++id) {
      needs_.add(id);
    }
    for (OpId id = 0; id < count; ++id) {
      for (const Need& need : needs_.of(id)) dependents[at(std::max(need.op, 0))] += need.op >= 0;
    }
    for (std::int32_t rank = 0; rank < program_.size(); ++rank) {
      for (const Need& need : needs_.to_finish(rank)) ++dependents[at(need.op)];
    }
    for (OpId id = 0; id < count;) {
      const Op& first = program_.op(id);
      OpId end = id;
      std::vector<Need> needs;
      while (end < count && program_.op(end).rank == first.rank &&
             program_.op(end).level == first.level && program_.op(end).step == first.step) {
        const std::span<const Need> more = needs_.of(end++);
        needs.insert(needs.end(), more.begin(), more.end());
      }
      satisfy(first.rank, needs);
      Segment& segment = segments_[at(first.rank)].back();
      for (; id < end; ++id) {
        segment_of_[at(id)] = static_cast<std::int32_t>(segments_[at(first.rank)].size()) - 1;
        segment.ops.push_back(id);
        segment.pending += dependents[at(id)];
        if (dependents[at(id)] > 0) segment.needed = segment.ops.size();
      }
    }
    for (std::int32_t rank = 0; rank < program_.size(); ++rank) {
      satisfy(rank, needs_.to_finish(rank));
    }
    return write();
  }

 private:
  std::int32_t segment_of(const Need& need) const {
    return need.op == kEntry ? 0 : segment_of_[at(need.op)];
  }

  // Adds the waits after which the rank knows of all that it needs.
  void satisfy(std::int32_t rank, std::vector<Need> needs) {
    // Who is furthest knows most of the others.
    std::sort(needs.begin(), needs.end(), [](const Need& a, const Need& b) {
      return std::pair(a.op, a.rank) > std::pair(b.op, b.rank);
    });
    std::vector<std::int32_t>& known = known_[at(rank)];
    std::vector<Wait> waits;
    for (const Need& need : needs) {
      const std::int32_t wanted = segment_of(need);
      if (known[at(need.rank)] >= wanted) continue;
      if (waits.empty()) close(rank);
      waits.push_back({need.rank, wanted});
      learn(known, need.rank, wanted);
    }
    for (const Need& need : needs) forget(need);
    if (waits.empty()) return;
    // Each rank visits the others from its own place on.
    const std::int32_t n = program_.size();
    std::sort(waits.begin(), waits.end(), [&](const Wait& a, const Wait& b) {
      return std::pair((a.rank - rank + n) % n, -a.segment) <
             std::pair((b.rank - rank + n) % n, -b.segment);
    });
    for (const Wait& wait : waits) {
      segments_[at(wait.rank)][at(wait.segment)].published = true;
    }
    segments_[at(rank)].emplace_back().waits = std::move(waits);
  }

  void learn(std::vector<std::int32_t>& known, std::int32_t rank, std::int32_t segment) {
    known[at(rank)] = segment;
    const auto current = static_cast<std::int32_t>(segments_[at(rank)].size()) - 1;
    if (segment == 0) return;
    const std::vector<std::int32_t>& theirs =
        segment == current ? known_[at(rank)] : segments_[at(rank)][at(segment)].clock;
    for (std::size_t i = 0; i < known.size(); ++i) known[i] = std::max(known[i], theirs[i]);
  }

  void close(std::int32_t rank) {
    Segment& segment = segments_[at(rank)].back();
    if (segment.pending > 0) segment.clock = known_[at(rank)];
  }

  void forget(const Need& need) {
    if (need.op == kEntry) return;
    Segment& segment = segments_[at(need.rank)][at(segment_of(need))];
    if (--segment.pending == 0) segment.clock = {};
  }

  std::vector<MemorySchedule> write() const {
    std::vector<std::vector<std::int32_t>> stages;
    for (const std::vector<Segment>& segments : segments_) {
      std::int32_t stage = 0;
      std::vector<std::int32_t>& numbers = stages.emplace_back(1, 0);
      for (std::size_t s = 1; s < segments.size(); ++s) {
        numbers.push_back(segments[s].published ? ++stage : kNone);
      }
    }
    const auto scratch =
        std::make_shared<const std::vector<std::vector<std::int32_t>>>(program_.scratch);
    std::vector<MemorySchedule> schedules;
    for (std::size_t rank = 0; rank < segments_.size(); ++rank) {
      const Schedule& from = program_.world[rank];
      MemorySchedule& schedule = schedules.emplace_back();
      schedule.problem = from.problem;
      schedule.algorithm = from.algorithm;
      schedule.reach = program_.asked;
      schedule.chunks_per_block = from.chunks_per_block;
      schedule.scratch = scratch;
      for (std::size_t s = 1; s < segments_[rank].size(); ++s) {
        write_segment(segments_[rank][s], stages[rank][s], stages, schedule.steps);
      }
    }
    return schedules;
  }

  void write_segment(const Segment& segment, std::int32_t stage,
                     const std::vector<std::vector<std::int32_t>>& stages,
                     std::vector<MemoryStep>& steps) const {
    std::int32_t previous = kNone;
    for (const Wait& wait : segment.waits) {
      if (wait.rank == std::exchange(previous, wait.rank)) continue;  // the later stage came first
      MemoryStep& step = steps.emplace_back();
      step.kind = MemoryStepKind::await;
      step.peer = wait.rank;
      step.stage = stages[at(wait.rank)][at(wait.segment)];
    }
    const std::span<const OpId> ops(segment.ops);
    write_moves(ops.first(segment.needed), steps);
    if (segment.published) {
      MemoryStep& step = steps.emplace_back();
      step.kind = MemoryStepKind::publish;
      step.stage = stage;
    }
    write_moves(ops.subspan(segment.needed), steps);
  }

  void write_moves(std::span<const OpId> ops, std::vector<MemoryStep>& steps) const {
    std::vector<MemoryStep> moves = merge_moves(program_, ops);
    std::move(moves.begin(), moves.end(), std::back_inserter(steps));
  }

  Program& program_;
  Needs needs_;
  std::vector<std::int32_t> segment_of_;          // by operation
  std::vector<std::vector<std::int32_t>> known_;  // by rank: what it knows now
  std::vector<std::vector<Segment>> segments_;
};

}  // namespace

std::vector<MemorySchedule> order(Program& program) { return Synchroniser(program).run(); }

}  // namespace weft::comm::lowering
