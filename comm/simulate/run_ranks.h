// The state of a simulation: queues of messages, cores, and the events that move them on.
//
// What an event sets off on its rank is followed to the end at once: a message received at t and
// reduced until t + d lets the sends that waited for it start at t + d. That is right as long as
// everything a rank does goes through its one core, in order; only what goes on while no core is
// busy, the end of a transfer, needs an event of its own.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "comm/simulate/big_vector.h"
#include "comm/simulate/event_queue.h"
#include "comm/simulate/links.h"
#include "comm/simulate/network.h"
#include "comm/simulate/program.h"
#include "comm/simulate/timeline.h"

namespace weft::comm::simulate {

// Lengths of chunks: as Layout (schedule/layout.h) cuts blocks of equal size, here in bytes.
class ChunkBytes {
 public:
  ChunkBytes(const Programs& programs, std::int64_t block_bytes, int tiles);
  double of(const Node& node, std::int32_t tile, std::int32_t rank) const;

 private:
  std::int64_t begin(std::int64_t chunk) const;
  double of_pieces(const Node& node, std::int32_t tile) const;

  const Programs& programs_;
  std::int64_t block_;
  std::int64_t tiles_;
  std::int64_t per_block_;  // tiled chunks
  std::int64_t each_;       // units of 64 bytes a chunk
  std::int64_t more_;       // the first so many chunks have one unit more
  double even_ = -1;        // length of every chunk, where all are equal
};

class RankRun {
 public:
  RankRun(const Programs& programs, const Network& network, std::int64_t block_bytes, int tiles,
          int lanes, Timeline* timeline);

  // Until nothing is left. Throws Mismatch if some rank waits for what never comes.
  void run();

  double finished_us(std::int32_t rank) const { return at(rank).finished; }
  double busy_us(std::int32_t rank) const { return at(rank).busy; }
  std::int64_t messages() const { return messages_; }
  std::int64_t events() const { return events_count_; }
  const Links& links() const { return links_; }

 private:
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  enum class What : std::uint32_t { arrival, poll, local, start, check };

  // The messages of one pair of ranks on one lane in one direction.
  struct alignas(64) Queue {
    double free_at = 0;  // when the transfer in progress lets go
    std::int32_t rank = 0;
    std::int32_t peer = 0;
    std::int32_t order = 0;    // where the pair's nodes begin, in Programs::order
    std::int32_t end = 0;      // positions on this lane
    std::int32_t next = 0;     // position at the head
    std::int32_t arrived = 0;  // of receives
    std::uint32_t other = 0;   // the queue at the other end
    // The tile that the head is known to wait for; node -1: it waits for no
    // tile, or nobody has looked at it yet.
    std::int32_t blocking_node = -1;
    std::int32_t blocking_tile = 0;
    std::int16_t lane = 0;
    bool sends = false;
    bool polls = false;  // an event is on its way
    bool busy = false;   // being emptied right now
  };

  struct Rank {
    double core_free = 0;
    double busy = 0;
    double finished = 0;
    double slowdown = 1;
    double delay = 0;
    std::int32_t host = 0;
    std::int32_t pool = -1;
    std::uint32_t first_queue = 0;
    std::uint32_t first_local = 0;
    bool local_event = false;
    std::vector<std::int32_t> ready;  // local nodes, last in first out
  };

  struct Local {
    std::int32_t done = 0;    // tiles
    std::int32_t issued = 0;  // done or ready
    double ready_at = 0;
  };

  struct Head {
    std::int32_t node;
    std::int32_t tile;
  };

  // run_ranks_setup.cc
  void make_ranks();
  void make_queues();
  void connect_queues();
  void slow_down();
  void check_finished() const;

  // run_ranks.cc
  void start(std::int32_t rank, double now);
  void send_check(std::int32_t rank, double now);
  void poll(std::uint32_t queue, double time);
  void poll_later(std::uint32_t queue, double time);
  void send(std::uint32_t queue, double time);
  void start_transfer(Queue& queue, Head head, double time);
  void receive(std::uint32_t queue, double time);
  void take(Queue& queue, Head head, double time);
  void try_local(std::int32_t rank, std::int32_t node, double time);
  void run_local(std::int32_t rank, double now);
  void complete(std::int32_t rank, Head what, double time);
  double head_ready_time(Queue& queue, Head head) const;
  double ready_time(std::int32_t rank, Head head, Head& blocking) const;
  double done_time(const Rank& rank, const Wait& wait, Head& earlier, std::int32_t first) const;
  double compute(std::int32_t rank, double earliest, double cost);

  const Rank& at(std::int32_t rank) const { return ranks_[static_cast<std::size_t>(rank)]; }
  Rank& at(std::int32_t rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  const Node& node_of(std::int32_t id) const {
    return programs_.nodes[static_cast<std::size_t>(id)];
  }
  Local& local_of(std::int32_t rank, const Node& node) {
    return locals_[at(rank).first_local + static_cast<std::size_t>(node.index)];
  }
  Head head_of(const Queue& queue) const {
    const std::int64_t k = std::int64_t{queue.next} * lanes_ + queue.lane;
    const auto message = static_cast<std::int32_t>(k / tiles_);
    return {programs_.order[static_cast<std::size_t>(queue.order + message)],
            static_cast<std::int32_t>(k % tiles_)};
  }
  void push(double time, What what, std::uint32_t which) {
    events_.push(time, static_cast<std::uint32_t>(what) << 29 | which);
  }

  const Programs& programs_;
  const Network& network_;
  ChunkBytes bytes_;
  Links links_;
  Timeline* timeline_;
  std::int32_t tiles_;
  std::int32_t lanes_;
  EventQueue events_;
  BigVector<Rank> ranks_;
  BigVector<Queue> queues_;
  BigVector<Local> locals_;
  std::vector<std::vector<double>> pools_;  // of cores that ranks share: when each is free
  std::int64_t messages_ = 0;
  std::int64_t events_count_ = 0;
};

}  // namespace weft::comm::simulate
