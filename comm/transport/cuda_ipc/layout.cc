#include "comm/transport/cuda_ipc/layout.h"

#include <algorithm>

namespace weft::comm::cuda_ipc {

namespace {

constexpr std::uint64_t kPage = 4096;
// Small messages go to every member's slots: fewer bytes where there are many members.
constexpr std::uint64_t kSmallBytes = 32 << 10;
constexpr std::uint64_t kSmallTotal = 1 << 20;  // of one member's slots
// Rounds long enough that what they cost to begin does not show.
constexpr std::uint64_t kScratchBytes = 64 << 10;
constexpr std::uint64_t kSlotBytes = 32 << 10;
constexpr int kMessageLanes = 8;

std::uint64_t pages(std::uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

}  // namespace

ArenaLayout::ArenaLayout(int members_of_group)
    : members(members_of_group),
      scratch_bytes(kScratchBytes),
      slot_bytes(kSlotBytes),
      message_lanes(kMessageLanes) {
  const auto count = static_cast<std::uint64_t>(members);
  small_bytes = std::min(kSmallBytes, kSmallTotal / (4 * count) / 128 * 128);
  small_offset = pages(sizeof(kernels::cuda::Lobby));
  scratch_offset = small_offset + pages(kernels::cuda::small_slots_bytes(members, small_bytes));
  slots_offset = scratch_offset + 2 * kernels::cuda::kLanesMax * scratch_bytes;
  bytes = slots_offset +
          count * static_cast<std::uint64_t>(message_lanes) * kernels::cuda::kSlots * slot_bytes;
}

void describe(const ArenaLayout& layout, kernels::cuda::Party& party) {
  party.size = layout.members;
  party.small_offset = layout.small_offset;
  party.small_bytes = layout.small_bytes;
  party.scratch_offset = layout.scratch_offset;
  party.scratch_bytes = layout.scratch_bytes;
  party.slots_offset = layout.slots_offset;
  party.slot_bytes = layout.slot_bytes;
  party.message_lanes = layout.message_lanes;
}

}  // namespace weft::comm::cuda_ipc
