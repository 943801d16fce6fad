// What lowering makes of message schedules: the forms that are known to be the best, word for word,
// and the promises of lower.h.
#include "comm/passes/lower.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>

#include "comm/schedule/builder.h"
#include "kernels/base/error.h"
#include "tests/schedule/memory_concrete.h"

namespace weft::comm {
namespace {

using testing::HasSubstr;

std::string steps_of(const MemorySchedule& schedule) {
  const std::string text = print(schedule);
  return text.substr(text.find('\n') + 1);
}

std::int64_t count(const std::vector<MemorySchedule>& world, MemoryStepKind kind) {
  std::int64_t all = 0;
  for (const MemorySchedule& schedule : world) {
    all += std::ranges::count(schedule.steps, kind, &MemoryStep::kind);
  }
  return all;
}

TEST(Lower, TwoShotThroughEverythingIsOneMoveBetweenTwoRounds) {
  const auto world = lowered_world("two_shot", Collective::all_reduce, 4, Reach::everything);
  EXPECT_EQ(print(world[1]),
            "all_reduce by two_shot through everything, rank 1 of 4: 4 chunks a block, 0 scratch "
            "chunks\n"
            "0 await 2 stage 0\n"
            "1 await 3 stage 0\n"
            "2 await 0 stage 0\n"
            "3 move 0:in[1] 1:in[1] 2:in[1] 3:in[1] -> 1:out[1] 2:out[1] 3:out[1] 0:out[1] "
            "completes\n"
            "4 publish 1\n"
            "5 await 2 stage 1\n"
            "6 await 3 stage 1\n"
            "7 await 0 stage 1\n");
}

TEST(Lower, TwoShotThroughScratch) {
  const auto world = lowered_world("two_shot", Collective::all_reduce, 4, Reach::scratch);
  EXPECT_EQ(steps_of(world[0]),
            "0 move 0:in[1..3] -> 0:scratch[0..2]\n"
            "1 publish 1\n"
            "2 await 1 stage 1\n"
            "3 await 2 stage 1\n"
            "4 await 3 stage 1\n"
            "5 move 0:in[0] 1:scratch[0] 2:scratch[0] 3:scratch[0] -> 0:out[0] 0:scratch[3] "
            "completes\n"
            "6 publish 2\n"
            "7 await 3 stage 2\n"
            "8 move 3:scratch[3] -> 0:out[3]\n"
            "9 await 2 stage 2\n"
            "10 move 2:scratch[3] -> 0:out[2]\n"
            "11 await 1 stage 2\n"
            "12 move 1:scratch[3] -> 0:out[1]\n");
}

// One round however far it reaches: with a copy of its own, nobody has to wait for readers.
TEST(Lower, DirectAllReduceCopiesOnceAndFoldsOnce) {
  for (const Reach reach : {Reach::scratch, Reach::everything}) {
    const auto world = lowered_world("direct", Collective::all_reduce, 3, reach);
    EXPECT_EQ(steps_of(world[2]),
              "0 move 2:in[0] -> 2:scratch[0]\n"
              "1 publish 1\n"
              "2 await 0 stage 1\n"
              "3 await 1 stage 1\n"
              "4 move 0:scratch[0] 1:scratch[0] 2:in[0] -> 2:out[0] completes\n");
  }
}

TEST(Lower, AllGather) {
  EXPECT_EQ(steps_of(lowered_world("direct", Collective::all_gather, 3, Reach::everything)[1]),
            "0 await 2 stage 0\n"
            "1 await 0 stage 0\n"
            "2 move 1:in[0] -> 1:out[1] 2:out[1] 0:out[1]\n"
            "3 publish 1\n"
            "4 await 2 stage 1\n"
            "5 await 0 stage 1\n");
  EXPECT_EQ(steps_of(lowered_world("direct", Collective::all_gather, 3, Reach::scratch)[1]),
            "0 move 1:in[0] -> 1:out[1] 1:scratch[0]\n"
            "1 publish 1\n"
            "2 await 0 stage 1\n"
            "3 move 0:scratch[0] -> 1:out[0]\n"
            "4 await 2 stage 1\n"
            "5 move 2:scratch[0] -> 1:out[2]\n");
}

// The root copies once for all, and with mapped buffers not at all; then it waits for its readers.
TEST(Lower, Broadcast) {
  const auto scratch = lowered_world("direct", Collective::broadcast, 3, Reach::scratch);
  EXPECT_EQ(steps_of(scratch[0]), "0 move 0:out[0] -> 0:scratch[0]\n1 publish 1\n");
  EXPECT_EQ(steps_of(scratch[2]), "0 await 0 stage 1\n1 move 0:scratch[0] -> 2:out[0]\n");
  const auto mapped = lowered_world("direct", Collective::broadcast, 3, Reach::everything);
  EXPECT_EQ(steps_of(mapped[0]), "0 await 1 stage 1\n1 await 2 stage 1\n");
  EXPECT_EQ(steps_of(mapped[2]), "0 await 0 stage 0\n1 move 0:out[0] -> 2:out[0]\n2 publish 1\n");
}

// Partial sums go straight to where the neighbour reads them; the store to the output that nobody
// would read is gone.
TEST(Lower, RingKeepsPartialSumsInScratchOnly) {
  const auto world = lowered_world("ring", Collective::all_reduce, 3, Reach::scratch);
  EXPECT_THAT(steps_of(world[0]), HasSubstr("move 2:scratch[0] 0:in[1] -> 0:scratch[2]\n"));
  // The input goes in once, then one await and one move for each of the 2(n-1) messages.
  EXPECT_EQ(count(world, MemoryStepKind::await), 3 * 4);
  EXPECT_EQ(count(world, MemoryStepKind::move), 3 * 5);
}

// Blocks of an all_to_all have lengths that only the receiver's chunks share: they are delivered.
TEST(Lower, AllToAllWritesToTheReceiversScratch) {
  const auto world = lowered_world("direct", Collective::all_to_all, 3, Reach::scratch);
  EXPECT_THAT(steps_of(world[0]), HasSubstr("0 move 0:in[1] -> 1:scratch[0]\n"));
  EXPECT_THAT(*world[0].scratch,
              testing::ElementsAre(testing::ElementsAre(1, 2), testing::ElementsAre(0, 2),
                                   testing::ElementsAre(0, 1)));
}

TEST(Lower, BarriersNeverTouchTheCallersMemory) {
  for (const char* algorithm : {"direct", "tree", "halving_doubling"}) {
    for (const auto& schedule :
         lowered_world(algorithm, Collective::barrier, 5, Reach::everything)) {
      for (const MemoryStep& step : schedule.steps) {
        EXPECT_FALSE(step.kind == MemoryStepKind::await && step.stage == 0) << print(schedule);
      }
    }
  }
}

TEST(Lower, AWorldOfOneNeedsNobody) {
  for (const Reach reach : {Reach::scratch, Reach::everything}) {
    EXPECT_EQ(steps_of(lowered_world("ring", Collective::all_reduce, 1, reach)[0]),
              "0 move 0:in[0] -> 0:out[0]\n");
    EXPECT_EQ(steps_of(lowered_world("tree", Collective::broadcast, 1, reach)[0]), "");
  }
}

// Waiting for everybody in the same order would have all ranks at one rank's memory at once.
TEST(Lower, RanksVisitOthersFromTheirOwnPlaceOn) {
  const auto world = lowered_world("direct", Collective::all_reduce, 8, Reach::scratch);
  for (const MemorySchedule& schedule : world) {
    std::int32_t next = schedule.problem.rank;
    for (const MemoryStep& step : schedule.steps) {
      if (step.kind != MemoryStepKind::await) continue;
      next = (next + 1) % 8;
      EXPECT_EQ(step.peer, next) << print(schedule);
    }
  }
}

TEST(Lower, NoAwaitIsThereTwice) {
  for (const Algorithm& algorithm : algorithms()) {
    for (const Collective collective : scheduled_collectives()) {
      if (!algorithm.supports({collective, 0, 9, 0})) continue;
      for (const Reach reach : {Reach::scratch, Reach::everything}) {
        for (const auto& schedule : lowered_world(algorithm.name, collective, 9, reach)) {
          std::vector<std::int32_t> known(9, -1);
          for (const MemoryStep& step : schedule.steps) {
            if (step.kind != MemoryStepKind::await) continue;
            EXPECT_GT(step.stage, known[static_cast<std::size_t>(step.peer)]) << print(schedule);
            known[static_cast<std::size_t>(step.peer)] = step.stage;
          }
        }
      }
    }
  }
}

std::vector<Schedule> pair_of(Builder& first, Builder& second) {
  std::vector<Schedule> world;
  world.push_back(first.finish());
  world.push_back(second.finish());
  return world;
}

std::string complaint_about(const std::vector<Schedule>& world) {
  try {
    lower(world, Reach::scratch);
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return "none";
}

// Rank 0 sends its scratch twice, with another value each time; the receiver sums both at the end.
TEST(Lower, AValueIsReadAsItWasWhenItWasSent) {
  Builder a({Collective::reduce, 0, 2, 1}, "reuse", 1);
  const Slice held = a.new_scratch(0);
  a.copy(a.input(0), held);
  a.send(1, held);
  a.reduce({held, a.input(0)}, held, Completes::no);
  a.send(1, held);
  Builder b({Collective::reduce, 1, 2, 1}, "reuse", 1);
  const Slice first = b.new_scratch(0);
  const Slice second = b.new_scratch(0);
  b.recv(0, first);
  b.recv(0, second);
  b.reduce({b.input(0), first}, b.output(0), Completes::yes);
  const auto world = pair_of(a, b);
  for (const Reach reach : {Reach::scratch, Reach::everything}) {
    const auto lowered = lower(world, reach);
    EXPECT_EQ(run_concretely(lowered, false, 1), "") << text_of(lowered);
    EXPECT_EQ(run_concretely(lowered, true, 2), "") << text_of(lowered);
  }
}

TEST(Lower, RefusesWhatIsNoWorkingWorldOfMessages) {
  const Problem zero{Collective::broadcast, 0, 2, 0};
  const Problem one{Collective::broadcast, 1, 2, 0};
  {
    Builder a(zero, "broken", 1);
    Builder b(one, "broken", 1);
    b.recv(0, b.output(0));
    EXPECT_THAT(complaint_about(pair_of(a, b)),
                HasSubstr("rank 1 step 0 recv <0.0 -> out[0] waits for a message that nobody"));
  }
  {
    Builder a(zero, "broken", 2);
    Builder b(one, "broken", 2);
    a.send(1, a.output(0, 2));
    b.recv(0, b.output(0));
    EXPECT_THAT(complaint_about(pair_of(a, b)), HasSubstr("expects a longer or shorter message"));
  }
  {
    Builder a(zero, "broken", 1);
    Builder b(one, "broken", 1);
    a.send(1, a.new_scratch(0));
    b.recv(0, b.output(0));
    EXPECT_THAT(complaint_about(pair_of(a, b)), HasSubstr("reads what nothing has written"));
  }
  {
    Builder a(zero, "broken", 1);
    Builder b(one, "broken", 1);
    a.send(1, a.output(0), 1);
    b.recv(0, b.output(0), 1);
    EXPECT_THAT(complaint_about(pair_of(a, b)), HasSubstr("fused or of another lane"));
  }
  {
    Builder a(zero, "broken", 1);
    Builder b(one, "broken", 1);
    a.send(2, a.output(0));
    EXPECT_THAT(complaint_about(pair_of(a, b)), HasSubstr("has no such peer"));
  }
}

}  // namespace
}  // namespace weft::comm
