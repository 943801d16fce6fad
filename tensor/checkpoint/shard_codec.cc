// What shards are called between ranks: describe(), and JSON for the way.
#include <nlohmann/json.hpp>

#include "kernels/base/error.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/checkpoint/shard_plan.h"

namespace weft::checkpoint {
namespace {

using nlohmann::json;

HeldShard describe(const Shard& shard) {
  const auto& data = shard.data;
  HeldShard held{shard.name, {}, shard.shape, shard.begin, Elems(0)};
  if (!data.defined()) return held;
  held.dtype = data.dtype();
  held.count = Elems(data.numel());
  if (data.numel() == 0) return held;
  const auto whole = elements_of(shard.shape);
  const bool is_whole = data.shape() == shard.shape;
  if ((data.dim() != 1 && !is_whole) || shard.begin.value < 0 || whole < shard.begin + held.count) {
    fail<InvalidArgument>(
        "checkpoint: the shard of '{}' at element {} has shape {}: expected one dimension, inside "
        "the {} elements of the tensor, whose shape is {}",
        shard.name, shard.begin.value, tensor::to_string(data.shape()), whole.value,
        tensor::to_string(shard.shape));
  }
  return held;
}

}  // namespace

HeldParts describe(const std::vector<ShardedPart>& parts) {
  HeldParts held;
  for (const auto& part : parts) {
    held.push_back({part.name, {}});
    for (const auto& shard : part.shards) held.back().shards.push_back(describe(shard));
  }
  return held;
}

std::string encode(const HeldParts& parts) {
  auto all = json::array();
  for (const auto& part : parts) {
    auto shards = json::array();
    for (const auto& s : part.shards) {
      shards.push_back({s.name, s.dtype ? static_cast<int>(*s.dtype) : -1, s.shape, s.begin.value,
                        s.count.value});
    }
    all.push_back({part.name, std::move(shards)});
  }
  try {
    return all.dump();
  } catch (const json::exception& error) {
    fail<InvalidArgument>("checkpoint: a tensor's name is not UTF-8: {}", error.what());
  }
}

HeldParts decode_held(const std::string& text) {
  HeldParts parts;
  for (const auto& part : json::parse(text)) {
    parts.push_back({part.at(0).get<std::string>(), {}});
    for (const auto& s : part.at(1)) {
      const auto dtype = s.at(1).get<int>();
      parts.back().shards.push_back(
          {s.at(0).get<std::string>(),
           dtype < 0 ? std::nullopt : std::optional(static_cast<DType>(dtype)),
           s.at(2).get<Shape>(), Elems(s.at(3).get<std::int64_t>()),
           Elems(s.at(4).get<std::int64_t>())});
    }
  }
  return parts;
}

std::string encode(const RankPlan& plan) {
  auto all = json::array();
  for (const auto& piece : plan) {
    all.push_back({piece.part, piece.shard, piece.begin.value, piece.count.value});
  }
  return all.dump();
}

RankPlan decode_plan(const std::string& text) {
  RankPlan plan;
  for (const auto& piece : json::parse(text)) {
    plan.push_back({piece.at(0).get<std::size_t>(), piece.at(1).get<std::size_t>(),
                    Elems(piece.at(2).get<std::int64_t>()),
                    Elems(piece.at(3).get<std::int64_t>())});
  }
  return plan;
}

}  // namespace weft::checkpoint
