// Runs all ranks at once on expressions. Everything a step waits for (its `after`, its turn on a
// link, room on the link, the other end) only ever turns from missing to there, so the order in
// which runnable steps are taken changes neither who can run nor, without hazards, any value: one
// run stands for all, and what is left over when nothing can run is a deadlock.
#include <fmt/format.h>

#include <vector>

#include "comm/schedule/cells.h"
#include "comm/verify/expressions.h"
#include "comm/verify/outcome.h"
#include "comm/verify/world.h"

namespace weft::comm {

namespace {

class Run {
 public:
  explicit Run(const World& world);
  void run();

 private:
  enum class Move : std::uint8_t { start, send, take };
  struct Item {
    Move move;
    std::int32_t target;  // start: the step's index; else the message
  };

  void push(Move move, std::int32_t target) { work_.push_back({move, target}); }
  bool ready(StepRef ref) const { return waiting_[world_.index(ref)] == 0; }
  bool has_next(std::size_t m) const {
    return m + 1 < world_.messages.size() && !world_.messages[m + 1].first;
  }

  void start(std::int32_t index);
  void try_send(std::size_t m);
  void try_take(std::size_t m);
  void complete(StepRef ref);

  bool room_to_send(std::size_t m) const;
  StepRef ref_of(std::int32_t index) const {
    return {owner_[static_cast<std::size_t>(index)],
            static_cast<StepId>(
                index -
                world_.offsets[static_cast<std::size_t>(owner_[static_cast<std::size_t>(index)])])};
  }

  NodeId& cell(std::int32_t rank, Slice slice, std::int32_t i) {
    const auto r = static_cast<std::size_t>(rank);
    return values_[r][static_cast<std::size_t>(maps_[r].first(slice) + i)];
  }
  NodeId read(StepRef ref, Slice slice, std::int32_t i);
  void check_completes(StepRef ref, std::int32_t i, NodeId value);
  void fold(StepRef ref);

  StepRef blocker(StepRef ref) const;
  [[noreturn]] void report_deadlock() const;

  const World& world_;
  Outcome outcome_;
  std::vector<CellMap> maps_;                // by rank
  std::vector<std::vector<NodeId>> values_;  // by rank and cell
  std::vector<std::int32_t> owner_;          // by step: its rank
  std::vector<std::int32_t> waiting_;        // by step: how many of `after` are not complete
  std::vector<bool> done_;                   // by step
  std::vector<std::int64_t> dependents_at_;  // by step: where its dependents begin
  std::vector<std::int32_t> dependents_;
  std::vector<bool> sent_, taken_;        // by message
  std::vector<std::int64_t> payload_at_;  // by message
  std::vector<NodeId> payloads_;
  std::vector<Item> work_;
  std::vector<NodeId> operands_;
  std::int64_t completed_ = 0;
};

Run::Run(const World& world)
    : world_(world), outcome_(world.problem(), world.schedules.front().chunks_per_block) {
  const auto steps = static_cast<std::size_t>(world.offsets.back());
  owner_.reserve(steps);
  waiting_.reserve(steps);
  done_.resize(steps);
  dependents_at_.assign(steps + 1, 0);
  for (std::int32_t rank = 0; rank < world.size(); ++rank) {
    const Schedule& schedule = world.schedule(rank);
    maps_.emplace_back(schedule, world.options.in_place);
    values_.emplace_back(static_cast<std::size_t>(maps_.back().size()), kUnwritten);
    outcome_.put_contributions(rank,
                               [&](Slice slice, NodeId leaf) { cell(rank, slice, 0) = leaf; });
    for (const Step& step : schedule.steps) {
      owner_.push_back(rank);
      waiting_.push_back(static_cast<std::int32_t>(step.after.size()));
      for (const StepId before : step.after) ++dependents_at_[world.index({rank, before}) + 1];
    }
  }
  for (std::size_t i = 0; i < steps; ++i) dependents_at_[i + 1] += dependents_at_[i];
  dependents_.resize(static_cast<std::size_t>(dependents_at_.back()));
  std::vector<std::int64_t> fill(dependents_at_.begin(), dependents_at_.end() - 1);
  for (std::size_t i = 0; i < steps; ++i) {
    const StepRef ref = ref_of(static_cast<std::int32_t>(i));
    for (const StepId before : world.step(ref).after) {
      const std::int64_t at = fill[world.index({ref.rank, before})]++;
      dependents_[static_cast<std::size_t>(at)] = static_cast<std::int32_t>(i);
    }
  }
  sent_.resize(world.messages.size());
  taken_.resize(world.messages.size());
  std::int64_t payload = 0;
  for (const Message& message : world.messages) {
    payload_at_.push_back(payload);
    payload += payload_of(world.step(message.sender)).count;
  }
  payloads_.resize(static_cast<std::size_t>(payload), kUnwritten);
}

void Run::run() {
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    if (waiting_[i] == 0) push(Move::start, static_cast<std::int32_t>(i));
    while (!work_.empty()) {
      const Item item = work_.back();
      work_.pop_back();
      if (item.move == Move::start) start(item.target);
      if (item.move == Move::send) try_send(static_cast<std::size_t>(item.target));
      if (item.move == Move::take) try_take(static_cast<std::size_t>(item.target));
    }
  }
  if (completed_ < world_.offsets.back()) report_deadlock();
  for (std::int32_t rank = 0; rank < world_.size(); ++rank) {
    outcome_.check_result(rank, [&](Slice slice) { return cell(rank, slice, 0); });
  }
}

// All of the step's `after` are complete.
void Run::start(std::int32_t index) {
  if (done_[static_cast<std::size_t>(index)]) return;
  const StepRef ref = ref_of(index);
  const std::int32_t in = world_.incoming[static_cast<std::size_t>(index)];
  const std::int32_t out = world_.outgoing[static_cast<std::size_t>(index)];
  if (in >= 0) {
    push(Move::take, in);
    push(Move::send, in);  // over a rendezvous the sender waits for us
  } else if (out >= 0) {
    push(Move::send, out);
  } else {
    fold(ref);
    complete(ref);
  }
}

bool Run::room_to_send(std::size_t m) const {
  const int capacity = world_.options.link_capacity;
  if (capacity == 0) {
    return ready(world_.messages[m].receiver) && (world_.messages[m].first || taken_[m - 1]);
  }
  // The message `capacity` places before on this link must have been taken.
  std::size_t at = m;
  for (int i = 0; i < capacity; ++i) {
    if (world_.messages[at].first) return true;
    --at;
  }
  return taken_[at];
}

void Run::try_send(std::size_t m) {
  const Message& message = world_.messages[m];
  const StepRef ref = message.sender;
  const Step& step = world_.step(ref);
  if (sent_[m] || !ready(ref) || !(message.first || sent_[m - 1]) || !room_to_send(m)) return;
  if (is_fused(step.kind)) {
    if (!taken_[static_cast<std::size_t>(world_.incoming[world_.index(ref)])]) return;
  } else {
    for (std::int32_t i = 0; i < step.from.count; ++i) {
      payloads_[static_cast<std::size_t>(payload_at_[m] + i)] = read(ref, step.from, i);
    }
  }
  sent_[m] = true;
  complete(ref);
  push(Move::take, static_cast<std::int32_t>(m));
  if (has_next(m)) push(Move::send, static_cast<std::int32_t>(m) + 1);
}

void Run::try_take(std::size_t m) {
  const Message& message = world_.messages[m];
  const StepRef ref = message.receiver;
  const Step& step = world_.step(ref);
  if (taken_[m] || !sent_[m] || !ready(ref) || !(message.first || taken_[m - 1])) return;
  taken_[m] = true;
  const bool reduces =
      step.kind == StepKind::recv_reduce || step.kind == StepKind::recv_reduce_send;
  const std::int32_t onward = world_.outgoing[world_.index(ref)];
  for (std::int32_t i = 0; i < payload_of(step).count; ++i) {
    NodeId value = payloads_[static_cast<std::size_t>(payload_at_[m] + i)];
    if (reduces) {
      operands_.assign({value, read(ref, step.from, i)});
      value = outcome_.expressions().combine(operands_);
      check_completes(ref, i, value);
    }
    if (step.to.count > 0) cell(ref.rank, step.to, i) = value;
    if (onward >= 0) {
      const std::int64_t at = payload_at_[static_cast<std::size_t>(onward)] + i;
      payloads_[static_cast<std::size_t>(at)] = value;
    }
  }
  if (onward >= 0) {
    push(Move::send, onward);
  } else {
    complete(ref);
  }
  const int capacity = world_.options.link_capacity;
  if (has_next(m)) {
    push(Move::take, static_cast<std::int32_t>(m) + 1);
    push(Move::send, static_cast<std::int32_t>(m) + 1);
  }
  for (std::size_t next = m + 1; capacity > 1; ++next) {  // the first that had no room, if any
    if (!has_next(next - 1)) break;
    if (sent_[next]) continue;
    push(Move::send, static_cast<std::int32_t>(next));
    break;
  }
}

void Run::fold(StepRef ref) {
  const Step& step = world_.step(ref);
  for (std::int32_t i = 0; i < step.to.count; ++i) {
    if (step.kind == StepKind::copy) {
      cell(ref.rank, step.to, i) = read(ref, step.from, i);
      continue;
    }
    operands_.clear();
    for (const Slice& operand : step.operands) operands_.push_back(read(ref, operand, i));
    const NodeId value = outcome_.expressions().combine(operands_);
    check_completes(ref, i, value);
    cell(ref.rank, step.to, i) = value;
  }
}

void Run::complete(StepRef ref) {
  const std::size_t index = world_.index(ref);
  done_[index] = true;
  ++completed_;
  for (std::int64_t d = dependents_at_[index]; d < dependents_at_[index + 1]; ++d) {
    const std::int32_t dependent = dependents_[static_cast<std::size_t>(d)];
    if (--waiting_[static_cast<std::size_t>(dependent)] == 0) push(Move::start, dependent);
  }
}

NodeId Run::read(StepRef ref, Slice slice, std::int32_t i) {
  const NodeId value = cell(ref.rank, slice, i);
  if (value == kUnwritten) {
    throw Refuted{fmt::format("reads what nothing has written: {}", world_.text(ref))};
  }
  return value;
}

void Run::check_completes(StepRef ref, std::int32_t i, NodeId value) {
  if (!is_reducing(world_.problem().collective)) return;
  const Step& step = world_.step(ref);
  const std::int64_t chunk = chunk_class(world_.schedule(ref.rank), payload_of(step), i);
  const bool complete = outcome_.is_complete(value, static_cast<std::int32_t>(chunk));
  if (complete == step.completes) return;
  throw Refuted{fmt::format("{}: {}, yet its value is {}", world_.text(ref),
                            step.completes ? "completes a value" : "is said not to complete",
                            outcome_.describe(value))};
}

// A step that must move before this one can; called only when nothing can move.
StepRef Run::blocker(StepRef ref) const {
  const std::size_t index = world_.index(ref);
  if (waiting_[index] > 0) {
    for (const StepId before : world_.step(ref).after) {
      if (!done_[world_.index({ref.rank, before})]) return {ref.rank, before};
    }
  }
  const auto in = static_cast<std::size_t>(world_.incoming[index]);
  const auto out = static_cast<std::size_t>(world_.outgoing[index]);
  if (world_.incoming[index] >= 0 && !taken_[in]) {
    if (!world_.messages[in].first && !taken_[in - 1]) return world_.messages[in - 1].receiver;
    return world_.messages[in].sender;
  }
  if (!world_.messages[out].first && !sent_[out - 1]) return world_.messages[out - 1].sender;
  std::size_t at = out;
  for (int i = 0; i < world_.options.link_capacity; ++i) --at;
  if (world_.options.link_capacity == 0 && ready(world_.messages[out].receiver)) --at;
  return world_.messages[at].receiver;
}

void Run::report_deadlock() const {
  std::size_t stuck = 0;
  while (done_[stuck]) ++stuck;
  // Walk from step to blocking step until one comes again: the walk has then entered a cycle.
  std::vector<bool> visited(done_.size());
  StepRef ref = ref_of(static_cast<std::int32_t>(stuck));
  while (!visited[world_.index(ref)]) {
    visited[world_.index(ref)] = true;
    ref = blocker(ref);
  }
  std::string text = fmt::format("deadlock with {} messages a link:", world_.options.link_capacity);
  const StepRef first = ref;
  int lines = 0;
  do {
    text += fmt::format("\n  {} waits for", world_.text(ref));
    ref = blocker(ref);
  } while (world_.index(ref) != world_.index(first) && ++lines < 16);
  text += fmt::format("\n  {}", world_.text(ref));
  throw Refuted{text};
}

}  // namespace

void run_symbolically(const World& world) { Run(world).run(); }

}  // namespace weft::comm
