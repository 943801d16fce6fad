// Who writes what of a sharded checkpoint, from what every rank says it holds.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tensor/checkpoint/manifest.h"
#include "tensor/checkpoint/shard.h"

namespace weft::checkpoint {

// A named list of shards; a checkpoint has one for the model, one for the optimizer.
struct ShardedPart {
  std::string name;
  ShardList shards;
};

// What a rank tells the others of a shard.
struct HeldShard {
  std::string name;
  std::optional<DType> dtype;  // none: it holds nothing of it
  Shape shape;
  Elems begin, count;
};
struct HeldPart {
  std::string name;
  std::vector<HeldShard> shards;
};
using HeldParts = std::vector<HeldPart>;  // of one rank

// InvalidArgument names the shard: data that reaches beyond the tensor, or has neither one
// dimension nor the tensor's shape.
HeldParts describe(const std::vector<ShardedPart>& parts);
// For the way to rank 0.
std::string encode(const HeldParts& parts);
HeldParts decode_held(const std::string& text);

// A piece that a rank is to write: elements [begin, begin + count) of the whole tensor, which are
// among those of its own shard.
struct PlannedPiece {
  std::size_t part = 0;   // in the rank's own list
  std::size_t shard = 0;  // likewise, in the part's
  Elems begin, count;
};
using RankPlan = std::vector<PlannedPiece>;
std::string encode(const RankPlan& plan);
RankPlan decode_plan(const std::string& text);

struct SavePlan {
  std::vector<RankPlan> ranks;
  // Files, tensors and pieces as they will be; sizes, offsets and checksums still to come. The
  // pieces of a file are in the order of the rank's plan.
  Manifest manifest;
  // For rank r and the i-th piece of its plan: where it is in `manifest`.
  struct Place {
    std::size_t part, tensor, piece;
  };
  std::vector<std::vector<Place>> places;
};

// What several ranks hold is shared out among them in equal amounts, tensors being cut where that
// needs it; small ones (64 KiB) are not. Or else, `by_root`, rank 0 gives what it holds: it is to
// have all of it in the end. Mismatch where ranks disagree about a tensor's shape or type, or
// nobody holds some of it: it names the tensor, the ranks, and the elements.
SavePlan plan_save(const std::vector<HeldParts>& ranks, bool by_root = false);

}  // namespace weft::checkpoint
