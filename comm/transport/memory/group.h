// Ranks that can address each other's memory: their areas, and how they find each other's buffers
// and wake each other.
//
// Members are counted 0..size-1 in the order of their ranks in the communicator; where the group is
// not the whole communicator, rank_of() translates. Thread-safe unless said otherwise.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "comm/transport/memory/area.h"

namespace weft::comm::memory {

// How buffers are named among members.
class AddressBook {
 public:
  virtual ~AddressBook() = default;
  // kOrdinary if the others cannot address all of it, kAbsent for no buffer.
  virtual Posted post(const void* data, Bytes bytes) const = 0;
  // Where this process has what `member` posted; nullptr if that is nowhere (a damaged number).
  virtual std::byte* locate(int member, Posted where, Bytes bytes) const = 0;
  // Whether post() never gives kOrdinary.
  virtual bool reaches_all() const = 0;
  // How long a member that severs waits for others to leave its buffers: threads always do.
  virtual std::chrono::milliseconds patience() const = 0;
  // Out of patience: what `member` yet writes to what this process posted is not to reach its
  // memory any more. Nothing to do where members are waited for as long as it takes.
  virtual void withdraw(Posted /*where*/, int /*member*/) {}
};

struct GroupMembers {
  int self = 0;                                   // index
  std::vector<int> ranks;                         // by index, ascending
  std::vector<std::shared_ptr<std::byte>> areas;  // by index
  std::vector<int> pipes;  // by index: written to wake a member that sleeps in poll(); -1: none
};

class Group {
 public:
  Group(GroupMembers members, const AreaLayout& layout, std::shared_ptr<AddressBook> book);

  int self() const { return members_.self; }
  int size() const { return static_cast<int>(members_.ranks.size()); }
  int rank_of(int member) const { return members_.ranks[static_cast<std::size_t>(member)]; }
  const AreaLayout& layout() const { return layout_; }
  const AddressBook& book() const { return *book_; }

  std::byte* base(int member) const { return areas_[static_cast<std::size_t>(member)]; }
  AreaHeader& area(int member) const {
    return *reinterpret_cast<AreaHeader*>(areas_[static_cast<std::size_t>(member)]);
  }
  Entry& entry(int member, std::uint64_t epoch) const { return area(member).entries[epoch % 2]; }
  std::byte* scratch(int member) const { return base(member) + layout_.scratch(); }
  Pipe& pipe(int from, int to, int lane) const {
    return *reinterpret_cast<Pipe*>(base(from) + layout_.pipe(to, lane));
  }

  // After something that others may wait for was made visible. Costs a fence, and a look at whether
  // they sleep.
  void notify(int member) const {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (area(member).bell.sleep.load(std::memory_order_relaxed) != Sleep::awake) ring(member);
  }
  void notify_all() const {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    for (int m = 0; m < size(); ++m) {
      if (area(m).bell.sleep.load(std::memory_order_relaxed) != Sleep::awake) ring(m);
    }
  }
  void ring(int member) const;

  // Throws LinkLost if the member has left or severed; `doing` ends the sentence.
  void check(int member, const char* doing) const;
  bool is_here(int member) const {
    return area(member).presence.load(std::memory_order_acquire) == Presence::here;
  }

  // Around each piece of work on other members' buffers. False: somebody has severed, keep off.
  bool go_abroad() const {
    AreaHeader& mine = area(self());
    mine.abroad.store(1);
    if (mine.alarm.load() == 0) return true;
    mine.abroad.store(0);
    return false;
  }
  void come_home() const { area(self()).abroad.store(0, std::memory_order_release); }
  // Throws LinkLost naming who severed.
  [[noreturn]] void report_severed() const;

  // This member goes. Severing waits until nobody is at its buffers, and takes them out of reach of
  // those who do not leave them in time (AddressBook::patience): stopped processes, which may go
  // on.
  void depart(Presence how) const;

 private:
  GroupMembers members_;
  std::vector<std::byte*> areas_;
  AreaLayout layout_;
  std::shared_ptr<AddressBook> book_;
};

}  // namespace weft::comm::memory
