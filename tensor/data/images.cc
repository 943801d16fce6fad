#include "tensor/data/images.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "tensor/autograd/node.h"
#include "tensor/data/mapped_file.h"
#include "tensor/ops/basic.h"
#include "tensor/random.h"

namespace weft::data {
namespace {

namespace fs = std::filesystem;

std::int64_t big_endian(std::span<const std::byte> bytes) {
  std::int64_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | std::to_integer<std::int64_t>(bytes[i]);
  return value;
}

void check_idx_magic(const std::string& source, std::span<const std::byte> bytes) {
  constexpr std::int64_t kUnsignedByte = 8;
  if (bytes.size() < 4) {
    fail<Corrupt>("{}: {} bytes are too few for an IDX file", source, bytes.size());
  }
  const auto magic = big_endian(bytes);
  if (magic >> 16 == 0x1f8b) {
    fail<Corrupt>("{}: this is a gzip file; unpack it first (gunzip)", source);
  }
  const auto dims = magic & 0xff;
  if (magic >> 8 != kUnsignedByte || dims < 1 || dims > 4) {
    fail<Corrupt>(
        "{}: expected an IDX file of bytes (magic 0x00000801 to 0x00000804), found "
        "0x{:08x}",
        source, magic);
  }
}

}  // namespace

Tensor read_idx(const fs::path& path) {
  return parse_idx(MappedFile::open(path)->bytes(), path.string());
}

Tensor parse_idx(std::span<const std::byte> bytes, const std::string& source) {
  check_idx_magic(source, bytes);
  const auto dims = std::to_integer<std::size_t>(bytes[3]);
  const auto header = 4 + 4 * dims;
  if (bytes.size() < header) {
    fail<Corrupt>("{}: truncated in its header, {} bytes of {}", source, bytes.size(), header);
  }
  const auto data = bytes.subspan(header);
  Shape shape;
  std::int64_t expected = 1;
  for (std::size_t d = 0; d < dims; ++d) {
    const auto size = big_endian(bytes.subspan(4 + 4 * d));
    shape.push_back(size);
    constexpr std::int64_t kMost = std::int64_t{1} << 62;  // more than any file
    expected = size != 0 && expected > kMost / size ? kMost : expected * size;
  }
  if (expected != static_cast<std::int64_t>(data.size()) || expected == 0) {
    fail<Corrupt>("{}: its shape {} expects {} bytes of data, found {}", source,
                  tensor::to_string(shape), expected, data.size());
  }
  auto result = Tensor::empty(shape, {DType::u8});
  std::memcpy(result.data(), data.data(), data.size());
  return result;
}

ImageSet read_idx_images(const fs::path& images, const fs::path& labels) {
  const auto pixels = read_idx(images);
  const auto classes = read_idx(labels);
  if (pixels.dim() != 3) {
    fail<Corrupt>("{}: expected images (count, height, width), found shape {}", images.string(),
                  tensor::to_string(pixels.shape()));
  }
  if (classes.dim() != 1) {
    fail<Corrupt>("{}: expected labels (count), found shape {}", labels.string(),
                  tensor::to_string(classes.shape()));
  }
  if (pixels.size(0) != classes.size(0)) {
    fail<Mismatch>("{} holds {} images, but {} holds {} labels", images.string(), pixels.size(0),
                   labels.string(), classes.size(0));
  }
  NoGrad no_grad;
  ImageSet set;
  set.images = ops::mul(pixels.to(DType::f32), 1.0 / 255.0).unsqueeze(1);
  set.labels = classes.to(DType::i64);
  const auto* label = classes.data<std::uint8_t>();
  set.classes = *std::max_element(label, label + classes.numel()) + 1;
  return set;
}

ImageSet synthetic_images(const SyntheticOptions& o) {
  if (o.count < 1 || o.side < 4 || o.classes < 2 || !(o.noise >= 0.0)) {
    fail<InvalidArgument>(
        "synthetic_images: expected count >= 1, side >= 4, classes >= 2 and noise >= 0, found {}, "
        "{}, {} and {}",
        o.count, o.side, o.classes, o.noise);
  }
  tensor::Generator generator(o.seed);
  ImageSet set;
  set.classes = o.classes;
  set.images = Tensor::randn({o.count, 1, o.side, o.side}, generator);
  set.labels = Tensor::empty({o.count}, {DType::i64});
  auto* pixel = set.images.data<float>();
  const auto side = static_cast<double>(o.side);
  for (std::int64_t n = 0; n < o.count; ++n) {
    const auto label =
        static_cast<std::int64_t>(generator.next_below(static_cast<std::uint64_t>(o.classes)));
    set.labels.data<std::int64_t>()[n] = label;
    const double angle =
        std::numbers::pi * static_cast<double>(label) / static_cast<double>(o.classes);
    const double shift_x = (generator.next_double() - 0.5) * side / 5;
    const double shift_y = (generator.next_double() - 0.5) * side / 5;
    for (std::int64_t i = 0; i < o.side * o.side; ++i, ++pixel) {
      const double x = static_cast<double>(i % o.side) - (side - 1) / 2 - shift_x;
      const double y = static_cast<double>(i / o.side) - (side - 1) / 2 - shift_y;
      const double across = x * std::sin(angle) - y * std::cos(angle);
      const double bar = std::exp(-across * across / (side / 8));
      *pixel = static_cast<float>(std::clamp(bar + o.noise * *pixel, 0.0, 1.0));
    }
  }
  return set;
}

}  // namespace weft::data
