#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "comm/passes/passes.h"
#include "comm/schedule/builder.h"
#include "comm/schedule/cells.h"

namespace weft::comm {

namespace {

struct Access {
  StepId step;
  bool writes;
};

// Who touches which cell, in order.
class Uses {
 public:
  explicit Uses(const Schedule& schedule)
      : map_(schedule, true), cells_(static_cast<std::size_t>(map_.size())) {
    StepId id = 0;
    for (const Step& step : schedule.steps) {
      for_each_access(map_, step, [&](std::int32_t cell, bool writes) {
        cells_[static_cast<std::size_t>(cell)].push_back({id, writes});
      });
      ++id;
    }
  }

  // What becomes of the value that a step leaves in a slice. `reader` is the one step that reads
  // it, all of it; -1 if there is none or another one too.
  struct Fate {
    StepId reader = -1;
    bool result = false;  // part of it stays in the output to the end
  };

  Fate fate(StepId writer, Slice value) const {
    Fate fate;
    const std::int32_t first = map_.first(value);
    for (std::int32_t i = 0; i < value.count; ++i) {
      const std::vector<Access>& uses = at(first + i);
      auto use = after(uses, writer);
      if (use == uses.end() || use->writes) return {};
      if (i > 0 && use->step != fate.reader) return {};
      fate.reader = use->step;
      ++use;
      if (use == uses.end()) {
        fate.result = fate.result || value.buffer == Buffer::output;
      } else if (!use->writes) {
        return {};
      }
    }
    return fate;
  }

  // Whether anything writes to the slice after step `begin` and before step `end`.
  bool written_between(Slice slice, StepId begin, StepId end) const {
    const std::int32_t first = map_.first(slice);
    for (std::int32_t i = 0; i < slice.count; ++i) {
      const std::vector<Access>& uses = at(first + i);
      for (auto use = after(uses, begin); use != uses.end() && use->step < end; ++use) {
        if (use->writes) return true;
      }
    }
    return false;
  }

 private:
  const std::vector<Access>& at(std::int32_t cell) const {
    return cells_[static_cast<std::size_t>(cell)];
  }
  static std::vector<Access>::const_iterator after(const std::vector<Access>& uses, StepId step) {
    return std::upper_bound(uses.begin(), uses.end(), step,
                            [](StepId id, const Access& use) { return id < use.step; });
  }

  CellMap map_;
  std::vector<std::vector<Access>> cells_;
};

void remove_marked(Schedule& schedule, const std::vector<char>& gone) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < schedule.steps.size(); ++i) {
    if (gone[i]) continue;
    if (kept != i) schedule.steps[kept] = std::move(schedule.steps[i]);
    ++kept;
  }
  schedule.steps.resize(kept);
}

// reduce a b -> x, reduce x c -> y  becomes  reduce a b c -> y. Only where x comes first: the fold
// keeps its order.
void join_reductions(Schedule& schedule) {
  const Uses uses(schedule);
  std::vector<char> gone(schedule.steps.size(), 0);
  for (std::size_t i = 0; i < schedule.steps.size(); ++i) {
    Step& inner = schedule.steps[i];
    if (inner.kind != StepKind::reduce || inner.completes) continue;
    const auto [reader, result] = uses.fate(static_cast<StepId>(i), inner.to);
    if (reader < 0 || result) continue;
    Step& outer = schedule.steps[static_cast<std::size_t>(reader)];
    if (outer.kind != StepKind::reduce || outer.operands.front() != inner.to) continue;
    const bool stale = std::any_of(
        inner.operands.begin(), inner.operands.end(), [&, reader = reader](const Slice& operand) {
          // The inner step itself may write over an operand, too.
          return operand == inner.to ||
                 uses.written_between(operand, static_cast<StepId>(i), reader);
        });
    if (stale) continue;
    inner.operands.insert(inner.operands.end(), outer.operands.begin() + 1, outer.operands.end());
    outer.operands = std::move(inner.operands);
    gone[i] = 1;
  }
  remove_marked(schedule, gone);
}

// For each send, the one before it on its link; -1 for the first.
std::vector<StepId> previous_sends(const Schedule& schedule) {
  std::vector<StepId> previous(schedule.steps.size(), -1);
  std::map<std::pair<std::int32_t, std::int32_t>, StepId> last;
  for (std::size_t i = 0; i < schedule.steps.size(); ++i) {
    const Step& step = schedule.steps[i];
    if (!sends(step.kind)) continue;
    const auto [at, fresh] = last.try_emplace({target_of(step), target_lane_of(step)}, -1);
    previous[i] = at->second;
    at->second = static_cast<StepId>(i);
  }
  return previous;
}

// A receive whose value has one reader, a send, takes that send over. The send moves up to where
// the receive is, which must not carry it past another send of its link; and since nobody else
// reads the value, no step has to wait for the send that did not have to before.
void join_messages(Schedule& schedule) {
  const Uses uses(schedule);
  const std::vector<StepId> previous = previous_sends(schedule);
  std::vector<StepId> place(schedule.steps.size());
  for (std::size_t i = 0; i < place.size(); ++i) place[i] = static_cast<StepId>(i);
  std::vector<char> gone(schedule.steps.size(), 0);
  for (std::size_t i = 0; i < schedule.steps.size(); ++i) {
    Step& step = schedule.steps[i];
    if (step.kind != StepKind::recv && step.kind != StepKind::recv_reduce) continue;
    const auto id = static_cast<StepId>(i);
    const auto [reader, result] = uses.fate(id, step.to);
    if (reader < 0) continue;
    const auto j = static_cast<std::size_t>(reader);
    const Step& send = schedule.steps[j];
    if (send.kind != StepKind::send || send.from != step.to) continue;
    if (previous[j] >= 0 && place[static_cast<std::size_t>(previous[j])] >= id) continue;
    const bool reduces = step.kind == StepKind::recv_reduce;
    if (reduces && step.from != step.to && uses.written_between(step.from, id, reader)) continue;
    step.kind = reduces ? StepKind::recv_reduce_send : StepKind::recv_send;
    step.send_peer = send.peer;
    step.send_lane = send.lane;
    if (reduces && !result) step.to = Slice{};  // overwritten, or scratch, before anyone looks
    place[j] = id;
    gone[j] = 1;
  }
  remove_marked(schedule, gone);
}

// Leaves out the scratch that no step uses any more.
void shrink_scratch(Schedule& schedule) {
  std::vector<std::int32_t> moved(schedule.scratch.size(), -1);
  const auto for_each_slice = [&](auto&& visit) {
    for (Step& step : schedule.steps) {
      visit(step.from);
      visit(step.to);
      for (Slice& operand : step.operands) visit(operand);
    }
  };
  for_each_slice([&](const Slice& slice) {
    if (slice.buffer != Buffer::scratch) return;
    for (std::int32_t i = 0; i < slice.count; ++i) {
      moved[static_cast<std::size_t>(slice.chunk + i)] = 0;
    }
  });
  std::vector<std::int32_t> scratch;
  for (std::size_t i = 0; i < moved.size(); ++i) {
    if (moved[i] < 0) continue;
    moved[i] = static_cast<std::int32_t>(scratch.size());
    scratch.push_back(schedule.scratch[i]);
  }
  schedule.scratch = std::move(scratch);
  for_each_slice([&](Slice& slice) {
    if (slice.buffer == Buffer::scratch && slice.count > 0) {
      slice.chunk = moved[static_cast<std::size_t>(slice.chunk)];
    }
  });
}

}  // namespace

Schedule fuse(const Schedule& schedule) {
  Schedule result = schedule;
  join_reductions(result);
  join_messages(result);
  shrink_scratch(result);
  compute_dependencies(result);
  return result;
}

}  // namespace weft::comm
