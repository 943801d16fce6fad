#include <algorithm>
#include <map>
#include <utility>

#include "comm/passes/lowering.h"
#include "kernels/base/check.h"

namespace weft::comm::lowering {

namespace {

bool delivers(const Program& program) {
  // The blocks of an all_to_all have lengths of their own, which only the receiver's chunks share.
  return program.problem().collective == Collective::all_to_all;
}

class Chooser {
 public:
  explicit Chooser(Program& program) : program_(program) {}

  void run() {
    for (OpId id = 0; id < std::ssize(program_.ops); ++id) {
      Op& op = program_.op(id);
      found_.emplace_back();
      for (const Read& operand : op.operands) found_.back().push_back(find(id, operand));
      for (const Read& source : found_.back()) {
        Version& version = program_.version(source.version);
        if (!reachable(op.rank, source.place) || spoilt(version, id)) {
          if (version.home.rank != op.rank) version.privately = true;
        }
      }
    }
    for (OpId id = static_cast<OpId>(program_.ops.size()) - 1; id >= 0; --id) count(id);
    make_copies();
    for (OpId id = 0; id < std::ssize(program_.ops); ++id) settle(id);
    insert_copies();
  }

 private:
  bool reachable(std::int32_t rank, const Place& place) const {
    return place.rank == rank || place.buffer == Buffer::scratch ||
           program_.reach == Reach::everything;
  }

  // Whether the version may be overwritten where it is before this operation reads it.
  bool spoilt(const Version& version, OpId id) {
    return version.overwriter != id && version.overwritten_level <= program_.op(id).level;
  }

  // Where an operand comes from in the end, past copies into scratch.
  Read find(OpId id, Read read) {
    const std::int32_t reader = program_.op(id).rank;
    while (read.place.buffer == Buffer::scratch) {
      const Version& version = program_.version(read.version);
      const Op& writer = program_.op(version.writer);
      if (writer.folds) break;
      const Read& before = writer.operands.front();
      const bool usable =
          reachable(reader, before.place) && !spoilt(program_.version(before.version), id);
      // From another rank: that rank can keep a copy as well as this one.
      if (!usable && before.place.rank == writer.rank) break;
      read = before;
      if (!usable) break;
    }
    return read;
  }

  bool uses_copy(const Op& op, const Read& source) {
    return program_.version(source.version).privately && source.place.rank != op.rank;
  }

  // Backwards: an operation counts if somebody who counts reads what it writes.
  void count(OpId id) {
    Op& op = program_.op(id);
    const Version* written = op.itself ? nullptr : &program_.version(op.writes);
    op.gone = written != nullptr && !written->read && !written->result && !written->copy_needed;
    if (op.gone) return;
    for (const Read& source : found_[static_cast<std::size_t>(id)]) {
      Version& version = program_.version(source.version);
      if (!uses_copy(op, source)) {
        version.read = true;
        continue;
      }
      version.copy_needed = true;
      if (delivers(program_)) {
        version.copy = {
            op.rank, Buffer::scratch,
            scratch_name(ScratchSpace::delivered, 0, static_cast<std::int32_t>(op.to.chunk))};
      }
    }
  }

  // Private copies: a further target of who writes the version, or of who copies it anyway, or an
  // operation of its own where it is first sent.
  void make_copies() {
    for (VersionId id = 0; id < std::ssize(program_.versions); ++id) {
      Version& version = program_.version(id);
      if (!version.copy_needed) continue;
      if (!delivers(program_)) version.copy = place_of_copy(version);
      if (version.writer != kNone) {
        program_.op(version.writer).targets.push_back(version.copy);
        continue;
      }
      if (version.local_copy != kNone && early(version)) {
        program_.op(version.local_copy).targets.push_back(version.copy);
        continue;
      }
      Op& op = copies_.emplace_back();
      op.rank = version.home.rank;
      op.level = delivers(program_) ? 0 : version.send_level;
      op.step = version.send_step;
      op.itself = true;
      op.operands.push_back({id, version.sent_from});
      op.sources.push_back(version.sent_from);
      op.targets.push_back(version.copy);
    }
  }

  bool early(const Version& version) {
    return program_.op(version.local_copy).level < version.send_level;
  }

  Place place_of_copy(const Version& version) {
    const Place& from = version.writer == kNone ? version.sent_from : version.home;
    const ScratchSpace space =
        from.buffer == Buffer::input ? ScratchSpace::of_input : ScratchSpace::of_output;
    const std::int64_t first = scratch_name(space, 0, static_cast<std::int32_t>(from.chunk));
    std::int32_t& generation = generation_[{from.rank, first}];
    return {from.rank, Buffer::scratch,
            scratch_name(space, generation++, static_cast<std::int32_t>(from.chunk))};
  }

  void settle(OpId id) {
    Op& op = program_.op(id);
    if (op.gone) return;
    for (const Read& source : found_[static_cast<std::size_t>(id)]) {
      op.sources.push_back(uses_copy(op, source) ? program_.version(source.version).copy
                                                 : source.place);
    }
    if (op.itself || program_.version(op.writes).read || program_.version(op.writes).result) {
      op.targets.insert(op.targets.begin(), op.to);
    }
  }

  void insert_copies() {
    std::vector<Op> all = std::move(copies_);
    const auto before = [](const Op& a, const Op& b) {
      return std::pair(a.level, a.rank) < std::pair(b.level, b.rank);
    };
    std::stable_sort(all.begin(), all.end(), before);
    // Versions name operations by number: say where each one goes.
    std::vector<OpId> moved(program_.ops.size());
    std::vector<Op> merged;
    merged.reserve(all.size() + program_.ops.size());
    auto copy = all.begin();
    for (OpId id = 0; id < std::ssize(program_.ops); ++id) {
      Op& op = program_.op(id);
      while (copy != all.end() && before(*copy, op)) merged.push_back(std::move(*copy++));
      moved[static_cast<std::size_t>(id)] = static_cast<OpId>(merged.size());
      merged.push_back(std::move(op));
    }
    std::move(copy, all.end(), std::back_inserter(merged));
    program_.ops = std::move(merged);
    for (Version& version : program_.versions) {
      for (OpId* name : {&version.writer, &version.local_copy, &version.overwriter}) {
        if (*name != kNone) *name = moved[static_cast<std::size_t>(*name)];
      }
    }
  }

  Program& program_;
  std::vector<std::vector<Read>> found_;  // by operation: its operands where they come from
  std::vector<Op> copies_;
  std::map<std::pair<std::int32_t, std::int64_t>, std::int32_t> generation_;
};

// Who touched a chunk of a caller's buffer so far.
struct Touched {
  std::int32_t rank = kNone;
  bool by_several = false;
  OpId last = kNone;

  void add(std::int32_t who, OpId id) {
    by_several = by_several || (rank != kNone && rank != who);
    rank = who;
    last = id;
  }
};

// A copy of what another rank has just made, into the output, where it stays and nobody else looks
// for it: whoever made it can as well write it there. The place must be free by then, which is sure
// where only the writer has touched it.
class Pusher {
 public:
  explicit Pusher(Program& program) : program_(program) {
    for (const Schedule& schedule : program.world) {
      cells_.emplace_back(schedule, true);
      touched_.emplace_back(static_cast<std::size_t>(cells_.back().size()));
    }
  }

  void run() {
    for (OpId id = 0; id < std::ssize(program_.ops); ++id) {
      Op& op = program_.op(id);
      if (op.gone) continue;
      const OpId maker = can_push(op) ? maker_of(op) : kNone;
      if (maker != kNone && maker < id) {
        program_.op(maker).targets.push_back(op.to);
        touched(op.to).add(program_.op(maker).rank, maker);
        op.gone = true;
        continue;
      }
      for (const Place& place : op.sources) touch(place, op.rank, id);
      for (const Place& place : op.targets) touch(place, op.rank, id);
    }
  }

 private:
  Touched& touched(const Place& place) {
    const auto rank = static_cast<std::size_t>(place.rank);
    return touched_[rank][static_cast<std::size_t>(
        cells_[rank].cell(place.buffer, static_cast<std::int32_t>(place.chunk)))];
  }
  void touch(const Place& place, std::int32_t who, OpId id) {
    if (place.buffer != Buffer::scratch) touched(place).add(who, id);
  }

  bool can_push(const Op& op) {
    if (op.folds || op.itself || op.to.buffer != Buffer::output || op.targets.size() != 1) {
      return false;
    }
    const Version& written = program_.version(op.writes);
    return op.sources.front().rank != op.rank && op.sources.front().buffer != Buffer::scratch &&
           written.result && !written.read;
  }

  OpId maker_of(const Op& op) {
    const Version& version = program_.version(op.operands.front().version);
    const OpId id = version.writer != kNone ? version.writer : version.local_copy;
    if (id == kNone) return kNone;
    const Op& maker = program_.op(id);
    const bool own = maker.folds || maker.operands.front().place.rank == maker.rank;
    if (maker.gone || !own || maker.rank != op.sources.front().rank) return kNone;
    const Touched& place = touched(op.to);
    const bool free =
        place.rank == kNone || (!place.by_several && place.rank == maker.rank && place.last <= id);
    return free ? id : kNone;
  }

  Program& program_;
  std::vector<CellMap> cells_;
  std::vector<std::vector<Touched>> touched_;  // by rank and cell
};

// The chunk of the wide buffer that a name of scratch stands for.
std::int32_t wide_chunk(const Schedule& schedule, std::int64_t name) {
  const auto space = static_cast<ScratchSpace>((name >> 32) & 3);
  const auto chunk = static_cast<std::int32_t>(name & 0xffffffff);
  if (space == ScratchSpace::own) return schedule.scratch[static_cast<std::size_t>(chunk)];
  const Problem& problem = schedule.problem;
  const Buffer buffer = space == ScratchSpace::of_input ? Buffer::input : Buffer::output;
  const bool narrow =
      block_count(problem, buffer) < block_count(problem, wide_buffer(problem.collective));
  return narrow ? problem.rank * schedule.chunks_per_block + chunk : chunk;
}

}  // namespace

void choose_places(Program& program) {
  Chooser(program).run();
  if (program.reach == Reach::everything) Pusher(program).run();
  std::erase_if(program.ops, [](const Op& op) { return op.gone; });
  // From here on nobody asks for versions.
  program.versions = {};
}

void compact_scratch(Program& program) {
  std::vector<std::vector<std::int64_t>> names(program.world.size());
  for (const Op& op : program.ops) {
    for (const Place& place : op.targets) {
      if (place.buffer != Buffer::scratch) continue;
      names[static_cast<std::size_t>(place.rank)].push_back(place.chunk);
    }
  }
  for (std::size_t rank = 0; rank < names.size(); ++rank) {
    std::sort(names[rank].begin(), names[rank].end());
    std::vector<std::int32_t>& scratch = program.scratch.emplace_back();
    for (const std::int64_t name : names[rank]) {
      scratch.push_back(wide_chunk(program.world[rank], name));
    }
  }
  const auto rename = [&](Place& place) {
    if (place.buffer != Buffer::scratch) return;
    const auto& all = names[static_cast<std::size_t>(place.rank)];
    const auto at = std::lower_bound(all.begin(), all.end(), place.chunk);
    WEFT_ASSERT(at != all.end() && *at == place.chunk, "scratch is written before it is read");
    place.chunk = at - all.begin();
  };
  for (Op& op : program.ops) {
    for (Place& place : op.sources) rename(place);
    for (Place& place : op.targets) rename(place);
  }
}

}  // namespace weft::comm::lowering
