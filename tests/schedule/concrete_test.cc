#include "tests/schedule/concrete.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <deque>
#include <map>
#include <random>
#include <tuple>
#include <vector>

#include "comm/schedule/cells.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {

// `sum` shows a contribution lost or counted twice, `bits` the order of summation, `heard` who is
// in it. avg's division is a multiplication by three here.
struct Value {
  std::uint64_t sum = 0;
  double bits = 0;
  std::uint64_t heard = 0;
};

constexpr std::uint64_t kDivision = 3;

Value operator+(const Value& a, const Value& b) {
  return {a.sum + b.sum, a.bits + b.bits, a.heard | b.heard};
}

class ConcreteRun {
 public:
  ConcreteRun(std::span<const Schedule> schedules, const ConcreteOptions& options)
      : schedules_(schedules), options_(options), random_(options.seed) {
    for (const Schedule& schedule : schedules) add_rank(schedule);
  }

  std::string run() {
    std::vector<Event> possible;
    while (true) {
      possible.clear();
      for (std::size_t r = 0; r < ranks_.size(); ++r) {
        for (std::size_t i = 0; i < ranks_[r].states.size(); ++i) offer(possible, r, i);
      }
      if (possible.empty()) break;
      // Now and then anything, mostly what this run prefers: some steps are far slower than others.
      const bool any = random_() % 4 == 0;
      const Event event =
          any ? possible[random_() % possible.size()]
              : *std::max_element(possible.begin(), possible.end(),
                                  [&](const Event& a, const Event& b) {
                                    return state(a).preference < state(b).preference;
                                  });
      move(event);
    }
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      for (std::size_t i = 0; i < ranks_[r].states.size(); ++i) {
        if (!ranks_[r].states[i].complete) return fmt::format("rank {} step {} is stuck", r, i);
      }
    }
    for (const auto& [link, queue] : links_) {
      if (!queue.empty()) return "a message is left over";
    }
    return check();
  }

 private:
  struct State {
    bool started = false;
    bool taken = false;  // the receiving half is done
    bool complete = false;
    std::uint64_t preference = 0;
    std::vector<Value> held;  // of a fused step between its halves, of a local one while it runs
  };
  struct Rank {
    CellMap map;
    std::vector<Value> cells;
    std::vector<State> states;
  };
  using Link = std::tuple<int, int, int>;
  struct Event {
    std::size_t rank;
    std::size_t step;
  };

  State& state(const Event& e) { return ranks_[e.rank].states[e.step]; }

  Value contribution(int rank, int chunk) const {
    std::mt19937_64 random(options_.seed * 1000003 + static_cast<std::uint64_t>(rank) * 1009 +
                           static_cast<std::uint64_t>(chunk));
    const std::uint64_t sum = random();
    const double scale = std::ldexp(1.0, static_cast<int>(random() % 40));
    return {sum, scale * (1.0 + static_cast<double>(random() % 1000003) / 1e6),
            std::uint64_t{1} << rank};
  }
  Value garbage() { return {random_(), static_cast<double>(random_() % 1000), 0}; }

  void add_rank(const Schedule& schedule) {
    Rank rank{CellMap(schedule, options_.in_place), {}, {}};
    rank.cells.resize(static_cast<std::size_t>(rank.map.size()));
    for (Value& value : rank.cells) value = garbage();
    const Problem& problem = schedule.problem;
    const bool broadcast = problem.collective == Collective::broadcast;
    const Buffer source = broadcast ? Buffer::output : Buffer::input;
    const bool has =
        !(broadcast || problem.collective == Collective::scatter) || problem.rank == problem.root;
    for (int c = 0; has && c < chunk_count(schedule, source); ++c) {
      rank.cells[static_cast<std::size_t>(rank.map.cell(source, c))] =
          contribution(problem.rank, c);
    }
    rank.states.resize(schedule.steps.size());
    for (State& s : rank.states) s.preference = random_();
    ranks_.push_back(std::move(rank));
  }

  const Step& step(std::size_t rank, std::size_t id) const { return schedules_[rank].steps[id]; }
  Link in_link(std::size_t rank, const Step& s) const {
    return {s.peer, static_cast<int>(rank), s.lane};
  }
  Link out_link(std::size_t rank, const Step& s) const {
    return {static_cast<int>(rank), target_of(s), target_lane_of(s)};
  }

  // Whether no earlier step of the rank still has business on this end of the link.
  bool at_head(std::size_t rank, std::size_t id, bool sending) const {
    const Step& mine = step(rank, id);
    for (std::size_t i = 0; i < id; ++i) {
      const Step& other = step(rank, i);
      const State& s = ranks_[rank].states[i];
      if (sending && sends(other.kind) && !s.complete &&
          out_link(rank, other) == out_link(rank, mine)) {
        return false;
      }
      if (!sending && receives(other.kind) && !s.taken &&
          in_link(rank, other) == in_link(rank, mine)) {
        return false;
      }
    }
    return true;
  }

  bool receiver_waits(const Link& link) const {
    const auto target = static_cast<std::size_t>(std::get<1>(link));
    for (std::size_t i = 0; i < ranks_[target].states.size(); ++i) {
      const Step& other = step(target, i);
      const State& s = ranks_[target].states[i];
      if (receives(other.kind) && in_link(target, other) == link && !s.taken) return s.started;
    }
    return false;
  }

  void offer(std::vector<Event>& possible, std::size_t rank, std::size_t id) {
    const State& s = ranks_[rank].states[id];
    const Step& mine = step(rank, id);
    if (s.complete) return;
    if (!s.started) {
      for (const StepId before : mine.after) {
        if (!ranks_[rank].states[static_cast<std::size_t>(before)].complete) return;
      }
      if (receives(mine.kind) && !at_head(rank, id, false)) return;
    } else if (receives(mine.kind) && !s.taken) {
      const auto queue = links_.find(in_link(rank, mine));
      if (queue == links_.end() || queue->second.empty()) return;
    } else if (sends(mine.kind)) {
      if (!at_head(rank, id, true)) return;
      const Link link = out_link(rank, mine);
      const auto queued = links_[link].size();
      const auto capacity = static_cast<std::size_t>(options_.link_capacity);
      if (capacity > 0 ? queued >= capacity : (queued > 0 || !receiver_waits(link))) return;
    }
    possible.push_back({rank, id});
  }

  std::vector<Value> read(std::size_t rank, Slice slice) {
    std::vector<Value> values;
    for (int i = 0; i < slice.count; ++i) {
      values.push_back(
          ranks_[rank].cells[static_cast<std::size_t>(ranks_[rank].map.first(slice) + i)]);
    }
    return values;
  }
  void write(std::size_t rank, Slice slice, const std::vector<Value>& values) {
    for (int i = 0; i < slice.count; ++i) {
      ranks_[rank].cells[static_cast<std::size_t>(ranks_[rank].map.first(slice) + i)] =
          values[static_cast<std::size_t>(i)];
    }
  }
  // Memory about to be written may hold anything from now on.
  void spoil(std::size_t rank, const Step& s) {
    std::vector<Value> values;
    for (int i = 0; i < s.to.count; ++i) values.push_back(garbage());
    const bool in_use = (receives(s.kind) || s.kind == StepKind::copy) && reads_from(s.kind) &&
                        ranks_[rank].map.first(s.from) == ranks_[rank].map.first(s.to);
    if (!in_use) write(rank, s.to, values);
  }

  static void divide(const Step& s, std::vector<Value>& values) {
    if (!s.completes) return;
    for (Value& value : values) value.sum *= kDivision;
  }

  void move(const Event& e) {
    State& s = state(e);
    const Step& mine = step(e.rank, e.step);
    if (!s.started) return start(e, s, mine);
    if (receives(mine.kind) && !s.taken) return take(e, s, mine);
    if (sends(mine.kind)) {
      links_[out_link(e.rank, mine)].push_back(is_fused(mine.kind) ? s.held
                                                                   : read(e.rank, mine.from));
    } else {
      write(e.rank, mine.to, s.held);
    }
    s.complete = true;
  }

  void start(const Event& e, State& s, const Step& mine) {
    s.started = true;
    if (mine.kind == StepKind::copy) s.held = read(e.rank, mine.from);
    if (mine.kind == StepKind::reduce) {
      s.held = read(e.rank, mine.operands.front());
      for (std::size_t k = 1; k < mine.operands.size(); ++k) {
        const std::vector<Value> more = read(e.rank, mine.operands[k]);
        for (std::size_t i = 0; i < more.size(); ++i) s.held[i] = s.held[i] + more[i];
      }
      divide(mine, s.held);
    }
    if (mine.kind != StepKind::send) spoil(e.rank, mine);
  }

  void take(const Event& e, State& s, const Step& mine) {
    auto& queue = links_[in_link(e.rank, mine)];
    std::vector<Value> values = queue.front();
    queue.pop_front();
    if (reads_from(mine.kind)) {
      const std::vector<Value> more = read(e.rank, mine.from);
      for (std::size_t i = 0; i < more.size(); ++i) values[i] = values[i] + more[i];
      divide(mine, values);
    }
    write(e.rank, mine.to, values);
    s.taken = true;
    s.held = values;
    s.complete = !sends(mine.kind);
  }

  // What `rank` must have in output chunk c, and whether it is a sum (whose bits ranks agree on).
  Value expected(const Problem& problem, int cut, int c, bool& is_sum) const {
    const int n = problem.world_size;
    const int own = problem.rank * cut + c % cut;
    is_sum = is_reducing(problem.collective) || problem.collective == Collective::barrier;
    if (is_sum) {
      Value sum;
      const int chunk = problem.collective == Collective::reduce_scatter ? own : c;
      for (int r = 0; r < n; ++r) sum = sum + contribution(r, chunk);
      if (is_reducing(problem.collective) && n > 1) sum.sum *= kDivision;
      return sum;
    }
    switch (problem.collective) {
      case Collective::broadcast:
        return contribution(problem.root, c);
      case Collective::scatter:
        return contribution(problem.root, own);
      case Collective::all_to_all:
        return contribution(c / cut, own);
      default:
        return contribution(c / cut, c % cut);
    }
  }

  std::string check() {
    std::map<int, double> agreed;
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      const Problem& problem = schedules_[r].problem;
      const bool root_only =
          problem.collective == Collective::reduce || problem.collective == Collective::gather;
      if (root_only && problem.rank != problem.root) continue;
      for (int c = 0; c < chunk_count(schedules_[r], Buffer::output); ++c) {
        const Value found = read(r, {Buffer::output, c, 1}).front();
        bool is_sum = false;
        const Value wanted = expected(problem, schedules_[r].chunks_per_block, c, is_sum);
        if (found.heard != wanted.heard) return fmt::format("rank {} out[{}]: others' data", r, c);
        if (problem.collective == Collective::barrier) continue;
        if (found.sum != wanted.sum) return fmt::format("rank {} out[{}]: wrong sum", r, c);
        if (!is_sum && found.bits != wanted.bits) return fmt::format("rank {}: wrong copy", r);
        if (problem.collective != Collective::all_reduce) continue;
        const double bits = agreed.emplace(c, found.bits).first->second;
        if (std::bit_cast<std::uint64_t>(bits) != std::bit_cast<std::uint64_t>(found.bits)) {
          return fmt::format("rank {} out[{}]: other bits than on rank 0", r, c);
        }
      }
    }
    return {};
  }

  std::span<const Schedule> schedules_;
  ConcreteOptions options_;
  std::mt19937_64 random_;
  std::vector<Rank> ranks_;
  std::map<Link, std::deque<std::vector<Value>>> links_;
};

TEST(Concrete, AgreesThatSchedulesAreRight) {
  std::uint64_t seed = 1;
  for (const Algorithm& algorithm : algorithms()) {
    for (const Collective collective : scheduled_collectives()) {
      for (int n = 1; n <= 7; ++n) {
        if (!algorithm.supports({collective, 0, n, 0})) continue;
        for (const Variant& variant : {Variant{1, false, 1}, Variant{2, true, 2}}) {
          const auto world = emit_world(algorithm, collective, n, (n - 1) / 2, variant);
          for (const bool in_place : {false, true}) {
            ++seed;
            EXPECT_EQ(run_concretely(world, {static_cast<int>(seed % 3), in_place, seed}), "")
                << text_of(variant) << "\n"
                << text_of(world);
          }
        }
      }
    }
  }
}

}  // namespace

std::string run_concretely(std::span<const Schedule> schedules, const ConcreteOptions& options) {
  return ConcreteRun(schedules, options).run();
}

}  // namespace weft::comm
