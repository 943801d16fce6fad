#include "comm/transport/shm/segment_table.h"

#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/base/error.h"

namespace weft::comm::shm {

namespace {
constexpr std::uint64_t kOffsetMask = (std::uint64_t{1} << memory::kOffsetBits) - 1;
constexpr std::uint16_t kLast = 0xfffe;  // 0xffff would make kAbsent
}  // namespace

std::uint16_t SegmentTable::add(std::vector<Mapping> mappings, std::size_t bytes) {
  const std::unique_lock lock(mutex_);
  // Numbers are used again once they are dropped, by all members alike.
  for (std::uint32_t tried = 0; segments_.contains(next_); ++tried) {
    if (tried == kLast) fail<IoError>("allocate_symmetric: {} segments are in use", kLast);
    next_ = next_ == kLast ? std::uint16_t{1} : static_cast<std::uint16_t>(next_ + 1);
  }
  segments_[next_] = {std::move(mappings), bytes, true};
  return next_;
}

void SegmentTable::retire(std::uint16_t segment) {
  const std::unique_lock lock(mutex_);
  if (const auto it = segments_.find(segment); it != segments_.end()) it->second.live = false;
}

std::vector<std::uint16_t> SegmentTable::retired() const {
  const std::shared_lock lock(mutex_);
  std::vector<std::uint16_t> all;
  for (const auto& [number, entry] : segments_) {
    if (!entry.live) all.push_back(number);
  }
  return all;
}

void SegmentTable::drop(std::uint16_t segment) {
  const std::unique_lock lock(mutex_);
  segments_.erase(segment);
}

memory::Posted SegmentTable::post(const void* data, Bytes bytes) const {
  if (data == nullptr || bytes.value == 0) return memory::kAbsent;
  const auto at = reinterpret_cast<std::uint64_t>(data);
  const std::shared_lock lock(mutex_);
  for (const auto& [number, entry] : segments_) {
    const auto base =
        reinterpret_cast<std::uint64_t>(entry.mappings[static_cast<std::size_t>(self_)].get());
    if (!entry.live || at < base || at - base > entry.bytes) continue;
    if (bytes.size() > entry.bytes - (at - base)) continue;
    return {std::uint64_t{number} << memory::kOffsetBits | (at - base)};
  }
  return memory::kOrdinary;
}

std::byte* SegmentTable::locate(int member, memory::Posted where, Bytes bytes) const {
  const auto number = static_cast<std::uint16_t>(where.value >> memory::kOffsetBits);
  const std::uint64_t offset = where.value & kOffsetMask;
  const std::shared_lock lock(mutex_);
  const auto it = segments_.find(number);
  if (it == segments_.end()) return nullptr;
  const Entry& entry = it->second;
  if (offset > entry.bytes || bytes.size() > entry.bytes - offset) return nullptr;
  return entry.mappings[static_cast<std::size_t>(member)].get() + offset;
}

void SegmentTable::withdraw(memory::Posted where, int member) {
  if (where == memory::kOrdinary || where == memory::kAbsent) return;
  if (has_ended(pids_.at(static_cast<std::size_t>(member)))) return;
  const std::unique_lock lock(mutex_);
  const auto it = segments_.find(static_cast<std::uint16_t>(where.value >> memory::kOffsetBits));
  if (it == segments_.end() || it->second.withdrawn) return;
  Entry& entry = it->second;
  entry.withdrawn = unshare(entry.mappings[static_cast<std::size_t>(self_)], entry.bytes);
  if (entry.withdrawn) return;
  spdlog::error(
      "process {} does not answer in the middle of a collective and may yet write to this "
      "process's {} bytes of symmetric memory, which cannot be taken out of its reach: {}",
      pids_[static_cast<std::size_t>(member)], entry.bytes, std::strerror(errno));
}

}  // namespace weft::comm::shm
