// Memory that many short-lived tensors share: freed blocks are kept and given out again, cut from
// large segments and joined with their free neighbours. The bookkeeping alone, over any source of
// memory (device memory, pinned host memory; tensor/cuda_allocator.h).
//
// A block belongs to the stream it was asked for on and is given out again at once to that stream:
// what the stream still has to do with it comes first there. Work on other streams is made known by
// record_stream(); a block freed after that waits until events behind that work are done. Blocks
// never move from one stream to another, except that segments without a block in use go back to the
// source when it has nothing left. (The design is that of PyTorch's CUDACachingAllocator.)
//
// Pools keep blocks apart: what a graph captured keeps its addresses for itself as long as the
// graph lives. Safe from any thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/base/units.h"

namespace weft::tensor {

// A queue of work: the device, and the stream's handle on it (nullptr: the default stream). The
// host itself is {-1, nullptr}.
struct QueueId {
  int device = -1;
  void* handle = nullptr;
  auto operator<=>(const QueueId&) const = default;
};

class BlockSource {
 public:
  virtual ~BlockSource() = default;
  virtual void* allocate(Bytes bytes) = 0;              // nullptr: there is no such memory left
  virtual void release(void* segment) noexcept = 0;     // waits for work that uses it
  virtual void* record(QueueId queue) = 0;              // an event behind what is queued
  virtual bool is_done(void* event) = 0;                // without waiting
  virtual void wait(void* event) = 0;                   // until done
  virtual void forget(void* event) noexcept = 0;        // it was done, or nobody asks any more
  virtual std::string describe_exhaustion() const = 0;  // "1 of 80 GiB are free on cuda:0"
};

struct BlockStats {
  Bytes in_use;       // handed out, rounded up to blocks; those that wait for an event included
  Bytes peak_in_use;  // since the beginning, or reset_peak()
  Bytes held;         // taken from the source: in_use and what is kept free
  Bytes peak_held;
  std::int64_t source_allocations = 0;  // times the source was asked and gave
  std::int64_t trims = 0;               // times everything free was given back to satisfy a request
  Bytes kept() const { return held - in_use; }
};

using PoolId = std::int32_t;
inline constexpr PoolId kSharedPool = 0;

class BlockCache {
 public:
  // `what` is for messages: "a tensor on cuda:0".
  BlockCache(std::unique_ptr<BlockSource> source, std::string what);
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  // 512-byte aligned as far as the source is; bytes > 0. IoError when the source has nothing left
  // after trimming: how much was asked for (and the segment that it would take: 2 MiB and more),
  // what the source says, and what is held and in use.
  std::byte* allocate(Bytes bytes, QueueId queue, PoolId pool = kSharedPool);
  void free(std::byte* block) noexcept;  // one that allocate() gave
  // Work queued so far on `queue` uses the block; ignored for the block's own queue.
  void record_stream(const std::byte* block, QueueId queue);
  bool owns(const std::byte* block) const;

  PoolId make_pool();
  // The pool is no longer needed: its blocks join the shared pool, those in use when they are
  // freed.
  void release_pool(PoolId pool);
  // While on (calls nest), events are neither recorded nor asked: a capture is under way, and
  // blocks that would wait for one do so after the last off.
  void defer_events(bool on);

  BlockStats stats() const;
  void reset_peak();
  // Gives segments without a block in use back to the source, waiting for events first.
  void trim();
  // At most so many bytes are held; a request beyond it fails like one that the source refuses.
  void set_limit(std::optional<Bytes> limit);

 private:
  struct Block;
  struct Key {  // blocks that may stand in for one another
    PoolId pool = kSharedPool;
    bool small = true;
    QueueId queue;
    auto operator<=>(const Key&) const = default;
  };
  struct BySize {
    bool operator()(const Block* a, const Block* b) const;
  };
  struct Block {
    std::byte* address = nullptr;
    std::size_t size = 0;
    Key key;
    bool in_use = false;
    int events = 0;               // still to be done before it is free
    std::vector<QueueId> users;   // other queues
    std::unique_ptr<Block> next;  // the block behind it in its segment
    Block* previous = nullptr;
    std::size_t segment_size = 0;  // of the segment's first block
  };
  struct Pending {
    void* event;
    Block* block;
  };
  using FreeSet = std::set<Block*, BySize>;

  Block* take(const Key& key, std::size_t size);
  Block* grow(const Key& key, std::size_t segment);
  std::byte* hand_out(Block* block, std::size_t size);
  void make_free(Block* block);
  void wait_for_users(Block* block);
  void collect(bool waiting);
  bool release_free_segments();
  [[noreturn]] void refuse(Bytes bytes, Bytes segment) const;

  std::unique_ptr<BlockSource> source_;
  const std::string what_;
  mutable std::mutex mutex_;
  std::map<Key, FreeSet> free_;
  std::map<std::byte*, std::unique_ptr<Block>> segments_;  // first blocks
  std::unordered_map<const std::byte*, Block*> in_use_;
  std::vector<Pending> pending_;
  std::vector<Block*> deferred_;  // freed while events were deferred
  int deferring_ = 0;
  PoolId next_pool_ = 1;
  std::set<PoolId> live_pools_;
  std::optional<std::size_t> limit_;
  BlockStats stats_;
};

}  // namespace weft::tensor
