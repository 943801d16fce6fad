#include "comm/passes/passes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/schedule/builder.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {

std::string steps_of(const Schedule& schedule) {
  const std::string text = print(schedule);
  return text.substr(text.find('\n') + 1);
}

Problem ring_of_three(Collective collective) { return {collective, 1, 3, 0}; }

TEST(Tile, CutsStepsIntoNeighbours) {
  Builder b({Collective::all_reduce, 0, 2, 0}, "test", 2);
  b.send(1, b.input(0, 2));
  b.recv_reduce(1, b.input(1), b.output(1), Completes::no);
  const Schedule tiled = tile(b.finish(), 2);
  EXPECT_EQ(tiled.chunks_per_block, 4);
  EXPECT_EQ(steps_of(tiled),
            "0 send >1.0 in[0..1]\n"
            "1 send >1.0 in[2..3]\n"
            "2 recv_reduce <1.0 in[2] -> out[2] after 1\n"
            "3 recv_reduce <1.0 in[3] -> out[3] after 1\n");
}

TEST(Tile, OneTileChangesNothing) {
  const Schedule ring = find_algorithm("ring")->emit(ring_of_three(Collective::all_reduce));
  EXPECT_EQ(print(tile(ring, 1)), print(ring));
}

TEST(Fuse, TurnsTheRingIntoAPipeline) {
  const Schedule ring = find_algorithm("ring")->emit(ring_of_three(Collective::all_reduce));
  // The first sum is sent on and overwritten later: it is not stored.
  EXPECT_EQ(steps_of(fuse(ring)),
            "0 send >2.0 in[0]\n"
            "1 recv_reduce_send <0.0 >2.0 in[2] -> nothing\n"
            "2 recv_reduce_send <0.0 >2.0 in[1] -> out[1] completes\n"
            "3 recv_send <0.0 >2.0 -> out[0] after 0\n"
            "4 recv <0.0 -> out[2] after 1\n");
}

TEST(Fuse, LeavesOutScratchThatNobodyNeeds) {
  const Schedule ring = find_algorithm("ring")->emit(ring_of_three(Collective::reduce_scatter));
  EXPECT_EQ(ring.scratch.size(), 1u);
  const Schedule fused = fuse(ring);
  EXPECT_TRUE(fused.scratch.empty());
  EXPECT_EQ(steps_of(fused),
            "0 send >2.0 in[0]\n"
            "1 recv_reduce_send <0.0 >2.0 in[2] -> nothing\n"
            "2 recv_reduce <0.0 in[1] -> out[0] completes\n");
}

TEST(Fuse, LeavesAValueAloneThatOthersRead) {
  Builder b({Collective::broadcast, 1, 4, 0}, "test", 1);
  b.recv(0, b.output(0));
  b.send(2, b.output(0));
  b.send(3, b.output(0));
  const Schedule s = b.finish();
  EXPECT_EQ(print(fuse(s)), print(s));
}

TEST(Fuse, KeepsTheOrderOfMessagesOnALink) {
  Builder b({Collective::broadcast, 1, 3, 0}, "test", 3);
  b.recv(0, b.output(0));
  b.recv(0, b.output(1));
  b.send(2, b.output(1));
  b.send(2, b.output(0));  // would overtake the other if it moved up to its receive
  b.recv(0, b.output(2));
  b.send(2, b.output(2));
  EXPECT_EQ(steps_of(fuse(b.finish())),
            "0 recv <0.0 -> out[0]\n"
            "1 recv_send <0.0 >2.0 -> out[1]\n"
            "2 send >2.0 out[0] after 0\n"
            "3 recv_send <0.0 >2.0 -> out[2]\n");
}

TEST(Fuse, JoinsReductionsWithoutChangingTheirOrder) {
  Builder b({Collective::all_reduce, 0, 2, 0}, "test", 1);
  const Slice theirs = b.new_scratch(0);
  const Slice sum = b.new_scratch(0);
  const Slice other = b.new_scratch(0);
  b.recv(1, theirs);
  b.recv(1, other);
  b.reduce({b.input(0), theirs}, sum, Completes::no);
  b.reduce({sum, other}, b.output(0), Completes::yes);
  EXPECT_EQ(steps_of(fuse(b.finish())),
            "0 recv <1.0 -> scratch[0]\n"
            "1 recv <1.0 -> scratch[1]\n"
            "2 reduce in[0] scratch[0] scratch[1] -> out[0] completes after 0 1\n");

  Builder c({Collective::all_reduce, 0, 2, 0}, "test", 1);
  const Slice from = c.new_scratch(0);
  const Slice part = c.new_scratch(0);
  c.recv(1, from);
  c.reduce({c.input(0), from}, part, Completes::no);
  c.reduce({from, part}, c.output(0), Completes::no);  // the sum is not what the fold begins with
  const Schedule kept = c.finish();
  EXPECT_EQ(print(fuse(kept)), print(kept));
}

TEST(Stripe, DealsMessagesOutInTurn) {
  const Schedule ring =
      tile(find_algorithm("ring")->emit(ring_of_three(Collective::all_gather)), 2);
  const Schedule striped = stripe(fuse(ring), 2);
  EXPECT_EQ(striped.lanes, 2);
  EXPECT_EQ(steps_of(striped),
            "0 copy in[0] -> out[2]\n"
            "1 copy in[1] -> out[3]\n"
            "2 send >2.0 in[0]\n"
            "3 send >2.1 in[1]\n"
            "4 recv_send <0.0 >2.0 -> out[0]\n"
            "5 recv_send <0.1 >2.1 -> out[1]\n"
            "6 recv <0.0 -> out[4]\n"
            "7 recv <0.1 -> out[5]\n");
}

}  // namespace
}  // namespace weft::comm
