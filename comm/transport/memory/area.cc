#include "comm/transport/memory/area.h"

#include <new>

namespace weft::comm::memory {

namespace {
constexpr std::size_t kPage = 4096;
std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}
}  // namespace

AreaLayout::AreaLayout(int size, int lanes, std::size_t scratch_bytes, bool staged)
    : lanes_(static_cast<std::size_t>(lanes) + 1), scratch_bytes_(round_up(scratch_bytes, kPage)) {
  const std::size_t pipes = static_cast<std::size_t>(size) * lanes_;
  pipes_ = round_up(sizeof(AreaHeader), 64);
  staging_ = round_up(pipes_ + pipes * sizeof(Pipe), kPage);
  scratch_ = staging_ + (staged ? pipes * kPieces * kPieceBytes : 0);
  bytes_ = scratch_ + scratch_bytes_;
}

AreaHeader* make_area(void* memory, const AreaLayout& layout, std::uint64_t nonce) {
  auto* const header = new (memory) AreaHeader();
  header->nonce = nonce;
  header->bytes = layout.bytes();
  header->magic = kAreaMagic;
  return header;
}

}  // namespace weft::comm::memory
