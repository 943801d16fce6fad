#include "comm/transport/cuda_ipc/group.h"

#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "kernels/base/error.h"

namespace weft::comm::cuda_ipc {

namespace {

namespace cuda = kernels::cuda;

// How long a member that goes waits for the others to let go of its memory.
constexpr std::chrono::milliseconds kPatience{300};

constexpr auto kTableBytes =
    Bytes(std::int64_t{cuda::kSegmentsMax} * cuda::kMembersMax * std::int64_t{sizeof(void*)});

std::shared_ptr<std::byte> allocate_zeroed(int device, Bytes bytes, cuda::Stream stream) {
  void* const memory = cuda::allocate(bytes);
  cuda::fill_zero(memory, bytes, stream);
  return {static_cast<std::byte*>(memory), [device](std::byte* data) {
            const cuda::DeviceGuard guard(device);
            cuda::release(data);
          }};
}

}  // namespace

Group::Group(int device, int self, std::vector<int> ranks, bool exports)
    : device_(device),
      self_(self),
      ranks_(std::move(ranks)),
      exports_(exports),
      layout_(static_cast<int>(ranks_.size())),
      stream_(device),
      arena_(device, Bytes(static_cast<std::int64_t>(layout_.bytes))),
      desk_memory_(Bytes(sizeof(cuda::Desk))) {
  const cuda::DeviceGuard guard(device);
  desk_ = new (desk_memory_.data()) cuda::Desk{};
  ledger_ = allocate_zeroed(device, Bytes(sizeof(cuda::Ledger)), stream_.get());
  table_ = allocate_zeroed(device, kTableBytes, stream_.get());
  stream_.synchronize();
  describe(layout_, party_);
  party_.self = self;
  party_.segments = reinterpret_cast<std::byte* const*>(table_.get());
  party_.ledger = reinterpret_cast<cuda::Ledger*>(ledger_.get());
  party_.desk = desk_;
}

const Invitation& Group::invite() {
  if (exports_) arena_.offer_to_processes();
  return arena_.invitation();
}

void Group::accept(const std::vector<Invitation>& all) {
  for (std::size_t m = 0; m < all.size(); ++m) {
    if (all[m].bytes != arena_.invitation().bytes) {
      fail<IoError>(
          "rank {}'s arena of device memory has {} bytes, this rank's {}: are all ranks built from "
          "the same weft?",
          ranks_[m], all[m].bytes, arena_.invitation().bytes);
    }
    const bool mine = static_cast<int>(m) == self_;
    arenas_.push_back(mine ? arena_.mapping() : map_memory(all[m], device_));
    party_.arenas[m] = arenas_.back().get();
  }
}

Group::~Group() {
  if (!exports_ || arenas_.empty()) return;
  try {
    const cuda::DeviceGuard guard(device_);
    for (auto& [number, segment] : segments_) unmap_others(number);
    for (int m = 0; m < size(); ++m) {
      if (m == self_) continue;
      auto* const lobby =
          reinterpret_cast<cuda::Lobby*>(arenas_[static_cast<std::size_t>(m)].get());
      cuda::say_closed(lobby, self_, stream_.get());
    }
    stream_.synchronize();
    for (int m = 0; m < size(); ++m) {
      if (m != self_) arenas_[static_cast<std::size_t>(m)].reset();
    }
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (!all_closed()) {
      if (std::chrono::steady_clock::now() > until) {
        // Freeing what others still map is undefined: it stays until this process ends.
        static std::mutex mutex;
        static std::vector<Mapping> kept;
        const std::lock_guard lock(mutex);
        kept.push_back(arena_.mapping());
        for (auto& [number, segment] : segments_) {
          kept.push_back(segment.mappings[static_cast<std::size_t>(self_)]);
        }
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  } catch (const Error&) {  // a device that is broken frees nothing any more
  }
}

// Whether all others have unmapped this member's memory.
bool Group::all_closed() const {
  std::uint64_t closed[cuda::kMembersMax];
  const auto* const lobby = reinterpret_cast<const cuda::Lobby*>(arena_.mapping().get());
  cuda::copy_async(closed, lobby->closed, Bytes(sizeof closed), stream_.get());
  stream_.synchronize();
  for (int m = 0; m < size(); ++m) {
    if (m != self_ && closed[m] == 0) return false;
  }
  return true;
}

std::uint64_t Group::post(const void* data, Bytes bytes) const {
  if (data == nullptr) return cuda::kPostAbsent;
  const auto* const begin = static_cast<const std::byte*>(data);
  if (in_one_process()) return cuda::kPostAddress | reinterpret_cast<std::uint64_t>(begin);
  const std::shared_lock lock(mutex_);
  for (const auto& [number, segment] : segments_) {
    const std::byte* const own = segment.mappings[static_cast<std::size_t>(self_)].get();
    if (!segment.live || begin < own || begin + bytes.value > own + segment.bytes.value) continue;
    return std::uint64_t{number} << cuda::kPostOffsetBits | static_cast<std::uint64_t>(begin - own);
  }
  return cuda::kPostOrdinary;
}

// The column of a segment in the table that kernels read.
void Group::write_segment(std::uint16_t number, const std::vector<Mapping>& mappings) {
  const cuda::DeviceGuard guard(device_);
  std::byte* column[cuda::kMembersMax] = {};
  for (std::size_t m = 0; m < mappings.size(); ++m) column[m] = mappings[m].get();
  cuda::copy_async(table_.get() + std::size_t{number} * sizeof column, column, Bytes(sizeof column),
                   stream_.get());
  stream_.synchronize();
}

std::uint16_t Group::add(std::vector<Mapping> mappings, Bytes bytes) {
  std::uint16_t number = next_;
  {
    const std::unique_lock lock(mutex_);
    if (segments_.size() + 1 >= cuda::kSegmentsMax) {
      fail<IoError>(
          "{} pieces of symmetric memory on device {} are in use, the most there can be; "
          "allocate fewer and larger ones",
          segments_.size(), device_);
    }
    while (number == 0 || number >= cuda::kSegmentsMax || segments_.contains(number)) {
      number = number + 1 >= cuda::kSegmentsMax ? 1 : number + 1;
    }
    next_ = number + 1;
    segments_[number] = {mappings, bytes, true};
  }
  write_segment(number, mappings);
  return number;
}

void Group::retire(std::uint16_t segment) {
  const std::unique_lock lock(mutex_);
  if (const auto it = segments_.find(segment); it != segments_.end()) it->second.live = false;
}

std::vector<std::uint16_t> Group::retired() const {
  const std::shared_lock lock(mutex_);
  std::vector<std::uint16_t> numbers;
  for (const auto& [number, segment] : segments_) {
    if (!segment.live) numbers.push_back(number);
  }
  return numbers;
}

void Group::unmap_others(std::uint16_t segment) {
  const std::unique_lock lock(mutex_);
  const auto it = segments_.find(segment);
  if (it == segments_.end()) return;
  auto& mappings = it->second.mappings;
  for (std::size_t m = 0; m < mappings.size(); ++m) {
    if (static_cast<int>(m) != self_) mappings[m].reset();
  }
}

void Group::forget(std::uint16_t segment) {
  const std::unique_lock lock(mutex_);
  segments_.erase(segment);
}

}  // namespace weft::comm::cuda_ipc
