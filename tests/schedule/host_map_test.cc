#include "comm/schedule/host_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/algorithms/compose.h"
#include "kernels/base/error.h"

namespace weft::comm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(HostMap, KnowsEveryRanksPlace) {
  const HostMap map = host_map_of({{4, 1}, {0, 3, 2}, {5}});
  EXPECT_THAT(map.host_of, ElementsAre(1, 0, 1, 1, 0, 2));
  EXPECT_THAT(map.index_of, ElementsAre(0, 1, 2, 1, 0, 0));
  EXPECT_EQ(map.smallest, 1);
  EXPECT_EQ(map.largest, 3);
}

std::string error_of(std::vector<std::vector<std::int32_t>> hosts) {
  try {
    host_map_of(std::move(hosts));
  } catch (const InvalidArgument& error) {
    return error.what();
  }
  return {};
}

TEST(HostMap, SaysWhatIsWrongWithIt) {
  EXPECT_THAT(error_of({{0, 1}, {1}}), HasSubstr("rank 1 is on host 0 and again on host 1"));
  EXPECT_THAT(error_of({{0, 1}, {3}}), HasSubstr("host 1 lists rank 3, expected 0 to 2"));
  EXPECT_THAT(error_of({{0, -1}}), HasSubstr("lists rank -1"));
  EXPECT_THAT(error_of({{0}, {}}), HasSubstr("host 1 has no ranks"));
  EXPECT_EQ(error_of({}), "");
}

TEST(HostMap, OfAGroupIsRenumbered) {
  const HostMap map = host_map_of({{4, 1}, {0, 3, 2}, {5}});
  const int ranks[] = {3, 1, 0, 4};
  const HostMap group = host_map_of_group(map, ranks);
  EXPECT_THAT(group.hosts, ElementsAre(ElementsAre(3, 1), ElementsAre(2, 0)));
  EXPECT_THAT(group.host_of, ElementsAre(1, 0, 1, 0));
  const int strange[] = {0, 6};
  EXPECT_THROW(host_map_of_group(map, strange), InvalidArgument);
  const int twice[] = {0, 0};
  EXPECT_THROW(host_map_of_group(map, twice), InvalidArgument);
}

TEST(Compose, CutsAStepWhereItsChunksLieApart) {
  // The outer schedule is rank 1 of 4 in an all-reduce of 6 chunks; the inner is rank 0 of 2.
  Builder outer({Collective::all_reduce, 1, 4, 0}, "outer", 6);
  Builder b({Collective::all_reduce, 0, 2, 0}, "inner", 2);
  b.send(1, b.input(0, 2));
  const Slice held = b.new_scratch(0, 2);
  b.recv(1, held);
  b.reduce({b.input(0, 2), held}, b.output(0, 2), Completes::yes);
  b.copy(b.output(0), b.output(0));
  const Embedding embedding{
      [](std::int32_t rank) { return rank == 1 ? 3 : 1; },
      [](std::int32_t chunk) {
        return chunk == 0 ? Stretches{{0, 2}, {4, 1}} : Stretches{{2, 1}, {5, 1}};
      },
      [&](Stretch s) { return outer.input(s.chunk, s.count); },
      [&](Stretch s) { return outer.output(s.chunk, s.count); }};
  embed(outer, b.finish(), embedding);
  // Chunks 0 to 2 touch and are one message, 4 and 5 another; nothing completes, and the copy of
  // memory onto itself is gone.
  EXPECT_EQ(print(outer.finish()),
            "all_reduce by outer, rank 1 of 4: 6 chunks a block, 5 scratch chunks, 1 lanes\n"
            "0 send >3.0 in[0..2]\n"
            "1 send >3.0 in[4..5]\n"
            "2 recv <3.0 -> scratch[0..2]\n"
            "3 recv <3.0 -> scratch[3..4]\n"
            "4 reduce in[0..2] scratch[0..2] -> out[0..2] after 0 2\n"
            "5 reduce in[4..5] scratch[3..4] -> out[4..5] after 1 3\n");
}

TEST(Compose, AShelfKeepsWhatTouchesTogether) {
  Builder b({Collective::gather, 1, 8, 0}, "outer", 1);
  b.new_scratch(0);
  const Shelf shelf(b, {6, 2, 5, 3});
  EXPECT_EQ(shelf.at({2, 2}), (Slice{Buffer::scratch, 1, 2}));
  EXPECT_EQ(shelf.at({5, 1}), (Slice{Buffer::scratch, 3, 1}));
  EXPECT_EQ(shelf.at({5, 2}), (Slice{Buffer::scratch, 3, 2}));
  EXPECT_DEATH(shelf.at({3, 2}), "the shelf has what is asked");
}

}  // namespace
}  // namespace weft::comm
