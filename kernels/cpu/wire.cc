#include "kernels/wire.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "kernels/cast.h"

namespace weft::kernels {

namespace {

// Halves and floats of one tile together take a quarter of a first-level cache.
constexpr std::int64_t kTile = 1024;
constexpr std::size_t kFloat = sizeof(float);
constexpr std::size_t kHalf = sizeof(std::uint16_t);

// body(first element, elements) for each tile.
template <class Body>
void for_each_tile(Elems count, const Body& body) {
  for (std::int64_t at = 0; at < count.value; at += kTile) {
    body(static_cast<std::size_t>(at), Elems(std::min(kTile, count.value - at)));
  }
}

std::byte* floats_at(void* data, std::size_t at) {
  return static_cast<std::byte*>(data) + at * kFloat;
}
const std::byte* floats_at(const void* data, std::size_t at) {
  return static_cast<const std::byte*>(data) + at * kFloat;
}
const std::byte* halves_at(const void* message, std::size_t at) {
  return static_cast<const std::byte*>(message) + at * kHalf;
}

void round_tile(void* tile, DType wire, Elems count) {
  alignas(64) std::array<std::byte, kTile * kHalf> halves;
  cast(halves.data(), wire, tile, DType::f32, count);
  cast(tile, DType::f32, halves.data(), wire, count);
}

}  // namespace

void wire_encode(void* message, DType wire, const void* from, Elems count) {
  cast(message, wire, from, DType::f32, count);
}

void wire_decode(void* to, const void* message, DType wire, Elems count) {
  cast(to, DType::f32, message, wire, count);
}

void wire_round(void* data, DType wire, Elems count) {
  for_each_tile(count,
                [&](std::size_t at, Elems tile) { round_tile(floats_at(data, at), wire, tile); });
}

void wire_encode_and_round(void* message, DType wire, void* data, Elems count) {
  for_each_tile(count, [&](std::size_t at, Elems tile) {
    auto* const halves = static_cast<std::byte*>(message) + at * kHalf;
    cast(halves, wire, floats_at(data, at), DType::f32, tile);
    cast(floats_at(data, at), DType::f32, halves, wire, tile);
  });
}

void wire_reduce(void* out, const void* message, DType wire, const void* own, Elems count,
                 ReduceOp op, std::int64_t divisor, bool rounds) {
  alignas(64) std::array<std::byte, kTile * kFloat> decoded;
  for_each_tile(count, [&](std::size_t at, Elems tile) {
    cast(decoded.data(), DType::f32, halves_at(message, at), wire, tile);
    const void* const inputs[] = {decoded.data(), floats_at(own, at)};
    void* const result = floats_at(out, at);
    reduce(result, inputs, tile, DType::f32, op, divisor);
    if (rounds) round_tile(result, wire, tile);
  });
}

}  // namespace weft::kernels
