// What goes wrong with collectives on CUDA memory: who leaves, throws, disagrees or aborts ends the
// kernels that wait, with the cause; bad arguments say what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <memory>

#include "tensor/tensor.h"
#include "tests/comm/world.h"
#include "tests/gpu/cuda_world.h"

namespace weft::comm {
namespace {

namespace cuda = kernels::cuda;
using ::testing::AllOf;
using testing::CudaRank;
using testing::expect_cuda_world;
using ::testing::HasSubstr;
using testing::run_cuda_world;
using testing::text_of_error;
using testing::TwinBuffer;

class CudaFailures : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << "no GPU: " << cuda::reason_for_none();
  }
};

ErrorCode code_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return e.code();
  } catch (...) {
    return ErrorCode::io;
  }
}

void all_reduce_forever(CudaRank& rank, std::int64_t count) {
  TwinBuffer data(DType::f32, count, false);
  data.fill(1, rank.stream);
  for (;;) rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream).wait();
}

constexpr std::int64_t kCounts[] = {10, 50'000};  // by flags beside the data, and by a program

TEST_F(CudaFailures, ARankThatThrowsIsNamedByAllOthers) {
  for (const std::int64_t count : kCounts) {
    const auto errors = run_cuda_world({4}, [&](CudaRank& rank) {
      if (rank.rank() == 2) throw std::runtime_error("out of cheese");
      try {
        all_reduce_forever(rank, count);
      } catch (...) {
        const std::string first = text_of_error(std::current_exception());
        EXPECT_THAT(first, HasSubstr("all_reduce #"));
        EXPECT_THROW(rank.cuda.barrier(rank.stream), PeerLost);
        EXPECT_THROW(rank.host.barrier(), PeerLost);
        throw;
      }
    });
    EXPECT_EQ(text_of_error(errors[2]), "out of cheese");
    for (const std::size_t r : {0u, 1u, 3u}) {
      EXPECT_EQ(code_of(errors[r]), ErrorCode::peer_lost) << text_of_error(errors[r]);
      EXPECT_THAT(text_of_error(errors[r]), AllOf(HasSubstr("rank 2"), HasSubstr("exception")));
    }
  }
}

TEST_F(CudaFailures, ARankThatLeavesEarlyIsNamed) {
  for (const std::int64_t count : kCounts) {
    const auto errors = run_cuda_world({3}, [&](CudaRank& rank) {
      rank.cuda.barrier(rank.stream);
      if (rank.rank() != 1) all_reduce_forever(rank, count);
    });
    EXPECT_EQ(text_of_error(errors[1]), "");
    for (const std::size_t r : {0u, 2u}) {
      EXPECT_EQ(code_of(errors[r]), ErrorCode::peer_lost) << text_of_error(errors[r]);
      EXPECT_THAT(text_of_error(errors[r]), AllOf(HasSubstr("rank 1"), HasSubstr("all_reduce #")));
    }
  }
}

TEST_F(CudaFailures, LeavingAfterTheLastCollectiveIsNoFailure) {
  for (int k = 0; k < 5; ++k) {
    expect_cuda_world({3}, [](CudaRank& rank) {
      TwinBuffer data(DType::f32, 30'000, false);
      data.fill(1, rank.stream);
      rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream);
      rank.cuda.broadcast(data.device(), 2, rank.stream);
    });
  }
}

TEST_F(CudaFailures, AbortEndsWhatIsUnderWay) {
  const auto errors = run_cuda_world({3}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 10'000, false);
    data.fill(1, rank.stream);
    rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream).wait();
    if (rank.rank() == 0) {
      rank.host.abort("the loss is not a number");
      rank.cuda.check();
    }
    rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream).wait();
  });
  for (const auto& error : errors) {
    EXPECT_EQ(code_of(error), ErrorCode::aborted) << text_of_error(error);
    EXPECT_THAT(text_of_error(error), AllOf(HasSubstr("rank 0"), HasSubstr("not a number")));
  }
}

// Both calls are named, by all ranks alike.
void expect_mismatch(const std::function<void(CudaRank&)>& body, const std::string& one,
                     const std::string& other) {
  const auto errors = run_cuda_world({3}, [&](CudaRank& rank) {
    TwinBuffer warm(DType::f32, 100, false);
    warm.fill(1, rank.stream);
    rank.cuda.all_reduce(warm.device(), ReduceOp::sum, rank.stream);
    body(rank);
    rank.cuda.barrier(rank.stream).wait();
    rank.cuda.barrier(rank.stream).wait();
  });
  for (const auto& error : errors) {
    EXPECT_EQ(code_of(error), ErrorCode::mismatch) << text_of_error(error);
    EXPECT_THAT(text_of_error(error), AllOf(HasSubstr("ranks disagree"), HasSubstr(one),
                                            HasSubstr(other), HasSubstr("rank 1")));
  }
}

TEST_F(CudaFailures, RanksThatDisagreeHearBothCalls) {
  const auto reduces = [](std::int64_t count, std::int64_t other) {
    return [=](CudaRank& rank) {
      TwinBuffer data(DType::f32, std::max(count, other), false);
      data.fill(1, rank.stream);
      const std::int64_t mine = rank.rank() == 1 ? other : count;
      rank.cuda.all_reduce(data.device(0, mine), ReduceOp::sum, rank.stream);
    };
  };
  expect_mismatch(reduces(10, 11), "10 x f32", "11 x f32");
  expect_mismatch(reduces(50'000, 10), "50000 x f32", "10 x f32");
  expect_mismatch(reduces(50'000, 900'000), "50000 x f32", "900000 x f32");
  expect_mismatch(
      [](CudaRank& rank) {
        TwinBuffer data(DType::i32, 64, false);
        data.fill(1, rank.stream);
        if (rank.rank() == 1) {
          rank.cuda.broadcast(data.device(), 0, rank.stream);
        } else {
          rank.cuda.all_reduce(data.device(), ReduceOp::max, rank.stream);
        }
      },
      "all_reduce #2, 64 x i32, max", "broadcast #2, 64 x i32, root 0");
}

TEST_F(CudaFailures, AMessageOfAnotherLengthIsAMismatch) {
  const auto errors = run_cuda_world({2}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 100, false);
    data.fill(1, rank.stream);
    if (rank.rank() == 0) {
      rank.cuda.send(data.device(0, 10), 1, rank.stream);
    } else {
      rank.cuda.recv(data.device(0, 20), 0, rank.stream).wait();
    }
    rank.cuda.barrier(rank.stream).wait();
  });
  for (const auto& error : errors) {
    EXPECT_EQ(code_of(error), ErrorCode::mismatch) << text_of_error(error);
    EXPECT_THAT(text_of_error(error),
                AllOf(HasSubstr("send/recv #1, 10 x f32"), HasSubstr("20 x f32")));
  }
}

TEST_F(CudaFailures, BadArgumentsSayWhatToDo) {
  expect_cuda_world({2}, [](CudaRank& rank) {
    std::vector<float> host(100);
    TwinBuffer data(DType::f32, 100, false);
    const auto expect = [&](const auto& call, const std::string& text) {
      try {
        call();
        ADD_FAILURE() << "no error that says " << text;
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr(text));
      }
    };
    expect([&] { rank.cuda.all_reduce(std::span(host), ReduceOp::sum, rank.stream); },
           "input is host memory, or memory that was freed; pass memory of device 0");
    expect([&] { rank.cuda.send(std::span(host), 1 - rank.rank(), rank.stream); },
           "buffer is host memory");
    expect([&] { rank.cuda.send(data.device(), rank.rank(), rank.stream); }, "peer");
    expect(
        [&] {
          rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream, {{}, DType::bf16});
        },
        "wire compression is for host memory");
    expect(
        [&] { rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream, {"hierarchical"}); },
        "choose one of auto");
    expect([&] { rank.cuda.broadcast(data.device(), 7, rank.stream); }, "root");
    expect([&] { rank.host.cuda(1); }, "of device 0 already");
    cuda::PinnedMemory pinned(Bytes(64));
    expect(
        [&] {
          rank.cuda.barrier(rank.stream);
          rank.cuda.broadcast({pinned.data(), Elems(16), DType::f32}, 0, rank.stream);
        },
        "pinned host memory");
    rank.cuda.barrier(rank.stream).wait();
  });
}

TEST_F(CudaFailures, ABufferIsAsLongAsTheCallSays) {
  expect_cuda_world({2}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 100, false);
    const auto refused = ::testing::ThrowsMessage<InvalidArgument>(
        AllOf(HasSubstr("begins in memory of device 0 and its last byte"), HasSubstr("freed")));
    const View beyond{data.device().data, Elems(std::int64_t{1} << 50), DType::f32};
    EXPECT_THAT([&] { rank.cuda.all_reduce(beyond, ReduceOp::sum, rank.stream); }, refused);
    EXPECT_THAT([&] { rank.cuda.send(beyond, 1 - rank.rank(), rank.stream); }, refused);
    const View gathered{data.device().data, Elems(std::int64_t{1} << 51), DType::f32};
    EXPECT_THAT([&] { rank.cuda.all_gather(data.device(0, 1), gathered, rank.stream); },
                ::testing::Throws<InvalidArgument>());
    rank.cuda.barrier(rank.stream).wait();
  });
}

TEST_F(CudaFailures, BuffersThatOverlapAreRefused) {
  expect_cuda_world({2}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 100, false);
    data.fill(1, rank.stream);
    const auto refused = ::testing::ThrowsMessage<InvalidArgument>(HasSubstr("overlap"));
    auto& cuda = rank.cuda;
    EXPECT_THAT(
        [&] {
          cuda.all_reduce(data.device(0, 10), data.device(9, 10), ReduceOp::sum, rank.stream);
        },
        refused);
    const std::int64_t other = 10 * (1 - rank.rank()), own = 10 * rank.rank();
    EXPECT_THAT([&] { cuda.all_gather(data.device(other, 10), data.device(0, 20), rank.stream); },
                refused);
    EXPECT_THAT(
        [&] {
          cuda.reduce_scatter(data.device(0, 20), data.device(other, 10), ReduceOp::sum,
                              rank.stream);
        },
        refused);
    cuda.all_gather(data.device(own, 10), data.device(0, 20), rank.stream);
    cuda.reduce_scatter(data.device(0, 20), data.device(own, 10), ReduceOp::sum, rank.stream);
    cuda.all_reduce(data.device(0, 10), data.device(10, 10), ReduceOp::sum, rank.stream).wait();
  });
}

// They would wait for each other in one queue for ever.
TEST_F(CudaFailures, ThreadsThatShareADeviceDoNotShareTheDefaultStream) {
  expect_cuda_world({2}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 100, false);
    data.fill(1, rank.stream);
    const auto refused = ::testing::ThrowsMessage<InvalidArgument>(
        AllOf(HasSubstr("the default stream"), HasSubstr("a stream of its own")));
    EXPECT_THAT([&] { rank.cuda.all_reduce(data.device(), ReduceOp::sum, nullptr); }, refused);
    EXPECT_THAT([&] { rank.cuda.barrier(nullptr); }, refused);
    EXPECT_THAT([&] { rank.cuda.send(data.device(), 1 - rank.rank(), nullptr); }, refused);
    rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream).wait();
  });
  expect_cuda_world({1}, [](CudaRank& rank) {
    TwinBuffer data(DType::f32, 100, false);
    data.fill(1, rank.stream);
    rank.cuda.all_reduce(data.device(), ReduceOp::sum, nullptr).wait();
  });
}

// Takes what the device has but for less than `left`; gone with its owner.
std::vector<std::shared_ptr<void>> take_memory(Bytes left) {
  std::vector<std::shared_ptr<void>> taken;
  std::int64_t chunk = cuda::memory_info().free.value / 2;
  while (chunk >= left.value / 4) {
    if (void* const data = cuda::try_allocate(Bytes(chunk))) {
      taken.emplace_back(data, [](void* memory) { cuda::release(memory); });
    } else {
      chunk /= 2;
    }
  }
  return taken;
}

std::vector<std::exception_ptr> join_two(int device) {
  std::vector<Communicator> ranks = Communicator::in_process(2);
  std::vector<std::exception_ptr> errors(2);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      try {
        EXPECT_THAT(ranks[r].cuda(device).means(), HasSubstr("threads of one process"));
      } catch (...) {
        errors[r] = std::current_exception();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return errors;
}

TEST_F(CudaFailures, TooLittleMemoryIsAnErrorAndNotASlowerWay) {
  const auto taken = take_memory(Bytes(1 << 20));
  const auto errors = join_two(0);
  for (const auto& error : errors) {
    EXPECT_EQ(code_of(error), ErrorCode::io) << text_of_error(error);
    EXPECT_THAT(text_of_error(error),
                AllOf(HasSubstr("out of memory"), HasSubstr("bytes are free on device 0"),
                      HasSubstr("collectives on CUDA memory: rank")));
  }
}

TEST_F(CudaFailures, WhatTensorsOnlyKeepIsGivenBackForIt) {
  {  // kept by the allocator when it is freed
    const auto kept = Tensor::empty({64 << 20}, {DType::u8, {DeviceType::cuda, 0}});
  }
  auto taken = take_memory(Bytes(1 << 20));
  for (const auto& error : join_two(0)) EXPECT_EQ(text_of_error(error), "");
  const auto used = Tensor::empty({1 << 10}, {DType::u8, {DeviceType::cuda, 0}});
  const auto more = take_memory(Bytes(1 << 20));
  const auto errors = join_two(0);
  EXPECT_THAT(text_of_error(errors[0]), HasSubstr("tensors of this process hold"));
}

TEST_F(CudaFailures, ARankThatDoesNotComeIsATimeout) {
  testing::Backend backend = testing::shm_backend();
  backend.operation_timeout = std::chrono::milliseconds(400);
  for (const bool message : {false, true}) {
    const auto errors = testing::run_world(backend, 2, [&](Communicator& world) {
      const cuda::OwnedStream stream(0);
      CudaRank rank{world, world.cuda(0, 2), stream.get()};
      TwinBuffer data(DType::f32, 10'000, false);
      data.fill(1, rank.stream);
      if (rank.rank() == 0 && message) rank.cuda.recv(data.device(), 1, rank.stream).wait();
      if (rank.rank() == 0) rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream).wait();
      for (;;) {  // until it hears of it
        rank.cuda.check();
        std::this_thread::yield();
      }
    });
    testing::WorldMemory::free_all();
    for (const auto& error : errors) {
      EXPECT_EQ(code_of(error), ErrorCode::timeout) << text_of_error(error);
      EXPECT_THAT(text_of_error(error),
                  AllOf(HasSubstr("no progress on CUDA memory"), HasSubstr("10000 x f32")));
    }
  }
}

TEST_F(CudaFailures, ADeviceThatIsNotThereIsRefusedByAllRanks) {
  std::vector<Communicator> ranks = Communicator::in_process(2);
  std::vector<std::string> texts(2);
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      try {
        ranks[r].cuda(r == 1 ? 1000 : 0);
      } catch (const InvalidArgument& error) {
        texts[r] = error.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(texts[0], AllOf(HasSubstr("rank 1"), HasSubstr("1000")));
  EXPECT_EQ(texts[0], texts[1]);
}

}  // namespace
}  // namespace weft::comm
