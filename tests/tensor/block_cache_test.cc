// The caching allocator's bookkeeping, over memory and events that the test controls.
#include "tensor/block_cache.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "kernels/base/error.h"

namespace weft::tests {
namespace {

using tensor::BlockCache;
using tensor::kSharedPool;
using tensor::QueueId;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr QueueId kOne{0, nullptr};
const QueueId kTwo{0, reinterpret_cast<void*>(2)};

struct Fake {
  std::size_t limit = std::size_t{1} << 30;
  std::size_t given = 0;
  std::map<void*, std::size_t> segments;
  std::set<void*> recorded, done;
  std::uintptr_t next_event = 1;
  bool records_fail = false;
};

class FakeSource : public tensor::BlockSource {
 public:
  explicit FakeSource(Fake& fake) : fake_(fake) {}
  void* allocate(Bytes bytes) override {
    if (fake_.given + bytes.size() > fake_.limit) return nullptr;
    void* const segment = std::aligned_alloc(4096, bytes.size());
    fake_.segments[segment] = bytes.size();
    fake_.given += bytes.size();
    return segment;
  }
  void release(void* segment) noexcept override {
    fake_.given -= fake_.segments.at(segment);
    fake_.segments.erase(segment);
    std::free(segment);
  }
  void* record(QueueId) override {
    if (fake_.records_fail) fail<IoError>("the device has failed");
    auto* const event = reinterpret_cast<void*>(fake_.next_event++);
    fake_.recorded.insert(event);
    return event;
  }
  bool is_done(void* event) override { return fake_.done.contains(event); }
  void wait(void* event) override { fake_.done.insert(event); }
  void forget(void* event) noexcept override { fake_.recorded.erase(event); }
  std::string describe_exhaustion() const override { return "7 of 9 bytes are free on fake:0"; }

 private:
  Fake& fake_;
};

class BlockCacheTest : public ::testing::Test {
 protected:
  ~BlockCacheTest() override { cache_.trim(); }
  void finish_events() { fake_.done = fake_.recorded; }

  Fake fake_;
  BlockCache cache_{std::make_unique<FakeSource>(fake_), "a tensor on fake:0"};
};

constexpr Bytes kMiB(1 << 20);

TEST_F(BlockCacheTest, AFreedBlockServesTheNextRequestOfItsStream) {
  auto* const first = cache_.allocate(Bytes(1000), kOne);
  cache_.free(first);
  EXPECT_EQ(cache_.allocate(Bytes(900), kOne), first);
  EXPECT_EQ(cache_.stats().source_allocations, 1);
  auto* const elsewhere = cache_.allocate(Bytes(900), kTwo);
  EXPECT_EQ(cache_.stats().source_allocations, 2) << "streams do not share segments";
  cache_.free(first);
  cache_.free(elsewhere);
}

TEST_F(BlockCacheTest, SmallRequestsShareASegmentAndJoinAgain) {
  std::vector<std::byte*> blocks;
  for (int i = 0; i < 64; ++i) blocks.push_back(cache_.allocate(Bytes(32 << 10), kOne));
  EXPECT_EQ(cache_.stats().held, kMiB * 2);
  EXPECT_EQ(cache_.stats().in_use, kMiB * 2);
  for (std::size_t i = 0; i < 64; i += 2) cache_.free(blocks[i]);
  for (std::size_t i = 1; i < 64; i += 2) cache_.free(blocks[i]);
  EXPECT_EQ(cache_.stats().in_use, Bytes(0));
  auto* const whole = cache_.allocate(kMiB, kOne);  // only where neighbours were joined
  EXPECT_EQ(cache_.stats().source_allocations, 1);
  cache_.free(whole);
  cache_.trim();
  EXPECT_EQ(cache_.stats().held, Bytes(0));
  EXPECT_TRUE(fake_.segments.empty());
}

TEST_F(BlockCacheTest, LargeBlocksAreSplitWhereTheRestIsWorthIt) {
  auto* const large = cache_.allocate(kMiB * 64, kOne);
  cache_.free(large);
  auto* const half = cache_.allocate(kMiB * 32, kOne);
  auto* const other = cache_.allocate(kMiB * 32, kOne);
  EXPECT_EQ(half, large);
  EXPECT_EQ(other, large + (kMiB * 32).value);
  EXPECT_EQ(cache_.stats().source_allocations, 1);
  cache_.free(half);
  auto* const nearly = cache_.allocate(kMiB * 32 - Bytes(4096), kOne);
  EXPECT_EQ(cache_.stats().in_use, kMiB * 64) << "4096 bytes are not worth a block of their own";
  cache_.free(nearly);
  cache_.free(other);
}

TEST_F(BlockCacheTest, AnotherStreamsUseHoldsABlockBackUntilItsEventIsDone) {
  auto* const block = cache_.allocate(Bytes(4096), kOne);
  cache_.record_stream(block, kTwo);
  cache_.record_stream(block, kTwo);  // once is enough
  cache_.free(block);
  EXPECT_EQ(fake_.recorded.size(), 1u);
  EXPECT_EQ(cache_.stats().in_use, Bytes(4096));
  auto* const meanwhile = cache_.allocate(Bytes(4096), kOne);
  EXPECT_NE(meanwhile, block);
  finish_events();
  auto* const after = cache_.allocate(Bytes(4096), kOne);
  EXPECT_EQ(after, block);
  EXPECT_TRUE(fake_.recorded.empty()) << "events are given back";
  cache_.free(meanwhile);
  cache_.free(after);
}

TEST_F(BlockCacheTest, ItsOwnStreamNeedsNoEvent) {
  auto* const block = cache_.allocate(Bytes(4096), kTwo);
  cache_.record_stream(block, kTwo);
  cache_.free(block);
  EXPECT_TRUE(fake_.recorded.empty());
  EXPECT_EQ(cache_.allocate(Bytes(4096), kTwo), block);
  cache_.free(block);
}

TEST_F(BlockCacheTest, ABlockWhoseEventCannotBeRecordedIsNeverGivenOutAgain) {
  auto* const block = cache_.allocate(Bytes(4096), kOne);
  cache_.record_stream(block, kTwo);
  fake_.records_fail = true;
  cache_.free(block);
  auto* const next = cache_.allocate(Bytes(4096), kOne);
  EXPECT_NE(next, block);
  cache_.free(next);
  EXPECT_EQ(cache_.stats().in_use, Bytes(4096));
}

TEST_F(BlockCacheTest, WhenMemoryRunsOutOtherStreamsSegmentsAndPendingBlocksGiveWay) {
  fake_.limit = std::size_t{64} << 20;
  cache_.free(cache_.allocate(kMiB * 32, kTwo));
  auto* const pending = cache_.allocate(kMiB * 32, kOne);
  cache_.record_stream(pending, kTwo);
  cache_.free(pending);
  auto* const large = cache_.allocate(kMiB * 64, kOne);
  EXPECT_EQ(cache_.stats().trims, 1);
  EXPECT_EQ(cache_.stats().held, kMiB * 64);
  cache_.free(large);
}

TEST_F(BlockCacheTest, ExhaustionSaysWhatWasAskedFreeHeldAndInUse) {
  fake_.limit = std::size_t{64} << 20;
  auto* const block = cache_.allocate(kMiB * 40, kOne);
  EXPECT_THAT([&] { cache_.allocate(kMiB * 30, kOne); },
              ThrowsMessage<IoError>(
                  AllOf(HasSubstr("allocating 31457280 bytes for a tensor on fake:0"),
                        HasSubstr("7 of 9 bytes are free on fake:0"),
                        HasSubstr("holds 41943040 bytes"), HasSubstr("41943040 in use"))));
  EXPECT_THAT([&] { cache_.allocate(Bytes(std::int64_t{1} << 62), kOne); },
              ThrowsMessage<IoError>(HasSubstr("4611686018427387904")));
  auto* const still = cache_.allocate(kMiB * 20, kOne);  // a refusal leaves everything in order
  cache_.free(still);
  cache_.free(block);
}

TEST_F(BlockCacheTest, ALimitIsALimit) {
  cache_.set_limit(kMiB * 4);
  auto* const block = cache_.allocate(Bytes(100), kOne);
  EXPECT_THAT([&] { cache_.allocate(kMiB * 8, kOne); },
              ThrowsMessage<IoError>(HasSubstr("(of 4194304 allowed)")));
  cache_.set_limit({});
  cache_.set_limit(kMiB * 8);
  auto* const tight = cache_.allocate(kMiB * 5, kOne);  // no room for a segment to share
  EXPECT_EQ(cache_.stats().held, kMiB * 8);
  cache_.free(tight);
  cache_.set_limit({});
  cache_.free(cache_.allocate(kMiB * 8, kOne));
  cache_.free(block);
}

TEST_F(BlockCacheTest, APoolKeepsItsBlocksUntilItIsReleased) {
  const auto pool = cache_.make_pool();
  auto* const captured = cache_.allocate(Bytes(4096), kOne, pool);
  cache_.free(captured);
  auto* const outside = cache_.allocate(Bytes(4096), kOne);
  EXPECT_NE(outside, captured);
  EXPECT_EQ(cache_.allocate(Bytes(4096), kOne, pool), captured);
  cache_.trim();
  EXPECT_EQ(cache_.stats().held, kMiB * 4) << "a pool's segments are not trimmed";
  cache_.free(outside);
  cache_.trim();
  cache_.release_pool(pool);
  cache_.free(captured);
  EXPECT_EQ(cache_.allocate(Bytes(4096), kOne), captured) << "it is everybody's now";
  cache_.free(captured);
  cache_.trim();
  EXPECT_EQ(cache_.stats().held, Bytes(0));
}

TEST_F(BlockCacheTest, NoEventIsRecordedWhileAGraphIsCaptured) {
  auto* const block = cache_.allocate(Bytes(4096), kOne);
  cache_.record_stream(block, kTwo);
  cache_.defer_events(true);
  cache_.free(block);
  EXPECT_TRUE(fake_.recorded.empty());
  auto* const other = cache_.allocate(Bytes(4096), kOne);
  EXPECT_NE(other, block);
  cache_.defer_events(false);
  EXPECT_EQ(fake_.recorded.size(), 1u);
  finish_events();
  auto* const again = cache_.allocate(Bytes(4096), kOne);
  EXPECT_EQ(again, block);
  cache_.free(again);
  cache_.free(other);
}

// Blocks never overlap, and everything comes back, whatever the order.
TEST_F(BlockCacheTest, RandomRequestsFromSeveralThreadsNeverOverlap) {
  const auto work = [this](unsigned seed) {
    std::mt19937 random(seed);
    const QueueId queue{0, reinterpret_cast<void*>(std::uintptr_t{seed})};
    std::vector<std::pair<std::byte*, std::size_t>> held;
    for (int i = 0; i < 2000; ++i) {
      if (held.size() > 20 || (!held.empty() && random() % 3 == 0)) {
        const auto at = random() % held.size();
        const auto [block, size] = held[at];
        for (const std::size_t byte : {std::size_t{0}, size / 2, size - 1}) {
          ASSERT_EQ(block[byte], std::byte(seed)) << "size " << size;
        }
        cache_.free(block);
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
      } else {
        const auto size = 1 + random() % (random() % 10 == 0 ? 3u << 20 : 40000u);
        auto* const block = cache_.allocate(Bytes(static_cast<std::int64_t>(size)), queue);
        for (const std::size_t byte : {std::size_t{0}, size / 2, size - 1}) {
          block[byte] = std::byte(seed);
        }
        held.emplace_back(block, size);
      }
    }
    for (const auto& [block, size] : held) cache_.free(block);
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 3; ++seed) threads.emplace_back(work, seed);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(cache_.stats().in_use, Bytes(0));
  cache_.trim();
  EXPECT_EQ(cache_.stats().held, Bytes(0)) << "free neighbours were joined";
}

}  // namespace
}  // namespace weft::tests
