// What happens when a rank throws, leaves, disagrees or stalls: every rank learns the same cause.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <latch>
#include <numeric>
#include <thread>

#include "tests/comm/world.h"
#include "tests/support/soon.h"

namespace weft::comm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::AllOf;
using ::testing::AnyOf;
using testing::Backend;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using testing::text_of;

class Failures : public ::testing::TestWithParam<Backend> {};

ErrorCode code_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return e.code();
  } catch (...) {
    return ErrorCode::io;
  }
}

void all_reduce_forever(Communicator& world, std::size_t count = 1000) {
  std::vector<float> data(count, 1.0f);
  for (;;) world.all_reduce(std::span<float>(data));
}

TEST_P(Failures, ARankThatThrowsIsNamedByAllOthers) {
  for (const std::size_t count : {1ul, 200'000ul}) {
    steady_clock::time_point thrown;
    std::vector<steady_clock::time_point> told(4);
    const auto errors = testing::run_world(GetParam(), 4, [&](Communicator& world) {
      std::vector<float> data(count, 1.0f);
      for (int k = 0;; ++k) {
        if (world.rank() == 2 && k == 20) {
          thrown = steady_clock::now();
          throw std::runtime_error("out of cheese");
        }
        try {
          world.all_reduce(std::span<float>(data));
        } catch (...) {
          told[static_cast<std::size_t>(world.rank())] = steady_clock::now();
          const std::string first = text_of(std::current_exception());
          try {
            world.barrier();
            ADD_FAILURE() << "the communicator still works";
          } catch (const std::exception& again) {
            EXPECT_EQ(again.what(), first);
          }
          throw;
        }
      }
    });
    EXPECT_EQ(text_of(errors[2]), "out of cheese");
    for (const std::size_t r : {0u, 1u, 3u}) {
      EXPECT_EQ(code_of(errors[r]), ErrorCode::peer_lost);
      EXPECT_THAT(text_of(errors[r]), AllOf(HasSubstr("rank 2"), HasSubstr("exception")));
      EXPECT_LT(told[r] - thrown, tests::kSoon);
    }
  }
}

TEST_P(Failures, ARankThatLeavesEarlyIsNamed) {
  const auto errors = testing::run_world(GetParam(), 3, [](Communicator& world) {
    world.barrier();
    if (world.rank() == 1) return;
    all_reduce_forever(world, 300'000);
  });
  EXPECT_EQ(text_of(errors[1]), "");
  for (const std::size_t r : {0u, 2u}) {
    EXPECT_EQ(code_of(errors[r]), ErrorCode::peer_lost);
    EXPECT_THAT(text_of(errors[r]), AllOf(HasSubstr("rank 1"), HasSubstr("all_reduce #")));
  }
}

TEST_P(Failures, LeavingAfterTheLastCollectiveIsNoFailure) {
  for (int k = 0; k < 10; ++k) {
    testing::expect_world(GetParam(), 4, [](Communicator& world) {
      std::vector<float> data(50'000, 1.0f);
      world.all_reduce(std::span<float>(data));
      world.broadcast(std::span<float>(data), 3);
      ASSERT_EQ(data[49'999], 4.0f);
    });
  }
}

TEST_P(Failures, AbortIsToldToEverybodyAndDoesNotBlock) {
  const auto errors = testing::run_world(GetParam(), 3, [](Communicator& world) {
    std::vector<float> data(1000);
    world.all_reduce(std::span<float>(data));
    const Work pending =
        world.rank() == 0 ? Work() : world.all_reduce_async(std::span<float>(data));
    if (world.rank() == 0) {
      const auto before = steady_clock::now();
      world.abort("the loss is not a number");
      EXPECT_LT(steady_clock::now() - before, tests::kSoon);
    }
    pending.wait();
    world.barrier();
  });
  for (const auto& error : errors) {
    EXPECT_EQ(code_of(error), ErrorCode::aborted) << text_of(error);
    EXPECT_THAT(text_of(error), AllOf(HasSubstr("rank 0"), HasSubstr("the loss is not a number")));
  }
}

TEST_P(Failures, EveryPendingOperationFails) {
  std::latch started(2);
  const auto errors = testing::run_world(GetParam(), 3, [&](Communicator& world) {
    std::vector<std::vector<float>> data(5, std::vector<float>(10'000));
    world.barrier();
    if (world.rank() == 0) {
      started.wait();
      throw std::runtime_error("gone");
    }
    std::vector<Work> works;
    for (auto& one : data) works.push_back(world.all_reduce_async(std::span<float>(one)));
    works.push_back(world.recv_async(std::span<float>(data[0]), 0));
    started.count_down();
    for (const Work& work : works) {
      std::promise<std::exception_ptr> told;
      work.then([&](std::exception_ptr error) { told.set_value(error); });
      EXPECT_THAT(text_of(told.get_future().get()), HasSubstr("rank 0"));
      EXPECT_TRUE(work.test());
    }
    works.back().wait();
  });
  EXPECT_THAT(text_of(errors[1]), HasSubstr("rank 0"));
  EXPECT_THAT(text_of(errors[2]), HasSubstr("rank 0"));
}

TEST_P(Failures, DestructionFailsWhatIsPending) {
  Work pending;
  testing::run_world(GetParam(), 2, [&](Communicator& world) {
    static std::vector<float> data(10'000);
    world.barrier();
    if (world.rank() == 1) pending = world.recv_async(std::span<float>(data), 0);
    // Both leave; the operation that rank 1 has pending cannot complete.
  });
  EXPECT_TRUE(pending.test());
  EXPECT_THROW(pending.wait(), Error);
}

// Two ranks of three make different calls as their third; what each says of itself.
struct Disagreement {
  const char* name;
  std::function<void(Communicator&)> call;     // of ranks 0 and 2
  std::function<void(Communicator&)> differs;  // of rank 1
  const char* ours;
  const char* theirs;
};

// Sends so many of `mine` to each rank; expects 10 of each of the others.
void all_to_all_v(Communicator& world, std::span<float> mine, const std::vector<int>& numbers) {
  std::vector<Elems> sent;
  std::vector<Elems> received(numbers.size(), Elems(10));
  for (const int n : numbers) sent.emplace_back(n);
  const auto total = static_cast<std::size_t>(std::accumulate(numbers.begin(), numbers.end(), 0));
  world.all_to_all_v(mine.subspan(0, total), sent, mine.subspan(total, 10 * numbers.size()),
                     received);
}

void all_gather_v(Communicator& world, std::span<float> mine, const std::vector<int>& numbers) {
  std::vector<Elems> counts;
  for (const int n : numbers) counts.emplace_back(n);
  const auto total = static_cast<std::size_t>(std::accumulate(numbers.begin(), numbers.end(), 0));
  const auto own = static_cast<std::size_t>(numbers[static_cast<std::size_t>(world.rank())]);
  world.all_gather_v(mine.subspan(0, own), mine.subspan(own, total), counts);
}

std::vector<Disagreement> disagreements() {
  const auto floats = [](std::size_t n) {
    thread_local std::vector<float> mine(9000);
    return std::span<float>(mine).subspan(0, n);
  };
  return {
      {"Count", [=](auto& w) { w.all_reduce(floats(10)); },
       [=](auto& w) { w.all_reduce(floats(11)); }, "all_reduce #3, 10 x f32, sum",
       "all_reduce #3, 11 x f32, sum"},
      {"LargeCount", [=](auto& w) { w.all_reduce(floats(3000)); },
       [=](auto& w) { w.all_reduce(floats(2999)); }, "3000 x f32", "2999 x f32"},
      {"Dtype", [=](auto& w) { w.all_reduce(View(floats(10).data(), Elems(10), DType::f32)); },
       [=](auto& w) { w.all_reduce(View(floats(10).data(), Elems(10), DType::i32)); },
       "10 x f32, sum", "10 x i32, sum"},
      {"Op", [=](auto& w) { w.all_reduce(floats(10)); },
       [=](auto& w) { w.all_reduce(floats(10), ReduceOp::max); }, "f32, sum", "f32, max"},
      {"Root", [=](auto& w) { w.broadcast(floats(10), 0); },
       [=](auto& w) { w.broadcast(floats(10), 1); }, "root 0", "root 1"},
      {"Kind", [=](auto& w) { w.all_reduce(floats(10)); },
       [=](auto& w) { w.broadcast(floats(10), 0); }, "all_reduce #3", "broadcast #3"},
      {"BarrierAgainstBroadcast", [](auto& w) { w.barrier(); },
       [=](auto& w) { w.broadcast(floats(10), 1); }, "barrier #3", "broadcast #3"},
      {"ReduceAgainstGather", [=](auto& w) { w.reduce(floats(10), floats(10), 2); },
       [=](auto& w) { w.gather(View(floats(10)), View(), 2); }, "reduce #3", "gather #3"},
      {"Algorithm", [=](auto& w) { w.all_reduce(floats(10), ReduceOp::sum, {"ring"}); },
       [=](auto& w) { w.all_reduce(floats(10), ReduceOp::sum, {"direct"}); }, "algorithm ring",
       "algorithm direct"},
      {"CountsOfAllToAllV",
       [=](auto& w) {
         all_to_all_v(w, floats(90), {10, 10, 10});
       },
       [=](auto& w) {
         all_to_all_v(w, floats(90), {11, 10, 10});
       },
       "all_to_all_v #3, f32 (", "of 44 bytes"},
      {"CountsOfAllGatherV",
       [=](auto& w) {
         all_gather_v(w, floats(90), {10, 10, 10});
       },
       [=](auto& w) {
         all_gather_v(w, floats(90), {11, 10, 10});
       },
       "all_gather_v #3, 30 x f32", "all_gather_v #3, 31 x f32"},
  };
}

TEST_P(Failures, DisagreementNamesBothRanksAndBothCalls) {
  for (const Disagreement& one : disagreements()) {
    const auto start = steady_clock::now();
    const auto errors = testing::run_world(GetParam(), 3, [&](Communicator& world) {
      world.barrier();
      world.barrier();
      (world.rank() == 1 ? one.differs : one.call)(world);
      for (;;) world.barrier();  // those who got through learn at a later call
    });
    for (const auto& error : errors) {
      EXPECT_EQ(code_of(error), ErrorCode::mismatch) << one.name << ": " << text_of(error);
      EXPECT_THAT(text_of(error),
                  AllOf(HasSubstr("rank 1"), HasSubstr(one.ours), HasSubstr(one.theirs)))
          << one.name;
      EXPECT_THAT(text_of(error), AnyOf(HasSubstr("rank 0"), HasSubstr("rank 2"))) << one.name;
      // Nobody is named in front of it: which of them is wrong, nobody knows.
      EXPECT_THAT(text_of(error), StartsWith("ranks disagree: ")) << one.name;
      EXPECT_THAT(text_of(error), Not(HasSubstr(" 0 x "))) << one.name;
    }
    EXPECT_LT(steady_clock::now() - start, tests::kSoon) << one.name;
  }
}

TEST_P(Failures, ADisagreementInASplitLeavesTheWorldAlone) {
  testing::expect_world(GetParam(), 4, [](Communicator& world) {
    auto half = world.split(world.rank() / 2);
    float x = 1;
    if (world.rank() < 2) {
      try {
        if (world.rank() == 0) half->all_reduce(View(&x, Elems(1), DType::f32));
        if (world.rank() == 1) half->barrier();
        for (;;) half->barrier();
      } catch (const Mismatch& error) {
        EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 0"), HasSubstr("rank 1")));
      }
      EXPECT_THROW(half->barrier(), Mismatch);
    } else {
      half->all_reduce(View(&x, Elems(1), DType::f32));
      EXPECT_EQ(x, 2);
    }
    world.barrier();
  });
}

// What another version of weft, or a bug, may have left where ranks look for the verdict.
TEST(FailuresOfASplit, AVerdictThatCannotBeReadIsNone) {
  const Backend backend{"tcp", true, 1};
  for (const std::string verdict : {"", "{}", "{\"rank\": \"1\"}", "\xff\xff\xff\xff"}) {
    testing::TestJob job(4, backend);
    StoreClientOptions options;
    options.job = job.identity();
    options.self = {-1, 4};
    options.port = job.server().port();
    StoreClient stranger(options);
    std::vector<std::thread> threads;
    for (int r = 0; r < 4; ++r) {
      threads.emplace_back([&, r] {
        Communicator world = Communicator::connect(job.options(r));
        auto half = world.split(world.rank() / 2);
        if (r == 0) {
          stranger.set("comm/world/0.0/verdict", Blob(verdict.begin(), verdict.end()));
          stranger.add("comm/world/0.0/failures", 1);
        }
        world.barrier();
        float x = 1;
        if (r < 2) {
          try {
            if (r == 0) half->all_reduce(View(&x, Elems(1), DType::f32));
            for (;;) half->barrier();
          } catch (const Error& error) {
            EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 0"), HasSubstr("rank 1"))) << verdict;
          }
        }
        world.barrier();  // goes on
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

class Stalls : public ::testing::TestWithParam<Backend> {};  // in_process() takes no time limit

TEST_P(Stalls, ATimeoutSaysWhoHasNotCome) {
  Backend backend = GetParam();
  backend.operation_timeout = milliseconds(1500);  // the others come in time
  std::latch over(3);
  const auto errors = testing::run_world(backend, 4, [&](Communicator& world) {
    world.barrier();
    if (world.rank() == 3) {
      over.wait();  // alive, but elsewhere
    } else {
      try {
        float x = 1;
        world.all_reduce(View(&x, Elems(1), DType::f32));
      } catch (...) {
        over.count_down();
        throw;
      }
    }
  });
  for (const std::size_t r : {0u, 1u, 2u}) {
    EXPECT_EQ(code_of(errors[r]), ErrorCode::timeout);
    EXPECT_THAT(text_of(errors[r]),
                AllOf(HasSubstr("rank 3 has not entered"), HasSubstr("all_reduce #2")));
  }
}

INSTANTIATE_TEST_SUITE_P(Transports, Stalls,
                         ::testing::Values(testing::shm_backend(), Backend{"tcp", true, 1},
                                           Backend{"tcp_two_lanes", true, 2}),
                         [](const auto& param_info) { return param_info.param.name; });

INSTANTIATE_TEST_SUITE_P(Transports, Failures,
                         ::testing::Values(Backend{"inproc"}, testing::shm_backend(),
                                           Backend{"tcp", true, 1},
                                           Backend{"tcp_two_lanes", true, 2}),
                         [](const auto& param_info) { return param_info.param.name; });

}  // namespace
}  // namespace weft::comm
