// Data parallel training on CUDA devices: ranks as threads, averages as on the cpu.
#include <gmock/gmock.h>

#include "tensor/cuda_graph.h"
#include "tensor/ops/nn.h"
#include "tensor/optim/sgd.h"
#include "tensor/parallel/ddp.h"
#include "tests/gpu/cuda_tensors.h"
#include "tests/parallel/in_process_world.h"

namespace weft::tests {
namespace {

using parallel::Ddp;
using parallel::DdpOptions;

class DdpCudaTest : public CudaTensorTest {};

// One device a rank where there are enough; else they share.
Device device_of(int rank) {
  return {DeviceType::cuda, rank % std::max(1, tensor::cuda_device_count())};
}

struct Net {
  explicit Net(Device device, std::uint64_t seed = 7) {
    const auto add = [&](const char* name, Shape shape) {
      auto value = ops::mul(normal(std::move(shape), seed++), 0.2).to(device).detach();
      value.set_requires_grad(true);
      parameters.push_back({name, value});
    };
    add("first.weight", {24, 10});
    add("first.bias", {24});
    add("second.weight", {5, 24});
    add("second.bias", {5});
  }
  Tensor loss(const Tensor& x, const Tensor& targets) const {
    const auto hidden = ops::tanh(ops::linear(x, parameters[0].tensor, parameters[1].tensor));
    return ops::cross_entropy(ops::linear(hidden, parameters[2].tensor, parameters[3].tensor),
                              targets);
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const auto& [name, tensor] : parameters) {
      for (const double v : values_of(tensor)) all.push_back(v);
    }
    return all;
  }
  std::vector<nn::NamedTensor> parameters;
};

Tensor rows(int step) { return normal({8, 10}, static_cast<std::uint64_t>(100 + step)); }
Tensor classes(int step) { return integers({8}, 5, static_cast<std::uint64_t>(200 + step)); }

// Trains `world` ranks, each on its part of 8 rows, and gives the values of rank 0.
std::vector<double> train(int world, bool on_cuda, DdpOptions options = {}) {
  constexpr int kSteps = 4;
  std::vector<std::vector<double>> results(static_cast<std::size_t>(world));
  run_world(world, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    const auto device = on_cuda ? device_of(rank) : Device{};
    std::optional<tensor::StreamGuard> guard;  // ranks that share a device have their own streams
    if (on_cuda) guard.emplace(tensor::Stream::create(device));
    Net net(device, 7 + static_cast<std::uint64_t>(rank));  // rank 0's values are given to all
    Ddp ddp(net.parameters, {}, communicator, options);
    optim::Sgd optimizer({{net.parameters, 0.3, 0.0}}, {.momentum = 0.5});
    const auto share = 8 / world;
    for (int step = 0; step < kSteps; ++step) {
      optimizer.zero_grad();
      if (step == 2) {  // two halves of this rank's part, averaged together
        const Ddp::NoSync no_sync(ddp);
        const auto x = rows(step).narrow(0, rank * share, share).to(device);
        ddp.backward(net.loss(x, classes(step).narrow(0, rank * share, share).to(device)));
      }
      const auto x = rows(step).narrow(0, rank * share, share).to(device);
      ddp.backward(net.loss(x, classes(step).narrow(0, rank * share, share).to(device)));
      optimizer.step();
    }
    results[static_cast<std::size_t>(rank)] = net.values();
  });
  for (const auto& values : results) EXPECT_EQ(values, results[0]) << "ranks have the same bits";
  return results[0];
}

void expect_near(const std::vector<double>& found, const std::vector<double>& wanted, double by) {
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], wanted[i], by) << i;
}

TEST_F(DdpCudaTest, RanksOnDevicesTrainAsOneRankOnTheCpu) {
  DdpOptions options;
  options.first_bucket_bytes = Bytes(64);  // several buckets
  options.bucket_bytes = Bytes(512);
  const auto alone = train(1, false);
  expect_near(train(2, true, options), alone, 1e-5);
  expect_near(train(4, true, options), alone, 1e-5);
}

// Forward, backward, the averages of all buckets and the step, as one graph a rank.
TEST_F(DdpCudaTest, AWholeDataParallelStepIsCaptured) {
  constexpr int kSteps = 5;
  const auto run = [](bool graphed) {
    std::vector<std::vector<double>> results(2);
    run_world(2, [&](Communicator& communicator) {
      const int rank = communicator.rank();
      const auto device = device_of(rank);
      const tensor::StreamGuard guard(tensor::Stream::create(device));
      Net net(device);
      Ddp ddp(net.parameters, {}, communicator);
      optim::Sgd optimizer({{net.parameters, 0.3, 0.0}}, {.momentum = 0.5});
      const tensor::GraphedStep::Step body =
          [&](const std::vector<Tensor>& in) -> std::vector<Tensor> {
        optimizer.zero_grad();
        const auto loss = net.loss(in[0], in[1]);
        ddp.backward(loss);
        optimizer.step();
        return {loss.detach()};
      };
      tensor::GraphedStep step(body, {.device = device});
      for (int i = 0; i < kSteps; ++i) {
        const std::vector<Tensor> in{rows(i).narrow(0, rank * 4, 4).to(device),
                                     classes(i).narrow(0, rank * 4, 4).to(device)};
        if (graphed) {
          step(in);
        } else {
          body(in);
        }
      }
      EXPECT_EQ(step.launches(), graphed ? kSteps - 2 : 0);
      results[static_cast<std::size_t>(rank)] = net.values();
    });
    EXPECT_EQ(results[0], results[1]);
    return results[0];
  };
  EXPECT_EQ(run(true), run(false));
}

TEST_F(DdpCudaTest, TimesOfEarlierStepsAreKnown) {
  run_world(2, [](Communicator& communicator) {
    const auto device = device_of(communicator.rank());
    const tensor::StreamGuard guard(tensor::Stream::create(device));
    Net net(device);
    Ddp ddp(net.parameters, {}, communicator);
    for (int step = 0; step < 4; ++step) {
      ddp.backward(net.loss(rows(step).to(device), classes(step).to(device)));
      tensor::synchronize(device);
      if (step == 1) continue;  // buckets are made anew after the first
      EXPECT_EQ(ddp.last_times().communication.count() > 0, step > 1) << step;
    }
  });
}

TEST_F(DdpCudaTest, CompressionsWorkOnDeviceGradients) {
  const auto alone = train(1, false);
  for (const auto compression :
       {parallel::Compression::bf16, parallel::Compression::fp16, parallel::Compression::int8}) {
    DdpOptions options;
    options.compression = compression;
    expect_near(train(2, true, options), alone, 3e-2);
  }
}

TEST_F(DdpCudaTest, UnusedParametersAreCompletedOnTheDevice) {
  run_world(2, [](Communicator& communicator) {
    const auto device = device_of(communicator.rank());
    const tensor::StreamGuard guard(tensor::Stream::create(device));
    Net net(device);
    auto unused = Tensor::full({3}, 1.0, {DType::f32, device});
    unused.set_requires_grad(true);
    net.parameters.push_back({"unused", unused});
    auto sometimes = Tensor::full({3}, 1.0, {DType::f32, device});
    sometimes.set_requires_grad(true);
    net.parameters.push_back({"sometimes", sometimes});
    DdpOptions options;
    options.find_unused_parameters = true;
    Ddp ddp(net.parameters, {}, communicator, options);
    auto loss = net.loss(rows(0).to(device), classes(0).to(device));
    if (communicator.rank() == 1) loss = ops::add(loss, ops::sum(sometimes));
    ddp.backward(loss);
    EXPECT_FALSE(unused.grad().defined());
    ASSERT_TRUE(sometimes.grad().defined());
    EXPECT_EQ(values_of(sometimes.grad()), std::vector<double>(3, 0.5));
  });
}

TEST_F(DdpCudaTest, ParametersOnSeveralDevicesAreRefusedByName) {
  run_world(2, [](Communicator& communicator) {
    Net net(Device{});
    net.parameters[2].tensor = net.parameters[2].tensor.to(kCuda).detach();
    net.parameters[2].tensor.set_requires_grad(true);
    EXPECT_THAT([&] { Ddp ddp(net.parameters, {}, communicator); },
                ::testing::ThrowsMessage<InvalidArgument>(
                    ::testing::AllOf(::testing::HasSubstr("'first.weight' is on cpu"),
                                     ::testing::HasSubstr("'second.weight' on cuda:0"))));
  });
}

}  // namespace
}  // namespace weft::tests
