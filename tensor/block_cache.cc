#include "tensor/block_cache.h"

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/base/error.h"

namespace weft::tensor {
namespace {

// Sizes as PyTorch chose them: small requests share segments of 2 MiB, those up to 10 MiB segments
// of 20 MiB, and larger ones have a segment of their own, in steps of 2 MiB.
constexpr std::size_t kGranule = 512;
constexpr std::size_t kSmallMax = std::size_t{1} << 20;
constexpr std::size_t kSmallSegment = std::size_t{2} << 20;
constexpr std::size_t kMediumMax = std::size_t{10} << 20;
constexpr std::size_t kMediumSegment = std::size_t{20} << 20;
constexpr std::size_t kLargeStep = std::size_t{2} << 20;

std::size_t round_up(std::size_t size, std::size_t step) { return (size + step - 1) / step * step; }

std::size_t segment_for(std::size_t size) {
  if (size <= kSmallMax) return kSmallSegment;
  if (size < kMediumMax) return kMediumSegment;
  return round_up(size, kLargeStep);
}

// What is left over is worth a block of its own.
bool worth_splitting(bool small, std::size_t rest) {
  return rest >= (small ? kGranule : kSmallMax);
}

Bytes to_bytes(std::size_t size) { return Bytes(static_cast<std::int64_t>(size)); }

}  // namespace

bool BlockCache::BySize::operator()(const Block* a, const Block* b) const {
  return a->size != b->size ? a->size < b->size : a->address < b->address;
}

BlockCache::BlockCache(std::unique_ptr<BlockSource> source, std::string what)
    : source_(std::move(source)), what_(std::move(what)) {}

std::byte* BlockCache::allocate(Bytes bytes, QueueId queue, PoolId pool) {
  WEFT_ASSERT(bytes > Bytes(0), "blocks have a size");
  // Beyond this, sums of sizes could wrap; nothing has that much.
  constexpr std::int64_t kLargest = std::int64_t{1} << 60;
  const std::lock_guard lock(mutex_);
  if (bytes > Bytes(kLargest)) refuse(bytes, bytes);
  const auto size = round_up(bytes.size(), kGranule);
  const Key key{pool, size <= kSmallMax, queue};
  if (deferring_ == 0) collect(false);
  Block* block = take(key, size);
  if (block == nullptr) block = grow(key, segment_for(size));
  if (block == nullptr && deferring_ == 0) {
    ++stats_.trims;
    collect(true);
    block = take(key, size);
    if (block == nullptr && release_free_segments()) block = grow(key, segment_for(size));
    // What is left may hold the request, if not a segment to share.
    if (block == nullptr) block = grow(key, round_up(size, kLargeStep));
  }
  if (block == nullptr) refuse(bytes, to_bytes(round_up(size, kLargeStep)));
  return hand_out(block, size);
}

// The smallest free block that is large enough.
BlockCache::Block* BlockCache::take(const Key& key, std::size_t size) {
  const auto found = free_.find(key);
  if (found == free_.end()) return nullptr;
  Block probe;
  probe.size = size;
  const auto at = found->second.lower_bound(&probe);
  if (at == found->second.end()) return nullptr;
  Block* const block = *at;
  found->second.erase(at);
  return block;
}

BlockCache::Block* BlockCache::grow(const Key& key, std::size_t segment) {
  if (limit_ && stats_.held.size() + segment > *limit_) return nullptr;
  auto* const memory = static_cast<std::byte*>(source_->allocate(to_bytes(segment)));
  if (memory == nullptr) return nullptr;
  auto block = std::make_unique<Block>();
  block->address = memory;
  block->size = block->segment_size = segment;
  block->key = key;
  ++stats_.source_allocations;
  stats_.held += to_bytes(segment);
  stats_.peak_held = std::max(stats_.peak_held, stats_.held);
  return (segments_[memory] = std::move(block)).get();
}

std::byte* BlockCache::hand_out(Block* block, std::size_t size) {
  if (worth_splitting(block->key.small, block->size - size)) {
    auto rest = std::make_unique<Block>();
    rest->address = block->address + size;
    rest->size = block->size - size;
    rest->key = block->key;
    rest->previous = block;
    rest->next = std::move(block->next);
    if (rest->next) rest->next->previous = rest.get();
    block->size = size;
    free_[rest->key].insert(rest.get());
    block->next = std::move(rest);
  }
  block->in_use = true;
  in_use_[block->address] = block;
  stats_.in_use += to_bytes(block->size);
  stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
  return block->address;
}

void BlockCache::free(std::byte* address) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = in_use_.find(address);
  WEFT_ASSERT(found != in_use_.end(), "free() of memory that this cache did not give out");
  Block* const block = found->second;
  in_use_.erase(found);
  if (block->users.empty()) {
    make_free(block);
  } else if (deferring_ > 0) {
    deferred_.push_back(block);
  } else {
    wait_for_users(block);
  }
}

// Joins free neighbours. Blocks own those behind them, so the front one of two stays.
void BlockCache::make_free(Block* block) {
  stats_.in_use -= to_bytes(block->size);
  block->in_use = false;
  const auto absorb_next = [](Block* front) {
    auto back = std::move(front->next);
    front->size += back->size;
    front->next = std::move(back->next);
    if (front->next) front->next->previous = front;
  };
  auto& set = free_[block->key];
  if (block->next && !block->next->in_use) {
    set.erase(block->next.get());
    absorb_next(block);
  }
  if (block->previous != nullptr && !block->previous->in_use) {
    block = block->previous;
    set.erase(block);
    absorb_next(block);
  }
  set.insert(block);
}

void BlockCache::wait_for_users(Block* block) {
  for (const auto& queue : std::exchange(block->users, {})) {
    void* event = nullptr;
    try {
      event = source_->record(queue);
    } catch (const Error&) {
      ++block->events;  // the device has failed: never given out again
      continue;
    }
    ++block->events;
    pending_.push_back({event, block});
  }
}

// Frees blocks whose events are done; all of them, when waiting.
void BlockCache::collect(bool waiting) {
  std::erase_if(pending_, [&](const Pending& pending) {
    if (waiting) source_->wait(pending.event);
    if (!waiting && !source_->is_done(pending.event)) return false;
    source_->forget(pending.event);
    if (--pending.block->events == 0) make_free(pending.block);
    return true;
  });
}

bool BlockCache::release_free_segments() {
  bool any = false;
  for (auto at = segments_.begin(); at != segments_.end();) {
    Block* const block = at->second.get();
    if (block->in_use || block->size != block->segment_size || block->key.pool != kSharedPool) {
      ++at;
      continue;
    }
    free_[block->key].erase(block);
    source_->release(block->address);
    stats_.held -= to_bytes(block->segment_size);
    at = segments_.erase(at);
    any = true;
  }
  return any;
}

void BlockCache::record_stream(const std::byte* address, QueueId queue) {
  const std::lock_guard lock(mutex_);
  const auto found = in_use_.find(address);
  WEFT_ASSERT(found != in_use_.end(), "record_stream() of memory that this cache did not give out");
  Block& block = *found->second;
  if (queue == block.key.queue) return;
  if (std::find(block.users.begin(), block.users.end(), queue) == block.users.end()) {
    block.users.push_back(queue);
  }
}

bool BlockCache::owns(const std::byte* address) const {
  const std::lock_guard lock(mutex_);
  return in_use_.contains(address);
}

PoolId BlockCache::make_pool() {
  const std::lock_guard lock(mutex_);
  live_pools_.insert(next_pool_);
  return next_pool_++;
}

void BlockCache::release_pool(PoolId pool) {
  const std::lock_guard lock(mutex_);
  if (live_pools_.erase(pool) == 0) return;
  for (auto& [address, first] : segments_) {
    if (first->key.pool != pool) continue;
    for (Block* block = first.get(); block != nullptr; block = block->next.get()) {
      if (!block->in_use) free_[block->key].erase(block);
      block->key.pool = kSharedPool;
      if (!block->in_use) free_[block->key].insert(block);
    }
  }
}

void BlockCache::defer_events(bool on) {
  const std::lock_guard lock(mutex_);
  deferring_ += on ? 1 : -1;
  WEFT_ASSERT(deferring_ >= 0, "defer_events(false) without a true");
  if (deferring_ > 0) return;
  for (Block* block : std::exchange(deferred_, {})) wait_for_users(block);
}

BlockStats BlockCache::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void BlockCache::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_in_use = stats_.in_use;
  stats_.peak_held = stats_.held;
}

void BlockCache::trim() {
  const std::lock_guard lock(mutex_);
  if (deferring_ > 0) return;
  collect(true);
  release_free_segments();
}

void BlockCache::set_limit(std::optional<Bytes> limit) {
  const std::lock_guard lock(mutex_);
  limit_ = limit ? std::optional(limit->size()) : std::nullopt;
}

void BlockCache::refuse(Bytes bytes, Bytes segment) const {
  fail<IoError>(
      "allocating {} bytes for {}: out of memory for a segment of {} bytes, the least that would "
      "do. {}; this process holds {} bytes of it{}: {} in "
      "use, {} kept free but in pieces too small or bound to other streams. Use a smaller batch or "
      "model, or free tensors; others on the device may hold the rest",
      bytes.value, what_, segment.value, source_->describe_exhaustion(), stats_.held.value,
      limit_ ? fmt::format(" (of {} allowed)", *limit_) : "", stats_.in_use.value,
      stats_.kept().value);
}

}  // namespace weft::tensor
