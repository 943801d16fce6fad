// A model small enough to train in a test, alone or on several ranks.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/optimizer.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/nn.h"
#include "tensor/parallel/ddp.h"
#include "tensor/random.h"
#include "tests/parallel/in_process_world.h"

namespace weft::parallel::tests {

using tensor::Generator;
using weft::tests::run_world;

// Two layers and a loss, small enough to train in a test and large enough to fill several buckets.
struct Model {
  explicit Model(DType dtype, std::uint64_t seed = 7, std::int64_t hidden = 24) {
    Generator generator(seed);
    const auto weight = [&](Shape shape) {
      Tensor t = ops::mul(Tensor::randn(std::move(shape), generator, {dtype}), 0.2).detach();
      t.set_requires_grad(true);
      return t;
    };
    parameters = {{"first.weight", weight({hidden, 10})},
                  {"first.bias", weight({hidden})},
                  {"second.weight", weight({5, hidden})},
                  {"second.bias", weight({5})}};
  }
  Tensor loss(const Tensor& x, const Tensor& targets) const {
    const auto h = ops::tanh(ops::linear(x, parameters[0].tensor, parameters[1].tensor));
    return ops::cross_entropy(ops::linear(h, parameters[2].tensor, parameters[3].tensor), targets);
  }
  void sgd_step(double rate) {
    for (auto& [name, p] : parameters) {
      kernels::SgdTensor t;
      t.parameter = p.data();
      t.gradient = p.grad().data();
      t.count = Elems(p.numel());
      t.parameter_type = t.gradient_type = p.dtype();
      kernels::SgdParams params;
      params.learning_rate = rate;
      kernels::sgd({&t, 1}, params);
      p.zero_grad();
    }
  }
  std::vector<double> values() const {
    std::vector<double> all;
    for (const auto& [name, p] : parameters) {
      for (const double v : p.to(DType::f64).to_vector<double>()) all.push_back(v);
    }
    return all;
  }
  std::vector<NamedTensor> parameters;
};

struct Batch {
  Tensor x, targets;
};

// `rows` examples of step `step`, from row `begin` of a stream that is the same for everybody.
inline Batch batch(DType dtype, int step, std::int64_t begin, std::int64_t rows) {
  constexpr std::int64_t kRowsAll = 24;
  Generator generator(100 + static_cast<std::uint64_t>(step));
  const auto x = Tensor::randn({kRowsAll, 10}, generator, {DType::f64}).to(dtype);
  std::vector<std::int64_t> targets;
  for (std::int64_t i = 0; i < kRowsAll; ++i) targets.push_back((i * 7 + step) % 5);
  return {x.narrow(0, begin, rows).contiguous(),
          Tensor::from(targets, {kRowsAll}).narrow(0, begin, rows).contiguous()};
}

inline constexpr int kSteps = 20;

inline std::vector<double> train_alone(DType dtype) {
  Model model(dtype);
  for (int step = 0; step < kSteps; ++step) {
    const auto [x, targets] = batch(dtype, step, 0, 24);
    model.loss(x, targets).backward();
    model.sgd_step(0.1);
  }
  return model.values();
}

inline std::vector<std::vector<double>> train_together(DType dtype, int world, DdpOptions options,
                                                       int accumulate = 1) {
  std::vector<std::vector<double>> results(static_cast<std::size_t>(world));
  run_world(world, [&](Communicator& comm) {
    Model model(dtype, 7 + static_cast<std::uint64_t>(comm.rank()));  // rank 0's values win
    Ddp ddp(model.parameters, {}, comm, options);
    const std::int64_t share = 24 / world;
    const std::int64_t micro = share / accumulate;
    for (int step = 0; step < kSteps; ++step) {
      for (int m = 0; m < accumulate; ++m) {
        const auto [x, targets] = batch(dtype, step, comm.rank() * share + m * micro, micro);
        const auto loss = ops::mul(model.loss(x, targets), 1.0 / accumulate);
        if (m + 1 < accumulate) {
          const Ddp::NoSync no_sync(ddp);
          ddp.backward(loss);
        } else {
          ddp.backward(loss);
        }
      }
      model.sgd_step(0.1);
    }
    results[static_cast<std::size_t>(comm.rank())] = model.values();
  });
  return results;
}

inline double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

inline DdpOptions small_buckets() {
  DdpOptions options;
  options.first_bucket_bytes = Bytes(64);
  options.bucket_bytes = Bytes(512);
  return options;
}

}  // namespace weft::parallel::tests
