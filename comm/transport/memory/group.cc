#include "comm/transport/memory/group.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <thread>
#include <utility>

namespace weft::comm::memory {

Group::Group(GroupMembers members, const AreaLayout& layout, std::shared_ptr<AddressBook> book)
    : members_(std::move(members)), layout_(layout), book_(std::move(book)) {
  for (const auto& area : members_.areas) areas_.push_back(area.get());
}

void Group::ring(int member) const {
  Bell& bell = area(member).bell;
  bell.rings.fetch_add(1);
  const Sleep sleep = bell.sleep.load();
  if (sleep == Sleep::on_futex) {
    ::syscall(SYS_futex, &bell.rings, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }
  if (sleep != Sleep::on_pipe) return;
  const int fd = members_.pipes.empty() ? -1 : members_.pipes[static_cast<std::size_t>(member)];
  const char one = 1;
  // A full pipe wakes as well as a fuller one; a reader that is gone needs no waking.
  if (fd >= 0) [[maybe_unused]]
    const ssize_t n = ::write(fd, &one, 1);
}

void Group::check(int member, const char* doing) const {
  const int rank = rank_of(member);
  switch (area(member).presence.load(std::memory_order_acquire)) {
    case Presence::here:
      return;
    case Presence::left:
      throw LinkLost(rank, fmt::format("rank {} has left (its communicator was destroyed) and {}",
                                       rank, doing));
    case Presence::severed:
      throw LinkLost(rank, fmt::format("rank {} dropped its links and {}", rank, doing));
  }
  fail<Corrupt>("rank {} is neither here nor gone: its shared area is damaged", rank);
}

void Group::report_severed() const {
  for (int m = 0; m < size(); ++m) {
    if (area(m).presence.load() == Presence::severed) check(m, "takes part no more");
  }
  throw LinkLost(rank_of(self()), "a rank dropped its links");
}

void Group::depart(Presence how) const {
  area(self()).presence.store(how);
  if (how != Presence::severed) {
    for (int m = 0; m < size(); ++m) ring(m);
    return;
  }
  for (int m = 0; m < size(); ++m) {
    area(m).alarm.store(1);
    ring(m);
  }
  const auto patience = book_->patience();
  const auto until = std::chrono::steady_clock::now() + patience;
  for (int m = 0; m < size(); ++m) {
    while (m != self() && area(m).abroad.load() != 0) {
      if (patience.count() > 0 && std::chrono::steady_clock::now() > until) {
        for (const Entry& mine : area(self()).entries) book_->withdraw(mine.output, m);
        break;
      }
      std::this_thread::yield();
    }
  }
}

}  // namespace weft::comm::memory
