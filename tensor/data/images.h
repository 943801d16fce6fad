// Images with labels: MNIST's files, and a set made up here that needs no file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "tensor/tensor.h"

namespace weft::data {

struct ImageSet {
  Tensor images;             // (N, 1, H, W) f32, pixels in [0, 1]
  Tensor labels;             // (N) i64
  std::int64_t classes = 0;  // largest label + 1
};

// An IDX file of u8 (http://yann.lecun.com/exdb/mnist): two zero bytes, type 8, number of
// dimensions, the dimensions as big-endian 32-bit numbers, the data. Gives u8. Corrupt says what
// was expected and found; all errors name the file.
Tensor read_idx(const std::filesystem::path& path);
// The same of a whole file in memory; errors name `source`.
Tensor parse_idx(std::span<const std::byte> bytes, const std::string& source);

// Corrupt where the files are no images and labels, Mismatch where their counts differ.
ImageSet read_idx_images(const std::filesystem::path& images, const std::filesystem::path& labels);

// A bright bar for each class, at an angle of its own, under noise: learnable to nearly 100%, by no
// single pixel. The same seed gives the same set; `noise` is the deviation added to pixels.
struct SyntheticOptions {
  std::int64_t count = 1000;
  std::int64_t side = 28;
  std::int64_t classes = 10;
  double noise = 0.25;
  std::uint64_t seed = 1;
};
ImageSet synthetic_images(const SyntheticOptions& options);

}  // namespace weft::data
