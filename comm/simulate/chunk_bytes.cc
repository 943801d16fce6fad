#include <algorithm>

#include "comm/simulate/run_ranks.h"

namespace weft::comm::simulate {

namespace {
constexpr std::int64_t kUnit = 64;  // chunks do not share cache lines
}  // namespace

ChunkBytes::ChunkBytes(const Programs& programs, std::int64_t block_bytes, int tiles)
    : programs_(programs),
      block_(block_bytes),
      tiles_(tiles),
      per_block_(std::int64_t{programs.chunks_per_block} * tiles) {
  const std::int64_t units = (block_ + kUnit - 1) / kUnit;
  each_ = units / per_block_;
  more_ = units % per_block_;
  if (more_ == 0 && block_ % kUnit == 0) even_ = static_cast<double>(each_ * kUnit);
}

std::int64_t ChunkBytes::begin(std::int64_t chunk) const {
  const std::int64_t index = chunk % per_block_;
  const std::int64_t units = index * each_ + std::min(index, more_);
  return chunk / per_block_ * block_ + std::min(block_, units * kUnit);
}

double ChunkBytes::of(const Node& node, std::int32_t tile, std::int32_t rank) const {
  if (even_ >= 0) return even_ * node.chunks;
  if (node.pieces > 0) return of_pieces(node, tile);
  std::int64_t chunk = node.chunk;
  // The chunk that a shared program means; of several blocks all are alike.
  if (programs_.rotates && per_block_ > tiles_) chunk = (chunk + rank) % (per_block_ / tiles_);
  const std::int64_t first = chunk * tiles_ + std::int64_t{tile} * node.chunks;
  return static_cast<double>(begin(first + node.chunks) - begin(first));
}

// The tile's share of the pieces laid one behind the other.
double ChunkBytes::of_pieces(const Node& node, std::int32_t tile) const {
  std::int64_t skip = std::int64_t{tile} * node.chunks;
  std::int64_t left = node.chunks;
  std::int64_t bytes = 0;
  for (std::int32_t k = 0; k < node.pieces && left > 0; ++k) {
    const Piece& piece = programs_.pieces[static_cast<std::size_t>(node.chunk + k)];
    const std::int64_t length = piece.count * tiles_;
    if (skip < length) {
      const std::int64_t taken = std::min(left, length - skip);
      const std::int64_t first = piece.chunk * tiles_ + skip;
      bytes += begin(first + taken) - begin(first);
      left -= taken;
    }
    skip = std::max<std::int64_t>(0, skip - length);
  }
  return static_cast<double>(bytes);
}

}  // namespace weft::comm::simulate
