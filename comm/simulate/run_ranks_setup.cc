// What a simulation starts with, and whether it came to its end.
#include <algorithm>
#include <utility>

#include "comm/simulate/run_ranks.h"
#include "kernels/base/check.h"
#include "kernels/base/error.h"

namespace weft::comm::simulate {

RankRun::RankRun(const Programs& programs, const Network& network, std::int64_t block_bytes,
                 int tiles, int lanes, Timeline* timeline)
    : programs_(programs),
      network_(network),
      bytes_(programs, block_bytes, tiles),
      links_(network),
      timeline_(timeline),
      tiles_(tiles),
      lanes_(lanes) {
  make_ranks();
  slow_down();
  make_queues();
  connect_queues();
}

void RankRun::make_ranks() {
  const CpuModel& cpu = network_.cpu;
  ranks_.resize(static_cast<std::size_t>(programs_.world_size));
  std::int32_t rank = 0;
  std::size_t locals = 0;
  for (std::int32_t host = 0; host < network_.hosts(); ++host) {
    const std::int32_t count = network_.ranks_on_hosts[static_cast<std::size_t>(host)];
    if (cpu.cores_of_all_hosts == 0 && cpu.cores_per_host > 0 && cpu.cores_per_host < count) {
      pools_.emplace_back(static_cast<std::size_t>(cpu.cores_per_host), 0.0);
    }
    const bool shares =
        cpu.cores_of_all_hosts == 0 && !pools_.empty() && cpu.cores_per_host < count;
    for (std::int32_t k = 0; k < count; ++k, ++rank) {
      Rank& mine = at(rank);
      mine.host = host;
      mine.pool = shares ? static_cast<std::int32_t>(pools_.size()) - 1 : -1;
      mine.first_local = static_cast<std::uint32_t>(locals);
      locals += static_cast<std::size_t>(programs_.of(rank).locals);
    }
  }
  if (cpu.cores_of_all_hosts > 0 && cpu.cores_of_all_hosts < programs_.world_size) {
    pools_.emplace_back(static_cast<std::size_t>(cpu.cores_of_all_hosts), 0.0);
    for (Rank& mine : ranks_) mine.pool = 0;
  }
  locals_.resize(locals);
}

void RankRun::slow_down() {
  for (const Straggler& slow : network_.stragglers) {
    for (std::int32_t rank = 0; rank < programs_.world_size; ++rank) {
      if (slow.rank >= 0 ? rank != slow.rank : at(rank).host != slow.host) continue;
      at(rank).slowdown *= slow.cpu_slowdown;
      at(rank).delay += slow.delay_us;
    }
  }
}

void RankRun::make_queues() {
  std::int64_t count = 0;
  for (std::int32_t rank = 0; rank < programs_.world_size; ++rank) {
    at(rank).first_queue = static_cast<std::uint32_t>(count);
    count += std::int64_t{programs_.of(rank).links} * lanes_;
  }
  constexpr std::int64_t kQueuesMax = std::int64_t{1} << 29;  // what events can name
  if (count >= kQueuesMax) {
    fail<Unsupported>("{} queues between {} ranks; at most {} are simulated", count,
                      programs_.world_size, kQueuesMax - 1);
  }
  queues_.resize(static_cast<std::size_t>(count));
  const std::int32_t n = programs_.world_size;
  std::size_t at_queue = 0;
  for (std::int32_t rank = 0; rank < n; ++rank) {
    const RankProgram& program = programs_.of(rank);
    for (std::int32_t k = 0; k < program.links; ++k) {
      const LinkList& link = programs_.links[static_cast<std::size_t>(program.first_link + k)];
      const std::int64_t messages = std::int64_t{link.messages} * tiles_;
      WEFT_ASSERT(messages < std::numeric_limits<std::int32_t>::max(), "positions are 32 bits");
      for (std::int32_t lane = 0; lane < lanes_; ++lane) {
        Queue& queue = queues_[at_queue++];
        queue.rank = rank;
        queue.peer = programs_.rotates ? (link.peer + rank) % n : link.peer;
        queue.order = link.first;
        queue.end = static_cast<std::int32_t>((messages - lane + lanes_ - 1) / lanes_);
        queue.lane = static_cast<std::int16_t>(lane);
        queue.sends = link.sends;
      }
    }
  }
}

// Each send queue finds the receive queue at its peer.
void RankRun::connect_queues() {
  const std::int32_t n = programs_.world_size;
  std::vector<std::pair<std::int32_t, std::uint32_t>> receives;  // peer, queue; of one rank
  std::vector<std::size_t> first(static_cast<std::size_t>(n) + 1, 0);
  for (std::int32_t rank = 0; rank < n; ++rank) {
    first[static_cast<std::size_t>(rank)] = receives.size();
    const auto begin = receives.end() - receives.begin();
    const std::uint32_t queues = at(rank).first_queue;
    const auto links = static_cast<std::uint32_t>(programs_.of(rank).links);
    for (std::uint32_t k = 0; k < links; ++k) {
      const auto id = queues + k * static_cast<std::uint32_t>(lanes_);
      if (!queues_[id].sends) receives.emplace_back(queues_[id].peer, id);
    }
    std::sort(receives.begin() + begin, receives.end());
  }
  first.back() = receives.size();
  for (std::size_t id = 0; id < queues_.size(); ++id) {
    Queue& queue = queues_[id];
    if (!queue.sends) continue;
    const auto to = static_cast<std::size_t>(queue.peer);
    const auto begin = receives.begin() + static_cast<std::ptrdiff_t>(first[to]);
    const auto end = receives.begin() + static_cast<std::ptrdiff_t>(first[to + 1]);
    const auto found = std::lower_bound(begin, end, std::pair(queue.rank, std::uint32_t{0}));
    if (found == end || found->first != queue.rank) {
      fail<Mismatch>("rank {} sends to rank {}, which receives nothing from it", queue.rank,
                     queue.peer);
    }
    queue.other = found->second + static_cast<std::uint32_t>(queue.lane);
  }
}

void RankRun::check_finished() const {
  for (const Queue& queue : queues_) {
    if (queue.next == queue.end) continue;
    fail<Mismatch>("the schedules do not end: rank {} has {} {} of {} messages {} rank {}",
                   queue.rank, queue.sends ? "sent" : "received", queue.next, queue.end,
                   queue.sends ? "to" : "from", queue.peer);
  }
  for (std::int32_t rank = 0; rank < programs_.world_size; ++rank) {
    for (std::int32_t k = 0; k < programs_.of(rank).locals; ++k) {
      if (locals_[at(rank).first_local + static_cast<std::size_t>(k)].done == tiles_) continue;
      fail<Mismatch>("the schedules do not end: rank {} waits before a local step", rank);
    }
  }
}

}  // namespace weft::comm::simulate
