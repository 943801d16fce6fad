// Ranks may be threads of one process: each trains a model of its own at once.
#include <gtest/gtest.h>

#include <thread>

#include "kernels/base/thread_pool.h"
#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

// Fits a two-layer network to a fixed function; gives its losses.
std::vector<double> train(std::uint64_t seed, int steps) {
  tensor::Generator generator(seed);
  const TensorOptions f64{DType::f64, {}};
  const auto x = Tensor::randn({32, 4}, generator, f64);
  const auto target = ops::sum(x * x, {1}, true);
  std::vector<Tensor> parameters = {
      Tensor::randn({4, 16}, generator, f64) * 0.5, Tensor::zeros({16}, f64),
      Tensor::randn({16, 1}, generator, f64) * 0.25, Tensor::zeros({1}, f64)};
  int ready = 0;
  for (auto& parameter : parameters) {
    parameter.set_requires_grad(true);
    parameter.on_grad_ready([&ready](const Tensor&) { ++ready; });
  }
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    const auto hidden = ops::tanh(ops::matmul(x, parameters[0]) + parameters[1]);
    const auto error = ops::matmul(hidden, parameters[2]) + parameters[3] - target;
    const auto loss = ops::mean(error * error);
    losses.push_back(loss.item());
    loss.backward();
    const NoGrad no_grad;
    for (auto& parameter : parameters) {
      parameter.copy_(parameter - parameter.grad() * 0.02);
      parameter.zero_grad();
    }
  }
  EXPECT_EQ(ready, steps * 4);
  return losses;
}

TEST(ThreadsTest, EachTrainsItsOwnModel) {
  constexpr int kThreads = 3, kSteps = 60;
  std::vector<std::vector<double>> alone, together(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    ThreadPool pool(2);
    const ScopedThreadPool scope(pool);
    alone.push_back(train(static_cast<std::uint64_t>(t), kSteps));
    EXPECT_LT(alone.back().back(), 0.5 * alone.back().front());
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&together, t] {
      ThreadPool pool(2);
      const ScopedThreadPool scope(pool);
      together[static_cast<std::size_t>(t)] = train(static_cast<std::uint64_t>(t), kSteps);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(together, alone);  // the same bits
}

TEST(ThreadsTest, ATensorMayBeReadByManyAndFreedByAny) {
  const auto shared = random_tensor({64}, 1);
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([shared] {
      for (int i = 0; i < 200; ++i) {
        auto leaf = shared.clone();
        leaf.set_requires_grad(true);
        ops::sum(leaf * shared).backward();
        ASSERT_EQ(leaf.grad().to_vector<double>(), shared.to_vector<double>());
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace weft::tests
