// Storage and the host allocator below it.
#include "tensor/storage.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "kernels/base/error.h"
#include "tensor/cpu_allocator.h"
#include "tests/support/sanitized.h"

namespace weft::tests {
namespace {

using tensor::Storage;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

bool is_aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 64 == 0; }

TEST(StorageTest, EverySizeIsAlignedAndWritable) {
  for (std::int64_t size = 1; size < (std::int64_t{20} << 20); size += size / 3 + 1) {
    const auto storage = Storage::allocate(Bytes(size));
    ASSERT_TRUE(is_aligned(storage->data())) << size;
    EXPECT_EQ(storage->bytes(), Bytes(size));
    std::memset(storage->data(), 0x5a, static_cast<std::size_t>(size));
  }
}

TEST(StorageTest, BlocksInUseNeverOverlap) {
  std::vector<std::shared_ptr<Storage>> held;
  for (int round = 0; round < 3; ++round) {
    for (int i = 1; i <= 200; ++i) {
      const auto size = i * 37;
      held.push_back(Storage::allocate(Bytes(size)));
      std::memset(held.back()->data(), i, static_cast<std::size_t>(size));
    }
    for (int i = 1; i <= 200; ++i) {
      const auto& storage = *held[static_cast<std::size_t>(i - 1)];
      for (std::size_t b = 0; b < storage.bytes().size(); ++b) {
        ASSERT_EQ(static_cast<int>(storage.data()[b]), i % 256) << "block " << i << " byte " << b;
      }
    }
    held.clear();
  }
}

TEST(StorageTest, FreedBlocksServeTheNextRequest) {
  const Bytes size(3'000'000);
  Storage::allocate(size).reset();
  const auto before = tensor::cpu_memory_stats();
  for (int i = 0; i < 10; ++i) Storage::allocate(size).reset();
  const auto after = tensor::cpu_memory_stats();
  EXPECT_EQ(after.system_allocations, before.system_allocations);
  EXPECT_EQ(after.in_use, before.in_use);
  EXPECT_GE(after.cached, size);
}

TEST(StorageTest, TrimAndLimitBoundWhatIsKept) {
  { const auto a = Storage::allocate(Bytes(1 << 20)), b = Storage::allocate(Bytes(1 << 20)); }
  EXPECT_GE(tensor::cpu_memory_stats().cached, Bytes(2 << 20));
  tensor::trim_cpu_memory();
  EXPECT_EQ(tensor::cpu_memory_stats().cached, Bytes(0));

  tensor::set_cpu_memory_limit(Bytes(3 << 20));
  std::vector<std::shared_ptr<Storage>> held;
  for (int i = 0; i < 8; ++i) held.push_back(Storage::allocate(Bytes(1 << 20)));
  held.clear();
  EXPECT_EQ(tensor::cpu_memory_stats().cached, Bytes(3 << 20));
  Storage::allocate(Bytes(2 << 20)).reset();  // the class that rested longest gives way
  EXPECT_EQ(tensor::cpu_memory_stats().cached, Bytes(3 << 20));
  const auto before = tensor::cpu_memory_stats().system_allocations;
  Storage::allocate(Bytes(2 << 20)).reset();
  EXPECT_EQ(tensor::cpu_memory_stats().system_allocations, before);
  tensor::trim_cpu_memory();
  Storage::allocate(Bytes(1 << 20)).reset();
  Storage::allocate(Bytes(5 << 18)).reset();
  Storage::allocate(Bytes(3 << 19)).reset();  // 1 MiB goes, 1.25 MiB stays
  const auto served = tensor::cpu_memory_stats().system_allocations;
  Storage::allocate(Bytes(5 << 18)).reset();
  EXPECT_EQ(tensor::cpu_memory_stats().system_allocations, served);
  Storage::allocate(Bytes(1 << 20)).reset();
  EXPECT_EQ(tensor::cpu_memory_stats().system_allocations, served + 1);
  tensor::trim_cpu_memory();
  Storage::allocate(Bytes(3 << 20)).reset();
  Storage::allocate(Bytes(5 << 20)).reset();  // larger than the limit: not kept, nothing evicted
  EXPECT_EQ(tensor::cpu_memory_stats().cached, Bytes(3 << 20));
  tensor::set_cpu_memory_limit(Bytes(0));
  EXPECT_EQ(tensor::cpu_memory_stats().cached, Bytes(0));
  tensor::set_cpu_memory_limit(Bytes(std::int64_t{1} << 30));
}

TEST(StorageTest, ExhaustionNamesTheSizes) {
  EXPECT_THAT([] { Storage::allocate(Bytes(std::int64_t{1} << 50)); },
              ThrowsMessage<IoError>(HasSubstr("1125899906842624 bytes")));
  EXPECT_THROW(Storage::allocate(Bytes(-1)), InvalidArgument);
  EXPECT_THROW(Storage::borrow(nullptr, Bytes(8), nullptr), InvalidArgument);
}

TEST(StorageTest, ChangingSizesDoNotPileUp) {
  tensor::trim_cpu_memory();
  Storage::allocate(Bytes(200 << 20)).reset();
  for (int i = 1; i < 60; ++i) Storage::allocate(Bytes(std::int64_t{i} * (3 << 20))).reset();
  const auto stats = tensor::cpu_memory_stats();
  EXPECT_LE(stats.cached + stats.in_use, stats.peak_in_use * 2 + 64_MiB);
  tensor::trim_cpu_memory();
}

// In a process of its own whose address space is bounded: what is kept makes room, then an error.
void exhaust_memory() {
  const std::int64_t size = std::int64_t{512} << 20;
  tensor::set_cpu_memory_limit(Bytes(2 * size));
  Storage::allocate(Bytes(size)).reset();  // kept
  std::ifstream statm("/proc/self/statm");
  std::int64_t pages = 0;
  statm >> pages;
  rlimit limit{};
  limit.rlim_cur = limit.rlim_max =  // room for what threads may yet reserve, not for `larger`
      static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (256 << 20);
  ::setrlimit(RLIMIT_AS, &limit);
  const auto larger =
      Storage::allocate(Bytes(size + (8 << 20)));  // only if the first is given back
  try {
    Storage::allocate(Bytes(2 * size));
  } catch (const IoError& error) {
    std::fprintf(stderr, "%s", error.what());
    std::exit(tensor::cpu_memory_stats().cached == Bytes(0) ? 0 : 1);
  }
  std::exit(2);
}

TEST(StorageDeathTest, KeptMemoryMakesRoomBeforeAnythingFails) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer ends the process where memory is out";
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(exhaust_memory(), ::testing::ExitedWithCode(0), "1073741824 bytes");
}

TEST(StorageTest, EmptyStorageHasNoMemory) {
  const auto storage = Storage::allocate(Bytes(0));
  EXPECT_EQ(storage->data(), nullptr);
  EXPECT_EQ(storage->bytes(), Bytes(0));
}

TEST(StorageTest, ThreadsShareTheAllocator) {
  const auto before = tensor::cpu_memory_stats().in_use;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      std::vector<std::shared_ptr<Storage>> held;
      for (int i = 0; i < 2000; ++i) {
        held.push_back(Storage::allocate(Bytes(64 + (i * 131 + t * 977) % 5000)));
        std::memset(held.back()->data(), t, held.back()->bytes().size());
        if (held.size() > 20) held.erase(held.begin() + i % 20);
      }
      for (const auto& storage : held) {
        ASSERT_EQ(static_cast<int>(storage->data()[storage->bytes().size() - 1]), t);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(tensor::cpu_memory_stats().in_use, before);
}

}  // namespace
}  // namespace weft::tests
