#include <algorithm>
#include <cstddef>

#include "kernels/base/check.h"
#include "tensor/data/tokens.h"
#include "tensor/random.h"

namespace weft::data {

TokenDataset::TokenDataset(Tokens tokens, std::int64_t block_size, std::uint64_t seed,
                           std::string source)
    : tokens_(std::move(tokens)), block_size_(block_size), seed_(seed) {
  if (block_size < 1) {
    fail<InvalidArgument>("block_size must be at least 1, not {}", block_size);
  }
  const auto pieces = tokens_.pieces();
  for (const auto& [start, length] : pieces) {
    if (length <= block_size) continue;
    parts_.push_back({start, places_, windows_});
    places_ += length - block_size;
    windows_ += (length - 1) / block_size;
  }
  if (parts_.empty()) {
    fail<InvalidArgument>(
        "{}: {} tokens{} are too few for a context of {}: at least {} are needed. Give more text "
        "or a smaller --block_size",
        source, tokens_.size(), pieces.size() > 1 ? fmt::format(" in {} files", pieces.size()) : "",
        block_size, block_size + 1);
  }
}

std::int64_t TokenDataset::start_of(std::int64_t iteration, std::int64_t sample) const {
  constexpr std::uint64_t kDraws = 16;  // apart, so that a rejected draw never meets a neighbour's
  tensor::Generator generator(seed_, static_cast<std::uint64_t>(iteration));
  generator.set_offset(static_cast<std::uint64_t>(sample) * kDraws);
  const auto place =
      static_cast<std::int64_t>(generator.next_below(static_cast<std::uint64_t>(places_)));
  const auto after =
      std::upper_bound(parts_.begin(), parts_.end(), place,
                       [](std::int64_t wanted, const Part& part) { return wanted < part.places; });
  const auto& part = *(after - 1);
  return part.start + place - part.places;
}

Batch TokenDataset::empty_batch(std::int64_t rows) const {
  return {Tensor::empty({rows, block_size_}, {DType::i32}),
          Tensor::empty({rows, block_size_}, {DType::i32})};
}

void TokenDataset::copy_window(std::int64_t start, std::int64_t row, const Batch& to) const {
  const auto width = static_cast<std::size_t>(block_size_);
  tokens_.copy(start, {to.inputs.data<std::int32_t>() + row * block_size_, width});
  tokens_.copy(start + 1, {to.targets.data<std::int32_t>() + row * block_size_, width});
}

Batch TokenDataset::batch(std::int64_t batch_size, std::int64_t iteration, int rank) const {
  if (batch_size < 1 || iteration < 0 || rank < 0) {
    fail<InvalidArgument>(
        "batch: expected a size of at least 1, iteration and rank of at least 0, found {}, {}, {}",
        batch_size, iteration, rank);
  }
  const auto result = empty_batch(batch_size);
  for (std::int64_t row = 0; row < batch_size; ++row) {
    copy_window(start_of(iteration, rank * batch_size + row), row, result);
  }
  return result;
}

Batch TokenDataset::gather(std::span<const std::int64_t> windows) const {
  if (windows.empty()) fail<InvalidArgument>("gather: expected at least one window, found none");
  const auto result = empty_batch(static_cast<std::int64_t>(windows.size()));
  for (std::size_t row = 0; row < windows.size(); ++row) {
    const auto window = windows[row];
    if (window < 0 || window >= windows_) {
      fail<InvalidArgument>("gather: window {}; expected 0..{}", window, windows_ - 1);
    }
    const auto after = std::upper_bound(
        parts_.begin(), parts_.end(), window,
        [](std::int64_t wanted, const Part& part) { return wanted < part.windows; });
    const auto& part = *(after - 1);
    copy_window(part.start + (window - part.windows) * block_size_, static_cast<std::int64_t>(row),
                result);
  }
  return result;
}

}  // namespace weft::data
