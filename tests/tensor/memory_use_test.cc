// What is said about memory: counts of what tensors hold, and how they are written.
#include "tensor/memory_use.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tensor/cpu_allocator.h"
#include "tensor/tensor.h"

namespace weft::tests {
namespace {

using tensor::describe;
using tensor::reset_tensor_memory_peak;
using tensor::Storage;
using tensor::tensor_memory;

TEST(TensorMemoryTest, CountsWhatWasAskedForNotWhatWasRoundedUp) {
  const auto before = tensor_memory();
  const auto rounded_before = tensor::cpu_memory_stats().in_use;
  const Bytes odd(1'000'001);
  {
    const auto storage = Storage::allocate(odd);
    EXPECT_EQ(tensor_memory().now - before.now, odd);
    EXPECT_GT(tensor::cpu_memory_stats().in_use - rounded_before, odd);
    const auto view = Tensor::wrap(storage, {10}, DType::f32);
    EXPECT_EQ(tensor_memory().now - before.now, odd) << "a view asks for nothing";
  }
  EXPECT_EQ(tensor_memory().now, before.now);
}

TEST(TensorMemoryTest, ThePeakIsOfAllAtOnceAndStartsAnew) {
  reset_tensor_memory_peak();
  const auto before = tensor_memory();
  EXPECT_EQ(before.peak, before.now);
  {
    const auto a = Storage::allocate(Bytes(3000));
    { const auto b = Storage::allocate(Bytes(5000)); }
    const auto c = Storage::allocate(Bytes(4000));
    EXPECT_EQ(tensor_memory().now - before.now, Bytes(7000));
    EXPECT_EQ(tensor_memory().peak - before.now, Bytes(8000));
    reset_tensor_memory_peak();
    EXPECT_EQ(tensor_memory().peak - before.now, Bytes(7000));
  }
  EXPECT_EQ(tensor_memory().now, before.now);
  EXPECT_EQ(tensor_memory().peak - before.now, Bytes(7000)) << "of what was alive at the reset";
}

TEST(TensorMemoryTest, BorrowedMemoryIsItsOwners) {
  std::vector<std::byte> theirs(4096);
  const auto before = tensor_memory();
  const auto storage = Storage::borrow(theirs.data(), Bytes(4096), nullptr);
  EXPECT_EQ(tensor_memory().now, before.now);
}

TEST(TensorMemoryTest, ThreadsNeverLoseACount) {
  reset_tensor_memory_peak();
  const auto before = tensor_memory();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 1; i <= 2000; ++i) {
        const auto a = Storage::allocate(Bytes(i * (t + 1)));
        const auto b = Storage::allocate(Bytes(100));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(tensor_memory().now, before.now);
  EXPECT_GE(tensor_memory().peak - before.now, Bytes(2000 * 4 + 100)) << "one thread's largest";
  EXPECT_LE(tensor_memory().peak - before.now, Bytes(2000 * (1 + 2 + 3 + 4) + 4 * 100));
}

TEST(MemoryUseTest, BytesAreWrittenWithThreeDigits) {
  EXPECT_EQ(describe(Bytes(0)), "0 B");
  EXPECT_EQ(describe(Bytes(1023)), "1023 B");
  EXPECT_EQ(describe(Bytes(1024)), "1.00 KiB");
  EXPECT_EQ(describe(Bytes(1536)), "1.50 KiB");
  EXPECT_EQ(describe(Bytes(99'999)), "97.7 KiB");
  EXPECT_EQ(describe(Bytes(1'000 << 10)), "0.98 MiB");
  EXPECT_EQ(describe(Bytes(475 << 20)), "475 MiB");
  EXPECT_EQ(describe(Bytes(std::int64_t{5} << 30)), "5.00 GiB");
}

TEST(MemoryUseTest, WhatIsNotThereIsNotWritten) {
  MemoryUse use;
  use.parameters = Bytes(4 << 20);
  use.gradients = Bytes(4 << 20);
  use.optimizer = Bytes(8 << 20);
  use.activations = Bytes(1 << 20);
  use.peak = Bytes(17 << 20);
  EXPECT_EQ(use.state(), Bytes(16 << 20));
  EXPECT_EQ(describe(use),
            "parameters 4.00 MiB, gradients 4.00 MiB, optimizer 8.00 MiB, activations 1.00 MiB, "
            "peak 17.0 MiB");
  use.gathered = Bytes(2048);
  use.host = Bytes(8 << 20);
  const auto text = describe(use);
  EXPECT_NE(text.find("gathered 2.00 KiB"), std::string::npos) << text;
  EXPECT_NE(text.find("in host memory 8.00 MiB"), std::string::npos) << text;
}

}  // namespace
}  // namespace weft::tests
