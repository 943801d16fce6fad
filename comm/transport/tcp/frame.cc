#include "comm/transport/tcp/frame.h"

#include WEFT_XXHASH_HEADER  // <xxhash.h>, or the one that dispatches

namespace weft::comm::tcp {

namespace {

// The kind is mixed in, and what follows the check itself.
template <class Header>
std::uint32_t check_of(const Header& header) {
  constexpr std::size_t kSkipped = sizeof header.kind + sizeof header.check;
  const auto* bytes = reinterpret_cast<const std::byte*>(&header);
  const std::uint64_t hash = XXH3_64bits_withSeed(bytes + kSkipped, sizeof header - kSkipped,
                                                  static_cast<std::uint32_t>(header.kind));
  return static_cast<std::uint32_t>(hash ^ (hash >> 32));
}

}  // namespace

std::uint64_t hash_of(const void* data, std::size_t bytes) {
  return bytes == 0 ? 0 : XXH3_64bits(data, bytes);
}

FrameHeader make_header(FrameKind kind, const FrameTag& tag, const void* data, std::size_t bytes) {
  FrameHeader header;
  header.kind = kind;
  header.tag = tag;
  header.bytes = bytes;
  header.payload_hash = hash_of(data, bytes);
  header.check = check_of(header);
  return header;
}

FrameHeader make_announcement(const FrameTag& tag, std::size_t bytes) {
  FrameHeader header;
  header.kind = FrameKind::announced;
  header.tag = tag;
  header.bytes = bytes;
  header.check = check_of(header);
  return header;
}

SegmentHeader make_segment(std::uint64_t frame, std::size_t offset, const void* data,
                           std::size_t bytes) {
  SegmentHeader header;
  header.frame = frame;
  header.offset = offset;
  header.bytes = bytes;
  header.payload_hash = hash_of(data, bytes);
  header.check = check_of(header);
  return header;
}

bool is_sound(const FrameHeader& header) {
  const bool known = header.kind == FrameKind::data || header.kind == FrameKind::announced ||
                     header.kind == FrameKind::goodbye;
  return known && header.check == check_of(header);
}

bool is_sound(const SegmentHeader& header) {
  return header.kind == FrameKind::segment && header.check == check_of(header);
}

}  // namespace weft::comm::tcp
