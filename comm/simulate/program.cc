#include "comm/simulate/program.h"

#include <algorithm>
#include <map>
#include <utility>

#include "comm/passes/passes.h"
#include "comm/schedule/cells.h"
#include "kernels/base/check.h"
#include "kernels/base/error.h"

namespace weft::comm::simulate {

namespace {

// Ranks' schedules that are one program turned round: each rank knows its place relative to others
// only. Holds for the ring of equal blocks (tests/simulate checks it rank by rank).
bool rotates(const Algorithm& algorithm, const Problem& problem) {
  return algorithm.name == "ring" && problem.world_size > 1 &&
         (problem.collective == Collective::all_reduce ||
          problem.collective == Collective::reduce_scatter ||
          problem.collective == Collective::all_gather);
}

bool greets_next_rank(const Schedule& schedule) {
  const int next = (schedule.problem.rank + 1) % schedule.problem.world_size;
  for (const Step& step : schedule.steps) {
    if (sends(step.kind) && target_of(step) == next) {
      return step.kind == StepKind::send && step.after.empty();
    }
  }
  return false;
}

// Appends one rank's schedule to the lists.
class Appender {
 public:
  Appender(Programs& programs, const Schedule& schedule)
      : programs_(programs),
        schedule_(schedule),
        cells_(schedule, true),
        first_node_(static_cast<std::int32_t>(programs.nodes.size())) {}

  void append() {
    RankProgram mine;
    mine.first_node = first_node_;
    for (const Step& step : schedule_.steps) add(step);
    mine.nodes = static_cast<std::int32_t>(programs_.nodes.size()) - first_node_;
    mine.locals = locals_;
    mine.first_link = static_cast<std::int32_t>(programs_.links.size());
    mine.links = static_cast<std::int32_t>(links_.size());
    for (const auto& [list, nodes] : links_) {
      programs_.links.push_back(list);
      programs_.links.back().first = static_cast<std::int32_t>(programs_.order.size());
      programs_.links.back().messages = static_cast<std::int32_t>(nodes.size());
      programs_.order.insert(programs_.order.end(), nodes.begin(), nodes.end());
    }
    add_dependents();
    mine.greets_next = greets_next_rank(schedule_);
    programs_.ranks.push_back(mine);
  }

 private:
  std::int32_t add_node(NodeKind kind, Slice length) {
    Node& node = programs_.nodes.emplace_back();
    node.kind = kind;
    node.first_wait = static_cast<std::int32_t>(programs_.waits.size());
    measure(node, length);
    return static_cast<std::int32_t>(programs_.nodes.size()) - 1;
  }

  // Where its bytes are, in chunks of the wide buffer.
  void measure(Node& node, Slice slice) {
    node.chunk = slice.chunk;
    node.chunks = slice.count;
    if (slice.buffer != Buffer::scratch || slice.count == 0) return;
    const auto wide = [&](std::int32_t i) {
      return schedule_.scratch[static_cast<std::size_t>(slice.chunk + i)];
    };
    node.chunk = wide(0);
    for (std::int32_t i = 1; i < slice.count; ++i) {
      if (wide(i) != wide(0) + i) return scatter(node, slice);
    }
  }

  void scatter(Node& node, Slice slice) {
    node.chunk = static_cast<std::int32_t>(programs_.pieces.size());
    for (std::int32_t i = 0; i < slice.count; ++i) {
      const std::int32_t chunk = schedule_.scratch[static_cast<std::size_t>(slice.chunk + i)];
      Piece* last = node.pieces > 0 ? &programs_.pieces.back() : nullptr;
      if (last != nullptr && last->chunk + last->count == chunk) {
        ++last->count;
      } else {
        programs_.pieces.push_back({chunk, 1});
        ++node.pieces;
      }
    }
  }

  void put_on_link(std::int32_t id, std::int32_t peer, bool sends) {
    const auto [at, fresh] =
        link_of_.try_emplace({peer, sends}, static_cast<std::int32_t>(links_.size()));
    if (fresh) {
      const int n = programs_.world_size;
      LinkList list;
      list.sends = sends;
      list.peer = programs_.rotates ? (peer - schedule_.problem.rank + n) % n : peer;
      links_.push_back({list, {}});
    }
    Node& node = programs_.nodes[static_cast<std::size_t>(id)];
    node.link = at->second;
    auto& nodes = links_[static_cast<std::size_t>(at->second)].second;
    node.index = static_cast<std::int32_t>(nodes.size());
    nodes.push_back(id);
  }

  void add(const Step& step) {
    std::int32_t id = -1;
    if (receives(step.kind)) {
      const bool reduces =
          step.kind == StepKind::recv_reduce || step.kind == StepKind::recv_reduce_send;
      id =
          add_node(reduces ? NodeKind::recv_reduce : NodeKind::recv, reduces ? step.from : step.to);
      put_on_link(id, step.peer, false);
      add_waits(id, step);
      if (is_fused(step.kind)) {
        const std::int32_t length = programs_.nodes.back().chunks;
        const std::int32_t out = add_node(NodeKind::send, reduces ? step.from : step.to);
        put_on_link(out, step.send_peer, true);
        wait_for(out, {.node = id, .shift = 0, .mine = length, .theirs = length});
        id = out;  // what comes after waits for the send
      }
    } else if (step.kind == StepKind::send) {
      id = add_node(NodeKind::send, step.from);
      put_on_link(id, step.peer, true);
      add_waits(id, step);
    } else {
      id = add_node(step.kind == StepKind::copy ? NodeKind::copy : NodeKind::reduce, step.to);
      Node& node = programs_.nodes.back();
      node.index = locals_++;
      node.operands = static_cast<std::int32_t>(std::max<std::size_t>(1, step.operands.size()));
      node.moves_nothing =
          step.kind == StepKind::copy && cells_.first(step.from) == cells_.first(step.to);
      add_waits(id, step);
    }
    last_node_.push_back(id);
  }

  void wait_for(std::int32_t id, Wait wait) {
    Node& node = programs_.nodes[static_cast<std::size_t>(id)];
    for (std::int32_t k = 0; k < node.waits; ++k) {
      const Wait& other = programs_.waits[static_cast<std::size_t>(node.first_wait + k)];
      if (other.node == wait.node && other.shift == wait.shift && other.mine == wait.mine &&
          other.theirs == wait.theirs) {
        return;
      }
    }
    const Node& earlier = programs_.nodes[static_cast<std::size_t>(wait.node)];
    wait.link = earlier.link;
    wait.index = earlier.index;
    programs_.waits.push_back(wait);
    ++node.waits;
  }

  // Which tiles of earlier steps this step's tiles wait for: those that touch the same cells, one
  // of the two writing.
  void add_waits(std::int32_t id, const Step& step) {
    for (const StepId earlier : step.after) {
      const Step& other = schedule_.steps[static_cast<std::size_t>(earlier)];
      const std::int32_t node = last_node_[static_cast<std::size_t>(earlier)];
      for_each_touched(step, [&](std::int32_t first, std::int32_t count, bool writes) {
        for_each_touched(other, [&](std::int32_t first2, std::int32_t count2, bool writes2) {
          if (!writes && !writes2) return;
          if (first + count <= first2 || first2 + count2 <= first) return;
          wait_for(id, {.node = node, .shift = first - first2, .mine = count, .theirs = count2});
        });
      });
    }
  }

  // Also of a copy onto itself, which touches its memory where used out of place.
  template <class Visit>
  void for_each_touched(const Step& step, Visit&& visit) const {
    if (step.kind == StepKind::copy) {
      visit(cells_.first(step.from), step.from.count, false);
      visit(cells_.first(step.to), step.to.count, true);
    } else {
      for_each_range(cells_, step, visit);
    }
  }

  void add_dependents() {
    const auto end = static_cast<std::int32_t>(programs_.nodes.size());
    std::vector<std::pair<std::int32_t, std::int32_t>> pairs;  // waited for, waiting
    for (std::int32_t id = first_node_; id < end; ++id) {
      const Node& node = programs_.nodes[static_cast<std::size_t>(id)];
      for (std::int32_t k = 0; k < node.waits; ++k) {
        pairs.emplace_back(programs_.waits[static_cast<std::size_t>(node.first_wait + k)].node, id);
      }
    }
    std::sort(pairs.begin(), pairs.end());
    pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
    for (const auto& [earlier, later] : pairs) {
      Node& node = programs_.nodes[static_cast<std::size_t>(earlier)];
      if (node.dependents++ == 0) {
        node.first_dependent = static_cast<std::int32_t>(programs_.dependents.size());
      }
      programs_.dependents.push_back(
          {later, programs_.nodes[static_cast<std::size_t>(later)].link});
    }
  }

  Programs& programs_;
  const Schedule& schedule_;
  CellMap cells_;
  std::int32_t first_node_;
  std::int32_t locals_ = 0;
  std::vector<std::pair<LinkList, std::vector<std::int32_t>>> links_;
  std::map<std::pair<std::int32_t, bool>, std::int32_t> link_of_;
  std::vector<std::int32_t> last_node_;  // of each step
};

Programs empty_programs(const Problem& problem, const Schedule& schedule) {
  Programs programs;
  programs.world_size = problem.world_size;
  programs.blocks =
      std::max(block_count(problem, Buffer::input), block_count(problem, Buffer::output));
  programs.chunks_per_block = schedule.chunks_per_block;
  return programs;
}

Schedule emit(const Algorithm& algorithm, Problem problem, std::int32_t rank) {
  problem.rank = rank;
  return algorithm.emit(problem);
}

std::int64_t messages_of(const Schedule& schedule) {
  return std::count_if(schedule.steps.begin(), schedule.steps.end(),
                       [](const Step& step) { return sends(step.kind); });
}

}  // namespace

std::int64_t count_messages(const Algorithm& algorithm, const Problem& problem) {
  const std::int32_t n = problem.world_size;
  if (rotates(algorithm, problem)) return n * messages_of(emit(algorithm, problem, 0));
  constexpr std::int32_t kSamples = 16;
  std::int64_t counted = 0;
  const std::int32_t samples = std::min(n, kSamples);
  for (std::int32_t k = 0; k < samples; ++k) {
    const auto rank = static_cast<std::int32_t>(std::int64_t{n} * k / samples);
    counted += messages_of(emit(algorithm, problem, rank));
  }
  return counted * n / samples;
}

Programs make_programs(const Algorithm& algorithm, const Problem& problem, bool fused, int tiles,
                       std::int64_t messages_max) {
  const std::int64_t messages = count_messages(algorithm, problem) * tiles;
  if (messages > messages_max) {
    fail<Unsupported>(
        "{} by {} on {} ranks with {} tiles is about {} messages; at most {} are simulated: fewer "
        "tiles, fewer ranks or another algorithm",
        name_of(problem.collective), algorithm.name, problem.world_size, tiles, messages,
        messages_max);
  }
  Programs programs;
  const bool shared = rotates(algorithm, problem);
  const std::int32_t count = shared ? 1 : problem.world_size;
  for (std::int32_t rank = 0; rank < count; ++rank) {
    Schedule schedule = emit(algorithm, problem, rank);
    if (fused) schedule = fuse(schedule);
    if (rank == 0) {
      programs = empty_programs(problem, schedule);
      programs.rotates = shared;
    }
    WEFT_ASSERT(schedule.chunks_per_block == programs.chunks_per_block && schedule.lanes == 1,
                "ranks cut alike, and lanes come later");
    Appender(programs, schedule).append();
  }
  return programs;
}

Programs make_programs(const std::vector<Schedule>& world) {
  WEFT_ASSERT(!world.empty(), "a world has ranks");
  Programs programs = empty_programs(world.front().problem, world.front());
  for (const Schedule& schedule : world) Appender(programs, schedule).append();
  return programs;
}

}  // namespace weft::comm::simulate
