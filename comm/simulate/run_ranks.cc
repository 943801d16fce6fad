#include "comm/simulate/run_ranks.h"

#include <algorithm>

#include "kernels/base/check.h"

namespace weft::comm::simulate {

namespace {
constexpr double kGbyte = 1000;  // bytes a microsecond
constexpr std::uint32_t kWhich = (1u << 29) - 1;
}  // namespace

void RankRun::run() {
  for (std::int32_t rank = 0; rank < programs_.world_size; ++rank) {
    push(at(rank).delay, What::start, static_cast<std::uint32_t>(rank));
  }
  while (!events_.empty()) {
    const Event event = events_.pop();
    const double now = event.time();
    const std::uint32_t which = event.what & kWhich;
    ++events_count_;
    switch (static_cast<What>(event.what >> 29)) {
      case What::arrival:
        ++queues_[which].arrived;
        receive(which, now);
        break;
      case What::poll:
        queues_[which].polls = false;
        poll(which, now);
        break;
      case What::local:
        run_local(static_cast<std::int32_t>(which), now);
        break;
      case What::start:
        start(static_cast<std::int32_t>(which), now);
        break;
      case What::check: {
        const auto rank = static_cast<std::int32_t>(which);
        compute(rank, now, network_.cpu.receive_us);
        at(rank).finished = std::max(at(rank).finished, at(rank).core_free);
      }
    }
  }
  check_finished();
}

void RankRun::start(std::int32_t rank, double now) {
  Rank& mine = at(rank);
  mine.core_free = std::max(mine.core_free, now);
  mine.finished = std::max(mine.finished, now);
  const RankProgram& program = programs_.of(rank);
  if (programs_.world_size > 1 && !program.greets_next) send_check(rank, now);
  const auto queues = static_cast<std::uint32_t>(program.links * lanes_);
  for (std::uint32_t k = 0; k < queues; ++k) poll(mine.first_queue + k, now);
  if (program.locals == 0) return;
  for (std::int32_t id = program.first_node; id < program.first_node + program.nodes; ++id) {
    if (node_of(id).link < 0) try_local(rank, id, now);
  }
}

// The empty frame between ring neighbours by which ranks notice that they disagree (see RingCheck
// in comm/execute/plan.h), where no message of the algorithm's own shows it.
void RankRun::send_check(std::int32_t rank, double now) {
  const std::int32_t next = (rank + 1) % programs_.world_size;
  const double start = compute(rank, now, network_.cpu.send_us);
  const Passage passage =
      links_.pass(at(rank).host, at(next).host, start + network_.cpu.send_us, 0);
  push(std::max(passage.arrived, at(next).delay), What::check, static_cast<std::uint32_t>(next));
}

void RankRun::poll(std::uint32_t queue, double time) {
  if (queues_[queue].sends) {
    send(queue, time);
  } else {
    receive(queue, time);
  }
}

void RankRun::poll_later(std::uint32_t queue, double time) {
  if (queues_[queue].polls) return;
  queues_[queue].polls = true;
  push(time, What::poll, queue);
}

void RankRun::send(std::uint32_t id, double time) {
  Queue& queue = queues_[id];
  if (queue.busy || time < at(queue.rank).delay) return;
  queue.busy = true;
  while (queue.next < queue.end) {
    const Head head = head_of(queue);
    const double ready = std::max(head_ready_time(queue, head), queue.free_at);
    if (ready > time) {
      if (ready < kNever) poll_later(id, ready);
      break;
    }
    start_transfer(queue, head, time);
  }
  queue.busy = false;
}

void RankRun::start_transfer(Queue& queue, Head head, double time) {
  const CpuModel& cpu = network_.cpu;
  const std::int32_t to = queue.peer;
  const double size = bytes_.of(node_of(head.node), head.tile, queue.rank);
  const Rank& mine = at(queue.rank);
  const bool near = mine.host == at(to).host;
  const double fixed = near ? network_.memory.message_us : cpu.send_us;
  const double cost = near ? fixed : fixed + size / (cpu.send_gbyte_s * kGbyte);
  const double start = compute(queue.rank, time, cost);
  // The first bytes leave while later ones are still being handed over.
  const Passage passage = links_.pass(mine.host, at(to).host, start + fixed * mine.slowdown, size);
  const double handed_over = mine.core_free;
  double sent = passage.sent;
  if (!near) sent -= links_.drain_us(mine.host, network_.link.send_buffer_bytes);
  queue.free_at = std::max(handed_over, sent);
  push(std::max(passage.arrived, handed_over), What::arrival, queue.other);
  ++queue.next;
  queue.blocking_node = -1;
  ++messages_;
  if (timeline_ != nullptr && timeline_->keeps(queue.rank)) {
    timeline_->add(Timeline::Kind::send, queue.rank, to, queue.lane, start, handed_over, size);
    timeline_->add(Timeline::Kind::transfer, queue.rank, to, queue.lane, start, queue.free_at,
                   size);
  }
  complete(queue.rank, head, queue.free_at);
}

void RankRun::receive(std::uint32_t id, double time) {
  Queue& queue = queues_[id];
  if (queue.busy || queue.arrived <= queue.next || time < at(queue.rank).delay) return;
  queue.busy = true;
  while (queue.arrived > queue.next) {
    const Head head = head_of(queue);
    const double ready = head_ready_time(queue, head);
    if (ready > time) {
      if (ready < kNever) poll_later(id, ready);
      break;
    }
    take(queue, head, time);
  }
  queue.busy = false;
}

void RankRun::take(Queue& queue, Head head, double time) {
  const CpuModel& cpu = network_.cpu;
  const Node& node = node_of(head.node);
  const double size = bytes_.of(node, head.tile, queue.rank);
  const bool near = at(queue.rank).host == at(queue.peer).host;
  const bool reduces = node.kind == NodeKind::recv_reduce;
  double cost = near ? network_.memory.message_us : cpu.receive_us;
  // A neighbour's memory is read by the reduction itself, without a copy.
  if (near && !reduces) cost += size / (network_.memory.copy_gbyte_s * kGbyte);
  if (!near) cost += size / (cpu.receive_gbyte_s * kGbyte);
  const double reduction = reduces ? size / (cpu.reduce_gbyte_s * kGbyte) : 0;
  const double start = compute(queue.rank, time, cost + reduction);
  ++queue.next;
  queue.blocking_node = -1;
  if (timeline_ != nullptr && timeline_->keeps(queue.rank)) {
    const double middle = start + cost * at(queue.rank).slowdown;
    timeline_->add(Timeline::Kind::receive, queue.rank, queue.peer, queue.lane, start, middle,
                   size);
    timeline_->add(Timeline::Kind::reduce, queue.rank, queue.peer, queue.lane, middle,
                   at(queue.rank).core_free, size);
  }
  complete(queue.rank, head, at(queue.rank).core_free);
}

void RankRun::try_local(std::int32_t rank, std::int32_t id, double time) {
  const Node& node = node_of(id);
  Local& local = local_of(rank, node);
  if (local.issued > local.done || local.done == tiles_) return;
  Head blocking;
  const double ready = ready_time(rank, {id, local.done}, blocking);
  if (ready == kNever) return;
  Rank& mine = at(rank);
  ++local.issued;
  local.ready_at = std::max(ready, time);
  mine.ready.push_back(id);
  if (mine.local_event) return;
  mine.local_event = true;
  push(std::max(local.ready_at, mine.core_free), What::local, static_cast<std::uint32_t>(rank));
}

// One tile; messages come first, as in the executor's rounds.
void RankRun::run_local(std::int32_t rank, double now) {
  Rank& mine = at(rank);
  if (mine.core_free > now)
    return push(mine.core_free, What::local, static_cast<std::uint32_t>(rank));
  const std::int32_t id = mine.ready.back();
  const Node& node = node_of(id);
  Local& local = local_of(rank, node);
  mine.ready.pop_back();
  const double size = bytes_.of(node, local.done, rank);
  double cost = size / (network_.cpu.copy_gbyte_s * kGbyte);
  if (node.kind == NodeKind::reduce) {
    cost = std::max(1, node.operands - 1) * size / (network_.cpu.reduce_gbyte_s * kGbyte);
  }
  if (node.moves_nothing) cost = 0;
  const double start = compute(rank, std::max(now, local.ready_at), cost);
  if (timeline_ != nullptr) {
    timeline_->add(node.kind == NodeKind::reduce ? Timeline::Kind::reduce : Timeline::Kind::copy,
                   rank, -1, 0, start, mine.core_free, size);
  }
  ++local.done;
  mine.local_event = !mine.ready.empty();
  if (mine.local_event) push(mine.core_free, What::local, static_cast<std::uint32_t>(rank));
  complete(rank, {id, local.done - 1}, mine.core_free);
  try_local(rank, id, mine.core_free);
}

// A tile is (or will be) complete at `time`: what waits for it may go on.
void RankRun::complete(std::int32_t rank, Head what, double time) {
  Rank& mine = at(rank);
  mine.finished = std::max(mine.finished, time);
  const Node& node = node_of(what.node);
  const auto first = static_cast<std::size_t>(node.first_dependent);
  for (std::size_t k = 0; k < static_cast<std::size_t>(node.dependents); ++k) {
    const auto [later, link] = programs_.dependents[first + k];
    if (link < 0) {
      try_local(rank, later, time);
      continue;
    }
    const auto queues = mine.first_queue + static_cast<std::uint32_t>(link * lanes_);
    for (auto id = queues; id < queues + static_cast<std::uint32_t>(lanes_); ++id) {
      const Queue& queue = queues_[id];
      // Heads that wait for something else, or for nothing any more, have their event to come.
      if (queue.blocking_node != what.node || queue.blocking_tile != what.tile) continue;
      if (node.kind == NodeKind::send) {
        poll_later(id, time);
      } else {
        poll(id, time);
      }
    }
  }
}

// When the head may go on; kNever if that is not known yet, and then why not is kept.
double RankRun::head_ready_time(Queue& queue, Head head) const {
  Head blocking{-1, 0};
  const double ready = ready_time(queue.rank, head, blocking);
  queue.blocking_node = blocking.node;
  queue.blocking_tile = blocking.tile;
  return ready;
}

// When everything that a tile waits for is complete. kNever if that is not known yet; `blocking`
// is then one tile that it waits for.
double RankRun::ready_time(std::int32_t rank, Head head, Head& blocking) const {
  const Node& node = node_of(head.node);
  double ready = 0;
  // The latest first: they are what is most likely still missing.
  for (std::int32_t k = node.first_wait + node.waits - 1; k >= node.first_wait; --k) {
    const Wait& wait = programs_.waits[static_cast<std::size_t>(k)];
    std::int32_t first = head.tile;
    Head earlier{wait.node, head.tile};
    if (tiles_ > 1 && (wait.shift != 0 || wait.mine != wait.theirs)) {
      const std::int64_t begin =
          std::int64_t{wait.shift} * tiles_ + std::int64_t{head.tile} * wait.mine;
      const std::int64_t end = std::min(begin + wait.mine, std::int64_t{wait.theirs} * tiles_);
      if (end <= 0 || begin >= end) continue;
      first = static_cast<std::int32_t>(std::max<std::int64_t>(begin, 0) / wait.theirs);
      earlier.tile = static_cast<std::int32_t>((end - 1) / wait.theirs);
    }
    ready = std::max(ready, done_time(at(rank), wait, earlier, first));
    if (ready == kNever) {
      blocking = earlier;
      break;
    }
  }
  return ready;
}

// When the tiles `first` .. earlier.tile of a node are complete; kNever if that is not known, and
// then `earlier` becomes one that is not.
double RankRun::done_time(const Rank& rank, const Wait& wait, Head& earlier,
                          std::int32_t first) const {
  if (wait.link < 0) {
    const Local& local = locals_[rank.first_local + static_cast<std::size_t>(wait.index)];
    return local.done > earlier.tile ? 0 : kNever;
  }
  const auto queues = rank.first_queue + static_cast<std::uint32_t>(wait.link * lanes_);
  double done = 0;
  // On each lane the last of these tiles counts.
  const std::int32_t last = earlier.tile;
  for (std::int32_t tile = last; tile >= first && tile > last - lanes_; --tile) {
    const std::int64_t k = std::int64_t{wait.index} * tiles_ + tile;
    const std::int64_t position = lanes_ == 1 ? k : k / lanes_;
    const auto lane = static_cast<std::uint32_t>(k - position * lanes_);
    const Queue& queue = queues_[queues + lane];
    if (queue.next <= position) {
      earlier.tile = tile;
      return kNever;
    }
    if (queue.sends && queue.next == position + 1) done = std::max(done, queue.free_at);
  }
  return done;
}

// Takes the rank's core, and one of those it shares with others, for `cost`; gives when it starts.
double RankRun::compute(std::int32_t rank, double earliest, double cost) {
  Rank& mine = at(rank);
  double start = std::max(earliest, mine.core_free);
  if (network_.cpu.wake_us > 0 && start - mine.core_free > network_.cpu.spin_us) {
    start += network_.cpu.wake_us;
  }
  cost *= mine.slowdown;
  if (mine.pool >= 0) {
    std::vector<double>& cores = pools_[static_cast<std::size_t>(mine.pool)];
    double& core = *std::min_element(cores.begin(), cores.end());
    start = std::max(start, core);
    core = start + cost;
  }
  mine.core_free = start + cost;
  mine.busy += cost;
  return start;
}

}  // namespace weft::comm::simulate
