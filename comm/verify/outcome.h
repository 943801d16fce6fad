// What a collective starts from and must end with, in expressions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/verify/expressions.h"
#include "comm/verify/world.h"

namespace weft::comm {

class Outcome {
 public:
  // Of schedules that cut each block into that many chunks.
  Outcome(const Problem& problem, std::int32_t chunks_per_block);

  Expressions& expressions() { return expressions_; }

  // Calls put(one chunk, its leaf) for all that the rank contributes.
  void put_contributions(std::int32_t rank, const std::function<void(Slice, NodeId)>& put) const;

  // Whether the value is every rank's contribution to this chunk, each once.
  bool is_complete(NodeId value, std::int32_t chunk);

  // Looks at everything the rank must have in the end; get(one chunk) gives what is there. Called
  // for all ranks in turn.
  void check_result(std::int32_t rank, const std::function<NodeId(Slice)>& get);

  std::string describe(NodeId value) const;  // "in[3] of ranks 0 1 4"

 private:
  void check_sum(std::int32_t rank, Slice slice, std::int32_t chunk, NodeId value);
  void check_copy(std::int32_t rank, Slice slice, NodeId value, NodeId wanted) const;
  void check_barrier(std::int32_t rank, NodeId value) const;

  std::int32_t contributed_chunks() const;

  const Problem problem_;  // whichever rank's
  const std::int32_t chunks_per_block_;
  Expressions expressions_;
  struct Known {
    NodeId value = kUnwritten;
    bool complete = false;
  };
  std::vector<Known> asked_;    // by chunk: the last answer of is_complete, most often the next too
  std::vector<NodeId> agreed_;  // by chunk: the tree that the first rank has
};

}  // namespace weft::comm
