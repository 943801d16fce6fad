// A process that stops in the middle of a collective may go on when the others have long been told
// that it failed: what it yet writes must not reach their memory.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "comm/transport/shm/host.h"

namespace weft::comm::shm {
namespace {

constexpr std::size_t kBytes = 3 * 4096;
constexpr Bytes kAll{static_cast<std::int64_t>(kBytes)};

// Both ranks of a host, in one process, with a symmetric buffer each.
class Withdraw : public ::testing::Test {
 protected:
  Withdraw() {
    const std::vector<Invitation> invitations{one_.invitation(), other_.invitation()};
    one_.accept(invitations);
    other_.accept(invitations);
    one_.segments()->add({mine_.mapping(), map_segment(theirs_.handle(), kBytes)}, kBytes);
    other_.segments()->add({map_segment(mine_.handle(), kBytes), theirs_.mapping()}, kBytes);
    std::memset(mine(), 1, kBytes);
    posted_ = one_.segments()->post(mine(), kAll);
    one_.group()->entry(0, 1).output = posted_;
  }
  std::byte* mine() const { return mine_.mapping().get(); }
  // What rank 1 sees of rank 0's buffer.
  std::byte* seen() const { return other_.segments()->locate(0, posted_, kAll); }
  bool holds(int value) const {
    return std::all_of(mine(), mine() + kBytes, [=](std::byte b) { return b == std::byte(value); });
  }

  Host one_{{0, 1}, 0, 1};
  Host other_{{0, 1}, 1, 1};
  Segment mine_{"mine", kBytes, false};
  Segment theirs_{"theirs", kBytes, false};
  memory::Posted posted_;
};

TEST_F(Withdraw, WhoStaysAbroadWritesToNobody) {
  ASSERT_TRUE(other_.group()->go_abroad());
  std::memset(seen(), 2, kBytes);
  ASSERT_TRUE(holds(2)) << "the memory is not shared to begin with";
  one_.group()->depart(memory::Presence::severed);
  std::memset(seen(), 3, kBytes);
  EXPECT_TRUE(holds(2)) << "reached by a rank that was given up, or its contents lost";
  std::memset(mine(), 4, kBytes);
  EXPECT_TRUE(holds(4));
  other_.group()->come_home();
  EXPECT_FALSE(other_.group()->go_abroad());
}

TEST_F(Withdraw, NothingIsCopiedWhereNobodyIsAbroad) {
  one_.group()->depart(memory::Presence::severed);
  std::memset(seen(), 3, kBytes);
  EXPECT_TRUE(holds(3));
}

TEST_F(Withdraw, OfAnEndedProcessNothingIsFeared) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::_exit(0);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(has_ended(child)) << "a zombie";
  EXPECT_FALSE(has_ended(::getpid()));
  one_.segments()->set_processes({::getpid(), child});
  one_.segments()->withdraw(posted_, 1);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(has_ended(child));
  one_.segments()->withdraw(posted_, 1);
  std::memset(seen(), 3, kBytes);
  EXPECT_TRUE(holds(3));
}

}  // namespace
}  // namespace weft::comm::shm
