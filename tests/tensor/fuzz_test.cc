// Random views against element by element reading, random graphs against finite differences. Seeds
// are fixed.
#include <gtest/gtest.h>

#include "tests/tensor/gradcheck.h"

namespace weft::tests {
namespace {

using tensor::Generator;

std::int64_t pick(Generator& generator, std::int64_t below) {
  return static_cast<std::int64_t>(generator.next_below(static_cast<std::uint64_t>(below)));
}

// A random view of fresh memory: shuffled, narrowed and expanded dimensions of sizes 1 to 4.
Tensor random_view(Generator& generator) {
  Shape shape(static_cast<std::size_t>(1 + pick(generator, 4)));
  for (auto& size : shape) size = 1 + pick(generator, 4);
  auto view = Tensor::arange(tensor::numel(shape), {DType::f64, {}}).view(shape);
  for (int i = 0; i < 3; ++i) {
    const auto d = pick(generator, view.dim());
    switch (pick(generator, 4)) {
      case 0:
        view = view.transpose(d, pick(generator, view.dim()));
        break;
      case 1: {
        const auto start = pick(generator, view.size(d));
        view = view.narrow(d, start, 1 + pick(generator, view.size(d) - start));
        break;
      }
      case 2:
        if (view.size(d) == 1) {
          auto wider = view.shape();
          wider[static_cast<std::size_t>(d)] = 3;
          view = view.expand(wider);
        }
        break;
      default:
        view = view.unsqueeze(d);
    }
  }
  return view;
}

// Where in memory each element stands, in row-major order.
std::vector<std::int64_t> places(const Shape& shape, const tensor::Strides& strides) {
  std::vector<std::int64_t> result = {0};
  for (std::size_t d = 0; d < shape.size(); ++d) {
    std::vector<std::int64_t> next;
    for (const auto place : result) {
      for (std::int64_t i = 0; i < shape[d]; ++i) next.push_back(place + i * strides[d]);
    }
    result = std::move(next);
  }
  return result;
}

// `count` as a product of random factors, some of them 1.
Shape random_factors(Generator& generator, std::int64_t count) {
  Shape shape;
  while (count > 1) {
    std::int64_t factor = shape.size() < 8 ? 1 + pick(generator, count) : count;
    while (count % factor != 0) --factor;
    shape.push_back(factor);
    count /= factor;
  }
  return shape;
}

// Whether any strides read `from` as `shape`: they must be those of the unit steps.
bool can_be_viewed(const Tensor& from, const Shape& shape) {
  const auto expected = places(from.shape(), from.strides());
  const auto flat = tensor::contiguous_strides(shape);
  tensor::Strides strides(shape.size(), 0);
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] > 1) strides[d] = expected[static_cast<std::size_t>(flat[d])];
  }
  return places(shape, strides) == expected;
}

TEST(FuzzTest, ViewsAreFoundWhereverStridesExist) {
  Generator generator(11);
  int viewed = 0, copied = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto from = random_view(generator);
    const auto shape = random_factors(generator, from.numel());
    SCOPED_TRACE(tensor::to_string(from.shape()) + " with strides " +
                 tensor::to_string(from.strides()) + " as " + tensor::to_string(shape));
    const auto values = from.to_vector<double>();
    const auto* base = from.data<double>();
    const auto where = places(from.shape(), from.strides());
    for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], base[where[i]]);
    ASSERT_EQ(from.reshape(shape).to_vector<double>(), values);
    if (can_be_viewed(from, shape)) {
      ASSERT_EQ(from.view(shape).to_vector<double>(), values);
      ++viewed;
    } else {
      ASSERT_THROW(from.view(shape), InvalidArgument);
      ++copied;
    }
  }
  EXPECT_GT(viewed, 500);
  EXPECT_GT(copied, 500);
}

// Operations on random earlier results, all of shape (2, 3); bounded, so that values stay tame.
Tensor random_graph(const std::vector<Tensor>& inputs, std::uint64_t seed) {
  Generator generator(seed);
  auto values = inputs;
  const auto any = [&]() -> const Tensor& {
    return values[static_cast<std::size_t>(
        pick(generator, static_cast<std::int64_t>(values.size())))];
  };
  for (int i = 0; i < 20; ++i) {
    const auto& a = any();
    const auto& b = any();
    switch (pick(generator, 8)) {
      case 0:
        values.push_back(ops::tanh(a + b));
        break;
      case 1:
        values.push_back(ops::tanh(a * b));
        break;
      case 2:
        values.push_back(a - ops::sigmoid(b));
        break;
      case 3:
        values.push_back(ops::tanh(ops::matmul(ops::matmul(a, b.transpose(0, 1)), a)));
        break;
      case 4:
        values.push_back(ops::tanh(a.reshape({3, 2}).view({2, 3}) + ops::mean(b, {0})));
        break;
      case 5:
        values.push_back(ops::cat({a.narrow(1, 1, 2), b.narrow(1, 0, 1)}, 1));
        break;
      case 6:
        values.push_back(ops::stack({a.select(0, 1), b.select(0, 0)}, 0));
        break;
      default:
        values.push_back(ops::mean(a, {1}, true).expand({2, 3}) * 0.5 + b.clone());
    }
  }
  Tensor total = values.back();
  for (std::size_t i = 0; i < inputs.size(); ++i) total = total + inputs[i];
  return total + any();
}

TEST(FuzzTest, GradientsOfRandomGraphs) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    EXPECT_TRUE(gradcheck([&](const auto& in) { return random_graph(in, seed); },
                          {random_tensor({2, 3}, seed), random_tensor({3, 2}, 99).transpose(0, 1)},
                          {.step = 1e-6, .relative = 1e-5, .absolute = 1e-6}))
        << "seed " << seed;
  }
}

// The same graph with gradients in buffers, over two backwards, adds up to the same.
TEST(FuzzTest, BuffersChangeNothing) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    std::vector<Tensor> plain, buffered;
    for (std::uint64_t i = 0; i < 3; ++i) {
      plain.push_back(random_tensor({2, 3}, seed + i).set_requires_grad(true));
      buffered.push_back(random_tensor({2, 3}, seed + i).set_requires_grad(true));
      buffered.back().set_grad_buffer(Tensor::full({2, 3}, 1e9, {DType::f64, {}}));
    }
    for (int round = 0; round < 2; ++round) {
      ops::sum(random_graph(plain, seed)).backward();
      ops::sum(random_graph(buffered, seed)).backward();
    }
    for (std::size_t i = 0; i < plain.size(); ++i) {
      const auto expected = plain[i].grad().to_vector<double>();
      const auto found = buffered[i].grad().to_vector<double>();
      for (std::size_t e = 0; e < expected.size(); ++e) {
        EXPECT_NEAR(found[e], expected[e], 1e-12 * (1 + std::abs(expected[e]))) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace weft::tests
