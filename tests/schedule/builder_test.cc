#include "comm/schedule/builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "comm/schedule/cells.h"
#include "comm/schedule/layout.h"
#include "tests/schedule/worlds.h"

namespace weft::comm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Builder, OrdersConflictsAndNothingElse) {
  Builder b({Collective::reduce_scatter, 1, 3, 0}, "test", 1);
  const Slice sum = b.new_scratch(0);
  b.send(0, b.input(0));                                       // 0
  b.recv_reduce(2, b.input(0), sum, Completes::no);            // 1: two readers of input 0
  b.send(0, sum);                                              // 2: after 1
  b.copy(b.input(2), sum);                                     // 3: writes what 2 reads
  b.recv(0, sum);                                              // 4: writes again, nobody read
  b.copy(b.input(1), b.output(0));                             // 5: in place, nothing at all
  b.recv_reduce(2, b.output(0), b.output(0), Completes::yes);  // 6: after 5
  const Schedule s = b.finish();
  EXPECT_THAT(s.steps[0].after, IsEmpty());
  EXPECT_THAT(s.steps[1].after, IsEmpty());
  EXPECT_THAT(s.steps[2].after, ElementsAre(1));
  EXPECT_THAT(s.steps[3].after, ElementsAre(2));
  EXPECT_THAT(s.steps[4].after, ElementsAre(3));
  EXPECT_THAT(s.steps[5].after, IsEmpty());
  EXPECT_THAT(s.steps[6].after, ElementsAre(5));
}

TEST(Builder, TakesInputAndOutputAsTheSameMemoryWhereTheyMayBe) {
  {
    Builder b({Collective::all_reduce, 0, 2, 0}, "test", 2);
    b.send(1, b.input(0, 2));
    b.recv(1, b.output(1));
    EXPECT_THAT(b.finish().steps[1].after, ElementsAre(0));
  }
  {
    Builder b({Collective::all_gather, 1, 2, 0}, "test", 1);
    b.send(0, b.input(0));
    b.recv(0, b.output(0));  // not the rank's own block
    b.recv(0, b.output(1));
    const Schedule s = b.finish();
    EXPECT_THAT(s.steps[1].after, IsEmpty());
    EXPECT_THAT(s.steps[2].after, ElementsAre(0));
  }
  {
    Builder b({Collective::all_to_all, 0, 2, 0}, "test", 1);  // never in place
    b.send(1, b.input(1));
    b.recv(1, b.output(1));
    EXPECT_THAT(b.finish().steps[1].after, IsEmpty());
  }
}

// Random programs: whatever conflicts is ordered, and every dependency is a conflict.
TEST(Builder, FindsWhatALookAtAllPairsFinds) {
  std::mt19937 random(7);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 300; ++round) {
    const auto collective = static_cast<Collective>(pick(kScheduledCollectives));
    Builder b({collective, pick(3), 3, 0}, "test", 2);
    const Slice scratch = b.new_scratch(0, 2);
    const auto slice = [&](bool written) {
      const int count = 1 + pick(2);
      const int from = pick(2 - count + 1);
      if (pick(3) == 0) return Slice{Buffer::scratch, scratch.chunk + from, count};
      return written || pick(2) == 0 ? b.output(from, count) : b.input(from, count);
    };
    for (int i = 0; i < 14; ++i) {
      switch (pick(4)) {
        case 0:
          b.send(0, slice(false));
          break;
        case 1:
          b.recv(0, slice(true));
          break;
        case 2:
          b.copy(slice(false), slice(true));
          break;
        default:
          b.recv_reduce(0, slice(false), slice(true), Completes::no);
      }
    }
    const Schedule s = b.finish();
    const auto conflict = [&](StepId first, StepId second) {
      bool found = false;
      for (const bool in_place : {false, true}) {
        const CellMap map(s, in_place);
        for_each_access(map, s.steps[static_cast<std::size_t>(first)], [&](int cell, bool writes) {
          for_each_access(map, s.steps[static_cast<std::size_t>(second)],
                          [&](int other, bool other_writes) {
                            found = found || (cell == other && (writes || other_writes));
                          });
        });
      }
      return found;
    };
    std::vector<std::set<StepId>> before(s.steps.size());  // all that a step comes after
    for (StepId id = 0; id < std::ssize(s.steps); ++id) {
      auto& all = before[static_cast<std::size_t>(id)];
      for (const StepId on : s.steps[static_cast<std::size_t>(id)].after) {
        EXPECT_TRUE(conflict(on, id)) << on << " and " << id << "\n" << print(s);
        const auto& theirs = before[static_cast<std::size_t>(on)];
        all.insert(theirs.begin(), theirs.end());
        all.insert(on);
      }
      for (StepId earlier = 0; earlier < id; ++earlier) {
        if (conflict(earlier, id)) {
          EXPECT_TRUE(all.contains(earlier)) << earlier << " and " << id << "\n" << print(s);
        }
      }
    }
  }
}

TEST(Print, SaysEverythingInALine) {
  Builder b({Collective::all_reduce, 2, 4, 0}, "test", 4);
  b.send(3, b.input(0, 2), 1);
  b.recv_reduce(1, b.input(3), b.output(3), Completes::yes);
  b.reduce({b.input(0), b.new_scratch(0)}, b.output(0), Completes::no);
  Schedule s = b.finish();
  EXPECT_EQ(print(s),
            "all_reduce by test, rank 2 of 4: 4 chunks a block, 1 scratch chunks, 2 lanes\n"
            "0 send >3.1 in[0..1]\n"
            "1 recv_reduce <1.0 in[3] -> out[3] completes\n"
            "2 reduce in[0] scratch[0] -> out[0] after 0\n");
}

Schedule shape(Collective collective, int rank, int n, int chunks) {
  return Builder({collective, rank, n, 0}, "test", chunks).finish();
}

std::vector<std::int64_t> chunk_sizes(const Layout& layout, Buffer buffer, int chunks) {
  std::vector<std::int64_t> sizes;
  for (int c = 0; c < chunks; ++c) sizes.push_back(layout.range({buffer, c, 1}).count().value);
  return sizes;
}

TEST(Layout, CutsEvenlyInUnits) {
  const Schedule s = shape(Collective::all_reduce, 0, 4, 4);
  const auto sizes = [&](std::int64_t count, std::int64_t align) {
    const Elems block(count);
    return chunk_sizes(Layout(s, {&block, 1}, {&block, 1}, Elems(align)), Buffer::output, 4);
  };
  EXPECT_THAT(sizes(64, 16), ElementsAre(16, 16, 16, 16));
  EXPECT_THAT(sizes(100, 16), ElementsAre(32, 32, 32, 4));
  EXPECT_THAT(sizes(65, 16), ElementsAre(32, 16, 16, 1));
  EXPECT_THAT(sizes(63, 16), ElementsAre(16, 16, 16, 15));
  EXPECT_THAT(sizes(17, 16), ElementsAre(16, 1, 0, 0));
  EXPECT_THAT(sizes(1, 16), ElementsAre(1, 0, 0, 0));
  EXPECT_THAT(sizes(0, 16), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(sizes(7, 1), ElementsAre(2, 2, 2, 1));
}

TEST(Layout, CoversEveryBlockInOrder) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const int n = 1 + static_cast<int>(random() % 6);
    const int chunks = 1 + static_cast<int>(random() % 7);
    const Schedule s = shape(Collective::all_gather, 0, n, chunks);
    std::vector<Elems> blocks;
    for (int r = 0; r < n; ++r) blocks.push_back(Elems(static_cast<std::int64_t>(random() % 400)));
    const Layout layout(s, {blocks.data(), 1}, blocks, Elems(16));
    Elems at(0);
    for (int r = 0; r < n; ++r) {
      const Elems begin = at;
      for (int c = 0; c < chunks; ++c) {
        const ElemRange range = layout.range({Buffer::output, r * chunks + c, 1});
        EXPECT_EQ(range.begin, at);
        EXPECT_GE(range.end, range.begin);
        if (c > 0 && range.count() > Elems(0)) {
          EXPECT_EQ((range.begin - begin).value % 16, 0);
        }
        at = range.end;
      }
      EXPECT_EQ(at - begin, blocks[static_cast<std::size_t>(r)]);
      EXPECT_EQ(layout.range({Buffer::output, r * chunks, chunks}).count(),
                blocks[static_cast<std::size_t>(r)]);
    }
    EXPECT_EQ(layout.size(Buffer::output), at);
    EXPECT_EQ(layout.size(Buffer::input), blocks[0]);
  }
}

TEST(Layout, ScratchIsAsLongAsWhatItStandsFor) {
  Builder b({Collective::reduce_scatter, 0, 3, 0}, "test", 1);
  const Slice pair = b.new_scratch(1, 2);
  const Slice last = b.new_scratch(0);
  const Schedule s = b.finish();
  const std::vector<Elems> blocks = {Elems(5), Elems(70), Elems(0)};
  const Layout layout(s, blocks, {blocks.data(), 1}, Elems(16));
  EXPECT_EQ(layout.range(pair).count(), Elems(70));
  EXPECT_EQ(layout.range(last).begin, Elems(70));
  EXPECT_EQ(layout.range(last).count(), Elems(5));
  EXPECT_EQ(layout.size(Buffer::scratch), Elems(75));
}

}  // namespace
}  // namespace weft::comm
