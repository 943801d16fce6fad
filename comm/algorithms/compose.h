// Schedules made of schedules: emit an algorithm for a small group, with chunks of its own, and
// embed it as a part of a larger schedule.
//
// The inner schedule's ranks become ranks of the outer world, and each chunk of its wide buffer
// stands for one or more stretches of the outer wide buffer's chunks:
//
//   inner, 2 ranks, 2 blocks      [     0     ][     1     ]        chunk_of(0) = {{0, 2}, {4, 1}}
//   outer, 6 chunks               [ 0 ][ 1 ][ 2 ][ 3 ][ 4 ][ 5 ]    chunk_of(1) = {{2, 2}, {5, 1}}
//
// A step of the inner schedule becomes one step a stretch (a receive of chunk 0: one message of
// two chunks and one of one), in the order of the lists; stretches at the same place of the lists
// of consecutive chunks that touch are one. That depends on nothing but chunk_of, so both ends of a
// message cut it alike as long as chunk_of is the same on all ranks of the inner group. The steps
// of the first stretch of each list come before those of the second, as with tiles: the inner
// schedule becomes a pipeline.
//
// Where the inner buffers lie is told by homes, rank by rank. They may be the same memory: the
// builder finds dependencies on what the slices really are.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "comm/schedule/builder.h"
#include "comm/schedule/schedule.h"

namespace weft::comm {

// Consecutive chunks of the outer schedule's wide buffer.
struct Stretch {
  std::int32_t chunk = 0;
  std::int32_t count = 0;
  std::int32_t end() const { return chunk + count; }
};
using Stretches = std::vector<Stretch>;

// The place where a rank keeps a stretch: a slice of as many chunks.
using Home = std::function<Slice(Stretch)>;

struct Embedding {
  std::function<std::int32_t(std::int32_t)> rank_of;  // inner rank -> outer rank
  // Chunk of the inner wide buffer -> what it stands for. A chunk of the narrow side stands for
  // what the rank's own block of the wide side stands for.
  std::function<Stretches(std::int32_t)> chunk_of;
  Home input;
  Home output;
  Home scratch = nullptr;  // null: fresh scratch. Else no two scratch chunks may stand for the same
  bool completes = false;  // whether the inner schedule's complete values are complete in the outer
};

// Appends the steps of `inner`, which has one lane and is not fused. A copy that would come to lie
// on itself is left out.
void embed(Builder& b, const Schedule& inner, const Embedding& embedding);

// Fresh scratch for these chunks of the wide buffer, each once; stretches that touch lie together.
class Shelf {
 public:
  Shelf(Builder& b, std::vector<std::int32_t> chunks);
  Slice at(Stretch stretch) const;

 private:
  std::vector<std::int32_t> chunks_;  // ascending
  std::int32_t first_ = 0;            // scratch chunk of chunks_[0]
};

// The `part`-th of `parts` about equal sublists of a list; the same cut on every rank.
Stretches part_of(const Stretches& all, std::int32_t part, std::int32_t parts);

}  // namespace weft::comm
