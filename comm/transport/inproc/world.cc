#include "comm/transport/inproc/world.h"

namespace weft::comm::inproc {

void Mailbox::notify() {
  events.fetch_add(
      1);  // sequentially consistent, like the flag: one of the two sides sees the other
  if (!sleeping.load()) return;
  { const std::lock_guard lock(mutex); }
  moved.notify_all();
}

void Mailbox::sleep(std::uint64_t seen, std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex);
  sleeping.store(true);
  moved.wait_for(lock, timeout, [&] { return events.load() != seen; });
  sleeping.store(false);
}

World::World(int size, int lanes)
    : size_(size),
      lanes_(lanes),
      mailboxes_(static_cast<std::size_t>(size)),
      presence_(static_cast<std::size_t>(size)) {
  const std::size_t per_pair = static_cast<std::size_t>(lanes) + 1;
  pipes_.resize(static_cast<std::size_t>(size) * static_cast<std::size_t>(size) * per_pair);
  for (auto& pipe : pipes_) pipe = std::make_unique<Pipe>();
  for (auto& presence : presence_) presence.store(Presence::here);
}

Pipe& World::pipe(int from, int to, int lane) {
  const auto pair = static_cast<std::size_t>(from) * static_cast<std::size_t>(size_) +
                    static_cast<std::size_t>(to);
  return *pipes_[pair * (static_cast<std::size_t>(lanes_) + 1) +
                 static_cast<std::size_t>(lane + 1)];
}

void World::set_presence(int rank, Presence presence) {
  presence_[static_cast<std::size_t>(rank)].store(presence);
  for (auto& mailbox : mailboxes_) mailbox.notify();
}

}  // namespace weft::comm::inproc
