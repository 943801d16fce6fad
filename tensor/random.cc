#include "tensor/random.h"

#include <cmath>
#include <numbers>

#include "kernels/base/thread_pool.h"
#include "kernels/philox.h"
#include "tensor/tensor_impl.h"

namespace weft::tensor {
namespace {

using kernels::Philox;

constexpr std::int64_t kBlocksPerTask = 4096;

// Words of the stream that an element of type T takes.
template <class T>
constexpr int kWordsPerElement = sizeof(T) / sizeof(std::uint32_t);

// (0, 1], so that its logarithm is finite.
float open_uniform(std::uint32_t word) { return (static_cast<float>(word) + 1.0f) * 0x1.0p-32f; }
double open_uniform(std::uint32_t high, std::uint32_t low) {
  return Philox::to_double(high, low) + 0x1.0p-53;
}

void uniform(const Philox::Block& block, float (&out)[4]) {
  for (int i = 0; i < 4; ++i) out[i] = Philox::to_float(block.word[i]);
}
void uniform(const Philox::Block& block, double (&out)[2]) {
  for (int i = 0; i < 2; ++i) out[i] = Philox::to_double(block.word[2 * i], block.word[2 * i + 1]);
}

// Box and Muller, "A note on the generation of random normal deviates", 1958: two uniform numbers
// give two independent normal ones.
template <class T>
void box_muller(T radius_draw, T angle_draw, T* out) {
  const T radius = std::sqrt(T(-2) * std::log(radius_draw));
  const T angle = T(2) * std::numbers::pi_v<T> * angle_draw;
  out[0] = radius * std::cos(angle);
  out[1] = radius * std::sin(angle);
}
void normal(const Philox::Block& block, float (&out)[4]) {
  for (int i = 0; i < 4; i += 2) {
    box_muller(open_uniform(block.word[i]), Philox::to_float(block.word[i + 1]), out + i);
  }
}
void normal(const Philox::Block& block, double (&out)[2]) {
  box_muller(open_uniform(block.word[0], block.word[1]),
             Philox::to_double(block.word[2], block.word[3]), out);
}

enum class Distribution : bool { uniform, normal };

// Element i comes from block first + i / (elements of a block), whoever computes it.
template <class T>
void generate(T* out, std::int64_t count, const Philox& philox, std::uint64_t first,
              Distribution distribution) {
  constexpr std::int64_t kPerBlock = Philox::kWords / kWordsPerElement<T>;
  const std::int64_t blocks = (count + kPerBlock - 1) / kPerBlock;
  parallel_for(blocks, kBlocksPerTask, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      T values[kPerBlock];
      const auto block = philox.block(first + static_cast<std::uint64_t>(b));
      if (distribution == Distribution::normal) {
        normal(block, values);
      } else {
        uniform(block, values);
      }
      const auto here = std::min(kPerBlock, count - b * kPerBlock);
      for (std::int64_t i = 0; i < here; ++i) out[b * kPerBlock + i] = values[i];
    }
  });
}

Tensor draw(Shape shape, Generator& generator, TensorOptions options, Distribution distribution,
            std::string_view operation) {
  if (!is_floating(options.dtype)) {
    fail<InvalidArgument>("{}: {} tensors cannot hold it; expected a floating type", operation,
                          name_of(options.dtype));
  }
  // Half types draw f32's numbers and round.
  const auto drawn_type = is_half(options.dtype) ? DType::f32 : options.dtype;
  // Drawn on the host for every device: logarithms and cosines of a GPU round otherwise.
  auto result = Tensor::empty(std::move(shape), {drawn_type});
  const Philox philox{generator.seed(), generator.stream()};
  const auto count = result.numel();
  const auto words = size_of(drawn_type).size() / sizeof(std::uint32_t);
  const auto first = generator.reserve_blocks(static_cast<std::uint64_t>(count) * words);
  if (drawn_type == DType::f64) {
    generate(result.data<double>(), count, philox, first, distribution);
  } else {
    generate(result.data<float>(), count, philox, first, distribution);
  }
  return result.to(options.dtype).to(options.device);
}

}  // namespace

std::uint32_t Generator::next_u32() { return Philox{seed_, stream_}.at(reserve(1)); }

double Generator::next_double() {
  const auto high = next_u32();
  return Philox::to_double(high, next_u32());
}

// Lemire, "Fast random integer generation in an interval", ACM TOMACS 2019: the high half of a
// product, with the few draws that would favour small numbers thrown away.
std::uint64_t Generator::next_below(std::uint64_t n) {
  if (n == 0) fail<InvalidArgument>("next_below: there is no number below 0");
  __extension__ using Wide = unsigned __int128;
  const std::uint64_t threshold = (0 - n) % n;
  while (true) {
    const std::uint64_t high = next_u32();
    const auto product = static_cast<Wide>(high << 32 | next_u32()) * n;
    if (static_cast<std::uint64_t>(product) >= threshold) {
      return static_cast<std::uint64_t>(product >> 64);
    }
  }
}

Generator& default_generator() {
  static thread_local Generator generator;
  return generator;
}

Tensor Tensor::randn(Shape shape, Generator& generator, TensorOptions options) {
  return draw(std::move(shape), generator, options, Distribution::normal, "randn");
}

Tensor Tensor::rand(Shape shape, Generator& generator, TensorOptions options) {
  return draw(std::move(shape), generator, options, Distribution::uniform, "rand");
}

}  // namespace weft::tensor
