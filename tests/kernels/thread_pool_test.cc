#include "kernels/base/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/base/error.h"

namespace weft {
namespace {

using Range = std::pair<std::int64_t, std::int64_t>;

std::vector<Range> ranges_of(ThreadPool& pool, std::int64_t size, std::int64_t grain) {
  std::vector<Range> slots(static_cast<std::size_t>(size));
  std::atomic<std::size_t> used{0};
  pool.parallel_for(size, grain, [&](std::int64_t begin, std::int64_t end) {
    slots[used++] = {begin, end};
  });
  slots.resize(used);
  std::sort(slots.begin(), slots.end());
  return slots;
}

TEST(ThreadPoolTest, RangesCoverEverythingOnceAndAreNoShorterThanTheGrain) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const std::int64_t size : {1, 2, 3, 10, 64, 65, 1000, 5000, 20011}) {
      for (const std::int64_t grain : {1, 3, 64, 1000, 100000}) {
        const auto ranges = ranges_of(pool, size, grain);
        ASSERT_LE(ranges.size(), static_cast<std::size_t>(threads));
        std::int64_t next = 0;
        for (const auto& [begin, end] : ranges) {
          ASSERT_EQ(begin, next) << size << " " << grain << " " << threads;
          ASSERT_LT(begin, end);
          if (end != size) {
            ASSERT_GE(end - begin, grain);
          }
          next = end;
        }
        ASSERT_EQ(next, size);
      }
    }
  }
}

TEST(ThreadPoolTest, RangesDependOnTheArgumentsAlone) {
  ThreadPool pool(3), other(3);
  const auto first = ranges_of(pool, 10007, 16);
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(ranges_of(pool, 10007, 16), first);
    ASSERT_EQ(ranges_of(other, 10007, 16), first);
  }
}

TEST(ThreadPoolTest, NothingToDoCallsNothing) {
  ThreadPool pool(2);
  pool.parallel_for(0, 1, [](std::int64_t, std::int64_t) { FAIL(); });
  pool.parallel_for(-5, 1, [](std::int64_t, std::int64_t) { FAIL(); });
}

TEST(ThreadPoolTest, NestedCallsRunInTheCallingThread) {
  ThreadPool pool(3);
  std::atomic<std::int64_t> sum{0};
  pool.parallel_for(30, 1, [&](std::int64_t begin, std::int64_t end) {
    const auto outer = std::this_thread::get_id();
    for (std::int64_t i = begin; i < end; ++i) {
      pool.parallel_for(100, 1, [&](std::int64_t b, std::int64_t e) {
        EXPECT_EQ(std::this_thread::get_id(), outer);
        EXPECT_EQ(e - b, 100);
        sum += e - b;
      });
    }
  });
  EXPECT_EQ(sum.load(), 3000);
}

TEST(ThreadPoolTest, TheFirstExceptionArrivesAndThePoolGoesOn) {
  ThreadPool pool(4);
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> finished{0};
    try {
      pool.parallel_for(4, 1, [&](std::int64_t begin, std::int64_t) {
        if (begin >= 1) throw std::runtime_error("range " + std::to_string(begin));
        ++finished;
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "range 1");
    }
    EXPECT_EQ(finished.load(), 1);
  }
  std::atomic<std::int64_t> count{0};
  pool.parallel_for(100, 1, [&](std::int64_t b, std::int64_t e) { count += e - b; });
  EXPECT_EQ(count.load(), 100);
}

TEST(ThreadPoolTest, ManyCallersTakeTurns) {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int caller = 0; caller < 6; ++caller) {
    callers.emplace_back([&, caller] {
      std::vector<std::int64_t> data(997);
      for (int round = 0; round < 300; ++round) {
        pool.parallel_for(997, 10, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i)
            data[static_cast<std::size_t>(i)] += i + caller;
        });
      }
      for (std::int64_t i = 0; i < 997; ++i) {
        wrong += data[static_cast<std::size_t>(i)] != 300 * (i + caller);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST(ThreadPoolTest, PoolsComeAndGo) {
  for (int round = 0; round < 100; ++round) {
    ThreadPool pool(1 + round % 4);
    std::atomic<std::int64_t> count{0};
    if (round % 3 != 0) {
      pool.parallel_for(50, 1, [&](std::int64_t b, std::int64_t e) { count += e - b; });
      EXPECT_EQ(count.load(), 50);
    }
  }
}

TEST(ThreadPoolTest, WorkersSleepAndWakeAgain) {
  ThreadPool pool(2);
  std::atomic<std::int64_t> count{0};
  for (int round = 0; round < 20; ++round) {
    // Long past the time a worker spins: serial work in between.
    volatile double sink = 0.0;
    for (int i = 0; i < 200000; ++i) sink = sink + 1.0;
    pool.parallel_for(2, 1, [&](std::int64_t b, std::int64_t e) { count += e - b; });
  }
  EXPECT_EQ(count.load(), 40);
}

TEST(ThreadPoolTest, ScopesSetTheCurrentPoolOfTheirThreadOnly) {
  ThreadPool outer(2), inner(3);
  ThreadPool& process = ThreadPool::current();
  {
    const ScopedThreadPool scope(outer);
    EXPECT_EQ(&ThreadPool::current(), &outer);
    {
      const ScopedThreadPool nested(inner);
      EXPECT_EQ(&ThreadPool::current(), &inner);
      std::thread([&] { EXPECT_EQ(&ThreadPool::current(), &process); }).join();
    }
    EXPECT_EQ(&ThreadPool::current(), &outer);
  }
  EXPECT_EQ(&ThreadPool::current(), &process);
}

class PoolSizeTest : public testing::Test {
 protected:
  PoolSizeTest() {
    for (const char* name : {"WEFT_NUM_THREADS", "OMP_NUM_THREADS"}) {
      const char* value = std::getenv(name);
      before_.emplace_back(name, value != nullptr ? value : "");
      unsetenv(name);
    }
  }
  ~PoolSizeTest() override {
    for (const auto& [name, value] : before_) {
      if (value.empty()) {
        unsetenv(name.c_str());
      } else {
        setenv(name.c_str(), value.c_str(), 1);
      }
    }
  }

 private:
  std::vector<std::pair<std::string, std::string>> before_;
};

TEST_F(PoolSizeTest, TheEnvironmentDecides) {
  EXPECT_GE(ThreadPool::default_size(), 1);
  setenv("OMP_NUM_THREADS", "5,2", 1);
  EXPECT_EQ(ThreadPool::default_size(), 5);
  setenv("WEFT_NUM_THREADS", "3", 1);
  EXPECT_EQ(ThreadPool::default_size(), 3);
  setenv("WEFT_NUM_THREADS", "", 1);
  EXPECT_EQ(ThreadPool::default_size(), 5);
}

TEST_F(PoolSizeTest, BadValuesAreNamed) {
  for (const char* bad : {"0", "-1", "two", "3x", " 3", "4097", "99999999999999999999", "4,2"}) {
    setenv("WEFT_NUM_THREADS", bad, 1);
    try {
      ThreadPool::default_size();
      FAIL() << bad;
    } catch (const InvalidArgument& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("WEFT_NUM_THREADS"));
      EXPECT_THAT(error.what(), testing::HasSubstr(bad));
    }
  }
  EXPECT_THROW(ThreadPool(0), InvalidArgument);
  EXPECT_THROW(ThreadPool(-3), InvalidArgument);
}

}  // namespace
}  // namespace weft
