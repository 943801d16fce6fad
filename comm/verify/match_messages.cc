#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "comm/verify/world.h"

namespace weft::comm {

namespace {

struct End {
  std::int32_t source;
  std::int32_t target;
  std::int32_t lane;
  StepRef step;

  auto link() const { return std::tie(source, target, lane); }
};

// Steps of a link belong to one rank, and are listed in the order of their ids.
void sort_by_link(std::vector<End>& ends) {
  std::sort(ends.begin(), ends.end(), [](const End& a, const End& b) {
    return std::tie(a.source, a.target, a.lane, a.step.id) <
           std::tie(b.source, b.target, b.lane, b.step.id);
  });
}

void check_lengths(const World& world, const Message& message) {
  const Slice sent = payload_of(world.step(message.sender));
  const Slice taken = payload_of(world.step(message.receiver));
  bool equal = sent.count == taken.count;
  for (std::int32_t i = 0; equal && i < sent.count; ++i) {
    equal = chunk_class(world.schedule(message.sender.rank), sent, i) ==
            chunk_class(world.schedule(message.receiver.rank), taken, i);
  }
  if (!equal) {
    throw Refuted{fmt::format("matched messages are not equally long:\n  {}\n  {}",
                              world.text(message.sender), world.text(message.receiver))};
  }
}

}  // namespace

void match_messages(World& world) {
  std::vector<End> sent;
  std::vector<End> taken;
  for (std::int32_t rank = 0; rank < world.size(); ++rank) {
    StepId id = 0;
    for (const Step& step : world.schedule(rank).steps) {
      if (sends(step.kind))
        sent.push_back({rank, target_of(step), target_lane_of(step), {rank, id}});
      if (receives(step.kind)) taken.push_back({step.peer, rank, step.lane, {rank, id}});
      ++id;
    }
  }
  sort_by_link(sent);
  sort_by_link(taken);
  for (std::size_t m = 0; m < std::max(sent.size(), taken.size()); ++m) {
    const bool no_receive =
        m >= taken.size() || (m < sent.size() && sent[m].link() < taken[m].link());
    const bool no_send = m >= sent.size() || (m < taken.size() && taken[m].link() < sent[m].link());
    if (no_receive) {
      throw Refuted{fmt::format("a message is left over, nobody receives it:\n  {}",
                                world.text(sent[m].step))};
    }
    if (no_send) {
      throw Refuted{fmt::format("a receive waits for ever, nobody sends to it:\n  {}",
                                world.text(taken[m].step))};
    }
  }
  const auto steps = static_cast<std::size_t>(world.offsets.back());
  world.incoming.assign(steps, -1);
  world.outgoing.assign(steps, -1);
  world.messages.reserve(sent.size());
  for (std::size_t m = 0; m < sent.size(); ++m) {
    const bool first = m == 0 || sent[m].link() != sent[m - 1].link();
    world.messages.push_back({sent[m].step, taken[m].step, first});
    world.outgoing[world.index(sent[m].step)] = static_cast<std::int32_t>(m);
    world.incoming[world.index(taken[m].step)] = static_cast<std::int32_t>(m);
    check_lengths(world, world.messages.back());
  }
}

}  // namespace weft::comm
