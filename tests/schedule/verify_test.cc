// What the verifier says about schedules written wrong by hand, and the table of proofs.
#include "comm/verify/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/schedule/builder.h"
#include "comm/verify/expressions.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refutation(const std::vector<Schedule>& world, const VerifyOptions& options = {}) {
  const Proof proof = verify(world, options);
  EXPECT_EQ(proof.ok, proof.counterexample.empty());
  return proof.counterexample;
}

// Two ranks that each do what `write` says.
template <class Write>
std::vector<Schedule> pair_of(Collective collective, Write&& write) {
  std::vector<Schedule> world;
  for (int rank = 0; rank < 2; ++rank) {
    Builder b({collective, rank, 2, 0}, "handmade", 1);
    write(b, rank);
    world.push_back(b.finish());
  }
  return world;
}

std::vector<Schedule> exchange() {
  return pair_of(Collective::all_reduce, [](Builder& b, int rank) {
    b.send(1 - rank, b.input(0));
    const Slice theirs = b.new_scratch(0);
    b.recv(1 - rank, theirs);
    b.reduce({b.input(0), theirs}, b.output(0), Completes::yes);
  });
}

TEST(Verify, AcceptsAnExchange) {
  const auto world = exchange();
  const Proof proof = verify(world, {});
  EXPECT_TRUE(proof.ok) << proof.counterexample;
  EXPECT_EQ(proof.steps, 6);
  EXPECT_EQ(proof.messages, 2);
}

TEST(Verify, FindsADeadlockAndNamesTheCycle) {
  // Both send first and receive only then: fine with room on the link, a deadlock without.
  auto world = exchange();
  for (Schedule& schedule : world) schedule.steps[1].after = {0};
  EXPECT_THAT(refutation(world, {0, false}),
              AllOf(HasSubstr("deadlock with 0 messages a link"),
                    HasSubstr("rank 0 step 0 send >1.0 in[0] waits for"),
                    HasSubstr("rank 1 step 1 recv <0.0 -> scratch[0] after 0 waits for")));
  EXPECT_EQ(refutation(world, {1, false}), "");
}

TEST(Verify, FindsADeadlockWhateverTheLinkHolds) {
  // Each waits for the other's message before it sends its own.
  const auto world = pair_of(Collective::all_gather, [](Builder& b, int rank) {
    b.recv(1 - rank, b.output(1 - rank));
    b.send(1 - rank, b.input(0));
    b.copy(b.input(0), b.output(rank));
  });
  auto waiting = world;
  for (Schedule& schedule : waiting) schedule.steps[1].after = {0};
  EXPECT_EQ(refutation(world), "");
  EXPECT_THAT(refutation(waiting, {1, false}), HasSubstr("deadlock with 1 messages a link"));
  EXPECT_THAT(refutation(waiting, {1000, true}), HasSubstr("deadlock"));
}

TEST(Verify, CountsTheRoomOnALink) {
  // Rank 0 sends three messages before it takes rank 1's, and rank 1 likewise.
  const auto world = [] {
    std::vector<Schedule> both;
    for (int rank = 0; rank < 2; ++rank) {
      Builder b({Collective::all_gather, rank, 2, 0}, "handmade", 3);
      for (int c = 0; c < 3; ++c) b.send(1 - rank, b.input(c));
      for (int c = 0; c < 3; ++c) b.recv(1 - rank, b.output((1 - rank) * 3 + c));
      for (int c = 0; c < 3; ++c) b.copy(b.input(c), b.output(rank * 3 + c));
      Schedule schedule = b.finish();
      schedule.steps[3].after = {2};
      both.push_back(schedule);
    }
    return both;
  }();
  EXPECT_THAT(refutation(world, {2, false}), HasSubstr("deadlock with 2 messages a link"));
  EXPECT_EQ(refutation(world, {3, false}), "");
}

TEST(Verify, FindsUnorderedSteps) {
  auto world = exchange();
  world[1].steps[2].after = {0};
  EXPECT_THAT(refutation(world), AllOf(HasSubstr("nothing orders them"),
                                       HasSubstr("rank 1 step 1 recv <0.0 -> scratch[0]"),
                                       HasSubstr("rank 1 step 2 reduce in[0] scratch[0]")));
  // Only in place does the sum go where the message is still being sent from.
  world = exchange();
  world[0].steps[2].after = {1};
  EXPECT_EQ(refutation(world, {0, false}), "");
  EXPECT_THAT(refutation(world, {0, true}), HasSubstr("(in place) and nothing orders them"));
}

TEST(Verify, AcceptsOrderByWayOfOtherSteps) {
  auto world = exchange();
  world[0].steps[1].after = {0};
  world[0].steps[2].after = {1};  // and so, indirectly, 0
  EXPECT_EQ(refutation(world, {1, true}), "");
}

TEST(Verify, FindsLeftOverAndMissingMessages) {
  auto world = exchange();
  world[0].steps.push_back(world[0].steps[0]);
  EXPECT_THAT(refutation(world), AllOf(HasSubstr("left over"), HasSubstr("rank 0 step 3 send >1")));
  world = exchange();
  world[0].steps.erase(world[0].steps.begin());
  world[0].steps[1].after = {0};
  EXPECT_THAT(refutation(world),
              AllOf(HasSubstr("waits for ever"), HasSubstr("rank 1 step 1 recv <0.0")));
}

TEST(Verify, FindsUnequalLengths) {
  const auto world = pair_of(Collective::all_gather, [](Builder& b, int rank) {
    b.copy(b.input(0), b.output(rank));
    if (rank == 0) b.send(1, b.output(0));
    if (rank == 1) b.recv(0, b.output(1));  // block 1 may be longer than block 0
  });
  EXPECT_THAT(refutation(world), AllOf(HasSubstr("not equally long"), HasSubstr("rank 0 step 1"),
                                       HasSubstr("rank 1 step 1")));
}

TEST(Verify, FindsWrongSums) {
  auto world = exchange();
  world[0].steps[2].operands = {{Buffer::input, 0, 1}, {Buffer::input, 0, 1}};
  EXPECT_THAT(refutation(world), AllOf(HasSubstr("rank 0 step 2"), HasSubstr("completes a value"),
                                       HasSubstr("in[0] of ranks 0, some more than once")));
  world = exchange();
  world[1].steps[2].completes = false;
  EXPECT_THAT(refutation(world), HasSubstr("is said not to complete"));
}

TEST(Verify, FindsSumsThatDifferInBits) {
  // Three ranks fold in an order that begins with their own.
  std::vector<Schedule> world;
  for (int rank = 0; rank < 3; ++rank) {
    Builder b({Collective::all_reduce, rank, 3, 0}, "handmade", 1);
    std::vector<Slice> shares = {b.input(0)};
    for (const int k : {1, 2}) b.send((rank + k) % 3, b.input(0));
    for (const int k : {2, 1}) {
      shares.push_back(b.new_scratch(0));
      b.recv((rank + k) % 3, shares.back());
    }
    b.reduce(shares, b.output(0), Completes::yes);
    world.push_back(b.finish());
  }
  EXPECT_THAT(refutation(world), HasSubstr("another order"));
}

TEST(Verify, FindsAccessToWhatIsNotThere) {
  EXPECT_THAT(refutation(pair_of(Collective::reduce,
                                 [](Builder& b, int rank) {
                                   if (rank == 0) b.copy(b.input(0), b.output(0));
                                   if (rank == 1) b.copy(b.input(0), b.output(0));
                                 })),
              AllOf(HasSubstr("rank 1 step 0"), HasSubstr("exists on the root only")));
  EXPECT_THAT(refutation(pair_of(Collective::broadcast,
                                 [](Builder& b, int) { b.copy(b.input(0), b.output(0)); })),
              HasSubstr("a broadcast has no input"));
  EXPECT_THAT(refutation(pair_of(Collective::all_reduce,
                                 [](Builder& b, int) { b.copy(b.output(0), b.input(0)); })),
              HasSubstr("writes to the input"));
  auto beyond = exchange();
  beyond[0].steps[0].from.chunk = 1;
  EXPECT_THAT(refutation(beyond), HasSubstr("chunks that do not exist"));
  EXPECT_THAT(refutation(pair_of(Collective::all_gather,
                                 [](Builder& b, int rank) {
                                   b.send(1 - rank, b.output(rank));
                                   b.recv(1 - rank, b.output(1 - rank));
                                   b.copy(b.input(0), b.output(rank));
                                 })),
              HasSubstr("reads what nothing has written"));
}

TEST(Verify, FindsSchedulesThatDoNotBelongTogether) {
  auto world = exchange();
  world[1].problem.rank = 0;
  EXPECT_THAT(refutation(world), HasSubstr("says it is rank 0 of 2, not 1 of 2"));
  world = exchange();
  world[1].problem.collective = Collective::reduce;
  EXPECT_THAT(refutation(world), HasSubstr("problem is not that of the others"));
  world = exchange();
  world[1].lanes = 2;
  EXPECT_THAT(refutation(world), HasSubstr("other lanes"));
}

TEST(Verify, AFusedRingNeedsNoRoomOnLinks) {
  // The receiving half must not wait for the sending half; see schedule.h.
  const Algorithm& ring = *find_algorithm("ring");
  for (const int tiles : {1, 2, 5}) {
    const auto world = emit_world(ring, Collective::all_reduce, 6, 0, {tiles, true, 1});
    EXPECT_EQ(refutation(world, {0, true}), "");
    EXPECT_EQ(refutation(world, {1, false}), "");
    EXPECT_EQ(refutation(world, {7, false}), "");
  }
}

TEST(Expressions, EqualTreesAreEqualNumbers) {
  Expressions e(3, 2);
  const auto node = [&](std::vector<NodeId> inputs) { return e.combine(inputs); };
  const NodeId a = e.leaf(0, 1);
  const NodeId b = e.leaf(1, 1);
  const NodeId c = e.leaf(2, 1);
  EXPECT_EQ(node({a, b}), node({b, a}));
  EXPECT_EQ(node({a}), a);
  EXPECT_NE(node({node({a, b}), c}), node({a, node({b, c})}));
  EXPECT_NE(node({a, b, c}), node({node({a, b}), c}));
  EXPECT_NE(node({a, b, c}), node({b, a, c}));
  EXPECT_EQ(node({a, b, c}), node({a, b, c}));
  const NodeId twice = node({node({a, b}), a});
  EXPECT_EQ(e.leaf_count(twice), 3);
  EXPECT_THAT(e.leaves_of(twice), testing::ElementsAre(a, b));
  for (int i = 0; i < 5000; ++i) node({a, b, c, a, static_cast<NodeId>(i % 6), node({b, c}), b});
  EXPECT_EQ(node({a, b}), node({b, a}));
}

}  // namespace
}  // namespace weft::comm
