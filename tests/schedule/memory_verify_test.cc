// What the verifier of memory schedules objects to, and what it says.
#include <gmock/gmock.h>

#include <algorithm>

#include "comm/verify/verify.h"
#include "tests/schedule/memory_concrete.h"

namespace weft::comm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using World = std::vector<MemorySchedule>;

World two_shot(Reach reach = Reach::everything) {
  return lowered_world("two_shot", Collective::all_reduce, 3, reach);
}

std::string complaint(const World& world, bool in_place = true) {
  const Proof proof = verify(world, in_place);
  EXPECT_EQ(proof.ok, proof.counterexample.empty());
  return proof.ok ? "none" : proof.counterexample;
}

MemoryStep& step(World& world, int rank, int id) {
  return world[static_cast<std::size_t>(rank)].steps[static_cast<std::size_t>(id)];
}
void erase(World& world, int rank, int id) {
  auto& steps = world[static_cast<std::size_t>(rank)].steps;
  steps.erase(steps.begin() + id);
}

TEST(MemoryVerify, CountsWhatItProves) {
  const Proof proof = verify(two_shot(), true);
  EXPECT_TRUE(proof.ok) << proof.counterexample;
  EXPECT_EQ(proof.steps, 3 * 6);
  EXPECT_EQ(proof.messages, 3 * 4);  // awaits
}

TEST(MemoryVerify, AMissingEntry) {
  World world = two_shot();
  erase(world, 1, 0);  // await 2 stage 0
  EXPECT_THAT(complaint(world),
              AllOf(HasSubstr("all_reduce by two_shot through everything in place, 3 ranks"),
                    HasSubstr("rank 1 touches rank 2's in[1] and has not awaited that it has "
                              "entered"),
                    HasSubstr("> 1 move 0:in[1] 1:in[1] 2:in[1] ->")));
}

// The last awaits: others still read or write this rank's buffers.
TEST(MemoryVerify, AMissingAcknowledgement) {
  World world = two_shot();
  erase(world, 0, 5);  // await 2 stage 1
  EXPECT_THAT(complaint(world), AllOf(HasSubstr("rank 0 may finish"), HasSubstr("while rank 2"),
                                      HasSubstr("await stage 1 of rank 2"), HasSubstr("rank 2:")));
}

TEST(MemoryVerify, AMissingAwaitIsARaceNamedFromBothSides) {
  World world = two_shot(Reach::scratch);
  erase(world, 1, 3);  // await 2 stage 1
  const std::string text = complaint(world);
  EXPECT_THAT(text, AllOf(HasSubstr("touch rank"), HasSubstr("and nothing orders them"),
                          HasSubstr("rank 1 would have to await stage 1 of rank"),
                          HasSubstr("\n  rank 1:\n")))
      << print(world[1]);
}

TEST(MemoryVerify, AMissingPublishIsADeadlock) {
  World world = two_shot();
  erase(world, 2, 3);
  EXPECT_THAT(complaint(world), AllOf(HasSubstr("deadlock"), HasSubstr("await 2 stage 1")));
}

TEST(MemoryVerify, ACycleOfWaitsIsPrinted) {
  World world = two_shot();
  for (auto& schedule : world) std::swap(schedule.steps[3], schedule.steps[4]);
  EXPECT_THAT(complaint(world), AllOf(HasSubstr("deadlock:"), HasSubstr("rank 0 step 3 await 1"),
                                      HasSubstr("has published 0 and waits, too")));
}

TEST(MemoryVerify, APublishBeforeItsMove) {
  World world = two_shot();
  std::swap(step(world, 0, 2), step(world, 0, 3));
  EXPECT_THAT(complaint(world), HasSubstr("await stage 2 of rank 0"));
}

TEST(MemoryVerify, AnotherOrderOfSummationOnOneRank) {
  World world = lowered_world("direct", Collective::all_reduce, 3, Reach::scratch);
  std::swap(step(world, 1, 4).sources[0], step(world, 1, 4).sources[2]);
  EXPECT_THAT(complaint(world), HasSubstr("summed in another order"));
}

TEST(MemoryVerify, WrongValues) {
  World chunk = two_shot();
  step(chunk, 0, 2).sources[1].slice.chunk = 1;
  EXPECT_THAT(complaint(chunk), HasSubstr("its slices are not equally long"));
  World target = two_shot();
  step(target, 0, 2).targets.pop_back();
  EXPECT_THAT(complaint(target, false),
              AllOf(HasSubstr("out[0] must hold in[0] of all ranks"), HasSubstr("never written")));
  World twice = lowered_world("direct", Collective::all_reduce, 3, Reach::scratch);
  step(twice, 0, 4).sources[1] = step(twice, 0, 4).sources[2];
  EXPECT_THAT(complaint(twice),
              HasSubstr("completes a value, yet its value is in[0] of ranks 0 2"));
  World mark = two_shot();
  step(mark, 0, 2).completes = false;
  EXPECT_THAT(complaint(mark), HasSubstr("is said not to complete"));
  World empty = lowered_world("direct", Collective::broadcast, 2, Reach::scratch);
  erase(empty, 0, 0);
  EXPECT_THAT(complaint(empty), HasSubstr("reads what nothing has written: rank 1 step 1"));
}

TEST(MemoryVerify, StepsThatMakeNoSense) {
  const auto broken = [](const std::function<void(MemoryStep&)>& change, int id) {
    World world = two_shot();
    change(step(world, 0, id));
    return complaint(world);
  };
  const int move = 2;
  EXPECT_THAT(broken([](auto& s) { s.peer = 0; }, 0), HasSubstr("has no such peer"));
  EXPECT_THAT(broken([](auto& s) { s.peer = 3; }, 0), HasSubstr("has no such peer"));
  EXPECT_THAT(broken([](auto& s) { s.stage = -1; }, 0), HasSubstr("a stage that no counter has"));
  EXPECT_THAT(broken([](auto& s) { s.stage = 9; }, 0), HasSubstr("deadlock"));
  EXPECT_THAT(broken([](auto& s) { s.stage = 2; }, 3), HasSubstr("raises the counter by one"));
  EXPECT_THAT(broken([](auto& s) { s.completes = true; }, 3), HasSubstr("moves nothing"));
  EXPECT_THAT(broken([](auto& s) { s.sources.clear(); }, move), HasSubstr("sources and targets"));
  EXPECT_THAT(broken([](auto& s) { s.sources[0].rank = 7; }, move), HasSubstr("a rank that does"));
  EXPECT_THAT(broken([](auto& s) { s.sources[0].slice.chunk = 3; }, move),
              HasSubstr("names chunks that do not exist"));
  EXPECT_THAT(broken([](auto& s) { s.sources[0].slice.buffer = Buffer::scratch; }, move),
              HasSubstr("names chunks that do not exist"));
  EXPECT_THAT(broken([](auto& s) { s.targets[0].slice.buffer = Buffer::input; }, move),
              HasSubstr("writes to the input"));
  EXPECT_THAT(broken([](auto& s) { s.targets[1] = s.targets[0]; }, move),
              HasSubstr("writes twice to one place"));
  EXPECT_THAT(broken([](auto& s) { s.sources.resize(1); }, move),
              HasSubstr("although it reduces nothing"));
  EXPECT_THAT(broken([](auto& s) { s.kind = static_cast<MemoryStepKind>(9); }, move),
              HasSubstr("is no step"));
}

TEST(MemoryVerify, ScratchAloneMeansScratchAlone) {
  World world = two_shot();
  for (auto& schedule : world) schedule.reach = Reach::scratch;
  EXPECT_THAT(complaint(world), HasSubstr("touches another rank's buffers"));
}

TEST(MemoryVerify, SchedulesThatDoNotBelongTogether) {
  const auto broken = [](const std::function<void(MemorySchedule&)>& change) {
    World world = two_shot(Reach::scratch);
    change(world[1]);
    return complaint(world);
  };
  EXPECT_THAT(broken([](auto& s) { s.problem.rank = 2; }), HasSubstr("says it is rank 2 of 3"));
  EXPECT_THAT(broken([](auto& s) { s.problem.root = 1; }), HasSubstr("not that of the others"));
  EXPECT_THAT(broken([](auto& s) { s.problem.collective = Collective::send; }),
              HasSubstr("is of no scheduled collective"));
  EXPECT_THAT(broken([](auto& s) { s.chunks_per_block = 1; }), HasSubstr("into other chunks"));
  EXPECT_THAT(broken([](auto& s) { s.reach = Reach::everything; }), HasSubstr("reaches further"));
  EXPECT_THAT(broken([](auto& s) { s.scratch = nullptr; }), HasSubstr("every rank's scratch"));
  EXPECT_THAT(broken([](auto& s) {
                auto other = *s.scratch;
                other[0].pop_back();
                s.scratch = std::make_shared<const decltype(other)>(other);
              }),
              HasSubstr("knows of other scratch"));
}

}  // namespace
}  // namespace weft::comm
