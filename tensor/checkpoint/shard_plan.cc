#include "tensor/checkpoint/shard_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "kernels/base/error.h"
#include "tensor/checkpoint/safetensors.h"

namespace weft::checkpoint {
namespace {

constexpr std::int64_t kCutAbove = 64 << 10;  // bytes

struct Holding {
  int rank = 0;
  std::size_t part = 0, shard = 0;  // in the rank's lists
  Elems begin, end;
};

struct TensorPlan {
  std::optional<DType> dtype;
  Shape shape;
  int first = 0;     // the rank that spoke of it first
  int typed_by = 0;  // the one that gave the type
  std::vector<Holding> holdings;
};
using PartPlan = std::map<std::string, TensorPlan>;

// Elements that one set of ranks holds: nothing begins or ends inside.
struct Segment {
  std::size_t part = 0, tensor = 0;  // in the manifest
  DType dtype = DType::f32;
  Elems begin, end;
  std::vector<const Holding*> holders;  // one a rank, by rank
};

void add(TensorPlan& plan, const std::string& name, const HeldShard& held, int rank) {
  if (plan.shape != held.shape) {
    fail<Mismatch>("checkpoint: tensor '{}': rank {} says its shape is {}, rank {} {}", name,
                   plan.first, tensor::to_string(plan.shape), rank, tensor::to_string(held.shape));
  }
  if (!held.dtype) return;
  if (plan.dtype && *plan.dtype != *held.dtype) {
    fail<Mismatch>("checkpoint: tensor '{}': rank {} has it as {}, rank {} as {}", name,
                   plan.typed_by, name_of(*plan.dtype), rank, name_of(*held.dtype));
  }
  if (!plan.dtype) plan.typed_by = rank;
  plan.dtype = held.dtype;
}

std::map<std::string, PartPlan> collect(const std::vector<HeldParts>& ranks) {
  std::map<std::string, PartPlan> parts;
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const auto rank = static_cast<int>(r);
    for (std::size_t p = 0; p < ranks[r].size(); ++p) {
      check_part_name(ranks[r][p].name);
      auto& part = parts[ranks[r][p].name];
      for (std::size_t s = 0; s < ranks[r][p].shards.size(); ++s) {
        const auto& held = ranks[r][p].shards[s];
        auto& plan =
            part.try_emplace(held.name, TensorPlan{{}, held.shape, rank, rank, {}}).first->second;
        add(plan, held.name, held, rank);
        if (held.count.value == 0) continue;
        plan.holdings.push_back({rank, p, s, held.begin, held.begin + held.count});
      }
    }
  }
  return parts;
}

// A sweep over the ends of what is held.
void cut_into_segments(const std::string& name, const TensorPlan& plan, std::size_t part,
                       std::size_t tensor, std::vector<Segment>& segments) {
  std::set<Elems> ends{Elems(0), elements_of(plan.shape)};
  for (const auto& holding : plan.holdings) ends.insert({holding.begin, holding.end});
  for (auto it = ends.begin(); std::next(it) != ends.end(); ++it) {
    Segment segment{part, tensor, plan.dtype.value_or(DType::f32), *it, *std::next(it), {}};
    for (const auto& holding : plan.holdings) {  // in order of ranks
      const bool holds = holding.begin <= segment.begin && segment.end <= holding.end;
      const bool again = !segment.holders.empty() && segment.holders.back()->rank == holding.rank;
      if (holds && !again) segment.holders.push_back(&holding);
    }
    if (segment.holders.empty()) {
      fail<Mismatch>("checkpoint: tensor '{}' of shape {}: no rank holds its elements [{}, {})",
                     name, tensor::to_string(plan.shape), segment.begin.value, segment.end.value);
    }
    segments.push_back(std::move(segment));
  }
}

class Dealer {
 public:
  explicit Dealer(SavePlan& plan) : plan_(plan) {}

  // Segments of one set of holders: holder i of h takes the i-th part of their bytes.
  void deal(const std::vector<const Segment*>& group) {
    const auto holders = static_cast<std::int64_t>(group.front()->holders.size());
    std::int64_t total = 0;
    for (const auto* s : group) total += bytes_of(s->end - s->begin, s->dtype).value;
    std::int64_t done = 0;
    std::int64_t turn = 0;
    for (const auto* s : group) {
      const auto width = size_of(s->dtype).value;
      const bool small = bytes_of(s->end - s->begin, s->dtype).value <= kCutAbove;
      auto begin = s->begin;
      while (begin < s->end) {
        const auto share_end = [&] { return (total * (turn + 1) + holders - 1) / holders; };
        while (turn + 1 < holders && done >= share_end()) ++turn;
        auto end = s->end;
        if (!small && turn + 1 < holders) {
          const auto room = (share_end() - done + width - 1) / width;
          end = std::min(end, begin + Elems(std::max<std::int64_t>(room, 1)));
        }
        give(*s, *s->holders[static_cast<std::size_t>(turn)], begin, end);
        done += bytes_of(end - begin, s->dtype).value;
        begin = end;
      }
    }
  }

 private:
  void give(const Segment& s, const Holding& to, Elems begin, Elems end) {
    const auto rank = static_cast<std::size_t>(to.rank);
    auto& pieces = plan_.manifest.parts[s.part].tensors[s.tensor].pieces;
    plan_.ranks[rank].push_back({to.part, to.shard, begin, end - begin});
    plan_.places[rank].push_back({s.part, s.tensor, 0});
    PieceEntry piece;
    piece.file = rank;  // for now; a file of the manifest in the end
    piece.begin = begin;
    piece.count = end - begin;
    pieces.push_back(piece);
  }

  SavePlan& plan_;
};

// Sorts each tensor's pieces, tells the ranks' plans where theirs are, and names the files.
void settle(SavePlan& plan) {
  auto& manifest = plan.manifest;
  std::map<std::tuple<std::size_t, std::size_t, std::int64_t>, std::size_t> index;
  std::map<std::pair<std::size_t, std::size_t>, std::size_t> files;  // of part and rank
  for (std::size_t p = 0; p < manifest.parts.size(); ++p) {
    for (std::size_t t = 0; t < manifest.parts[p].tensors.size(); ++t) {
      auto& pieces = manifest.parts[p].tensors[t].pieces;
      std::sort(pieces.begin(), pieces.end(),
                [](const PieceEntry& a, const PieceEntry& b) { return a.begin < b.begin; });
      for (std::size_t i = 0; i < pieces.size(); ++i) {
        index[{p, t, pieces[i].begin.value}] = i;
        files.try_emplace({p, pieces[i].file}, 0);
      }
    }
  }
  for (auto& [key, file] : files) {
    const auto& part = manifest.parts[key.first].name;
    file = manifest.files.size();
    manifest.files.push_back(
        {shard_file_name(part, static_cast<int>(key.second), manifest.world_size), part, 0, {}});
  }
  for (std::size_t p = 0; p < manifest.parts.size(); ++p) {
    for (auto& tensor : manifest.parts[p].tensors) {
      for (auto& piece : tensor.pieces) piece.file = files.at({p, piece.file});
    }
  }
  for (std::size_t r = 0; r < plan.ranks.size(); ++r) {
    for (std::size_t i = 0; i < plan.ranks[r].size(); ++i) {
      auto& place = plan.places[r][i];
      place.piece = index.at({place.part, place.tensor, plan.ranks[r][i].begin.value});
    }
  }
}

}  // namespace

SavePlan plan_save(const std::vector<HeldParts>& ranks, bool by_root) {
  SavePlan plan;
  plan.ranks.resize(ranks.size());
  plan.places.resize(ranks.size());
  plan.manifest.world_size = static_cast<int>(ranks.size());
  const auto parts = collect(ranks);
  std::vector<Segment> segments;
  for (const auto& [part, tensors] : parts) {
    const auto p = plan.manifest.parts.size();
    plan.manifest.parts.push_back({part, {}});
    for (const auto& [name, tensor] : tensors) {
      auto& entries = plan.manifest.parts.back().tensors;
      if (elements_of(tensor.shape).value > 0) {
        cut_into_segments(name, tensor, p, entries.size(), segments);
      }
      entries.push_back({name, tensor.dtype.value_or(DType::f32), tensor.shape, {}});
    }
  }
  std::map<std::pair<std::size_t, std::vector<int>>, std::vector<const Segment*>> groups;
  for (auto& segment : segments) {
    if (by_root && segment.holders.front()->rank == 0) segment.holders.resize(1);
    std::vector<int> holders;
    for (const auto* holding : segment.holders) holders.push_back(holding->rank);
    groups[{segment.part, std::move(holders)}].push_back(&segment);
  }
  Dealer dealer(plan);
  for (const auto& [key, group] : groups) dealer.deal(group);
  settle(plan);
  return plan;
}

}  // namespace weft::checkpoint
