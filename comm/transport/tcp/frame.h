// A frame on the wire: this header, then the payload. Little endian, as all machines we run on are.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "comm/transport/transport.h"

namespace weft::comm::tcp {

static_assert(std::endian::native == std::endian::little, "frames go over the wire as they lie");

enum class FrameKind : std::uint32_t {
  data = 0x31544657,       // "WFT1"
  announced = 0x53544657,  // "WFTS": tag and length alone; the payload comes as segments elsewhere
  segment = 0x47455357,    // "WSEG": a SegmentHeader
  goodbye = 0x45594257,    // "WBYE": the sender has left, nothing follows
};

struct FrameHeader {
  FrameKind kind = FrameKind::data;
  std::uint32_t check = 0;  // of the header behind it
  FrameTag tag;
  std::uint64_t bytes = 0;
  std::uint64_t payload_hash = 0;
};
static_assert(sizeof(FrameHeader) == 56, "no padding");

// A piece of an announced frame, on one of the link's bulk connections; its payload follows.
struct SegmentHeader {
  FrameKind kind = FrameKind::segment;
  std::uint32_t check = 0;  // of the header behind it
  std::uint64_t frame = 0;  // which announced frame of this link and direction, from 0
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t payload_hash = 0;
};
static_assert(sizeof(SegmentHeader) == 40, "no padding");

// XXH3, 64 bits: of the payload, and (folded) of the header.
std::uint64_t hash_of(const void* data, std::size_t bytes);

FrameHeader make_header(FrameKind kind, const FrameTag& tag, const void* data, std::size_t bytes);
// Whether kind and check are what a peer would send.
bool is_sound(const FrameHeader& header);

FrameHeader make_announcement(const FrameTag& tag, std::size_t bytes);
SegmentHeader make_segment(std::uint64_t frame, std::size_t offset, const void* data,
                           std::size_t bytes);
bool is_sound(const SegmentHeader& header);

}  // namespace weft::comm::tcp
