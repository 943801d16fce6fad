#include "tensor/data/tokens.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/base/check.h"
#include "tensor/random.h"

namespace weft::data {
namespace {

constexpr std::int64_t kNarrow = 1 << 16;  // tokens that two bytes hold

}  // namespace

Tokens::Tokens(std::span<const std::int32_t> tokens, std::int64_t vocab_size)
    : size_(static_cast<std::int64_t>(tokens.size())), vocab_size_(vocab_size) {
  if (vocab_size < 1 || vocab_size > std::numeric_limits<std::int32_t>::max()) {
    fail<InvalidArgument>("tokens: a vocabulary of {} is not possible", vocab_size);
  }
  for (const auto token : tokens) {
    if (token < 0 || token >= vocab_size) {
      fail<InvalidArgument>("tokens: {} is outside the vocabulary, 0..{}", token, vocab_size - 1);
    }
  }
  if (vocab_size <= kNarrow) {
    auto copy = std::make_shared<std::vector<std::uint16_t>>(tokens.begin(), tokens.end());
    narrow_ = copy->data();
    owner_ = std::move(copy);
  } else {
    auto copy = std::make_shared<std::vector<std::int32_t>>(tokens.begin(), tokens.end());
    wide_ = copy->data();
    owner_ = std::move(copy);
  }
}

Tokens::Tokens(std::shared_ptr<const void> owner, std::span<const std::uint16_t> tokens,
               std::int64_t vocab_size)
    : owner_(std::move(owner)),
      narrow_(tokens.data()),
      size_(static_cast<std::int64_t>(tokens.size())),
      vocab_size_(vocab_size) {
  WEFT_ASSERT(vocab_size == kNarrow, "tokens not looked at may be any of two bytes");
}

std::int32_t Tokens::operator[](std::int64_t i) const {
  WEFT_ASSERT(i >= 0 && i < size_, "a token inside the run");
  return narrow_ != nullptr ? narrow_[i] : wide_[i];
}

Tokens Tokens::slice(std::int64_t start, std::int64_t length) const {
  WEFT_ASSERT(start >= 0 && length >= 0 && start <= size_ - length, "a slice inside the run");
  Tokens result = *this;
  if (narrow_ != nullptr) result.narrow_ = narrow_ + start;
  if (wide_ != nullptr) result.wide_ = wide_ + start;
  result.size_ = length;
  return result;
}

void Tokens::copy(std::int64_t start, std::span<std::int32_t> to) const {
  const auto length = static_cast<std::int64_t>(to.size());
  WEFT_ASSERT(start >= 0 && start <= size_ - length, "a window inside the run");
  if (narrow_ != nullptr) {
    std::copy_n(narrow_ + start, length, to.begin());
  } else if (length > 0) {
    std::copy_n(wide_ + start, length, to.begin());
  }
}

Split split(const Tokens& tokens, double validation_fraction) {
  if (!(validation_fraction >= 0.0 && validation_fraction <= 1.0)) {
    fail<InvalidArgument>("split: the fraction for validation is in [0, 1], not {}",
                          validation_fraction);
  }
  const auto train =
      static_cast<std::int64_t>(static_cast<double>(tokens.size()) * (1.0 - validation_fraction));
  return {tokens.slice(0, train), tokens.slice(train, tokens.size() - train)};
}

TokenDataset::TokenDataset(Tokens tokens, std::int64_t block_size, std::uint64_t seed,
                           std::string source)
    : tokens_(std::move(tokens)), block_size_(block_size), seed_(seed) {
  if (block_size < 1) {
    fail<InvalidArgument>("block_size must be at least 1, not {}", block_size);
  }
  if (tokens_.size() <= block_size) {
    fail<InvalidArgument>(
        "{}: {} tokens are too few for a context of {}: at least {} are needed. Give more text or "
        "a smaller --block_size",
        source, tokens_.size(), block_size, block_size + 1);
  }
}

std::int64_t TokenDataset::start_of(std::int64_t iteration, std::int64_t sample) const {
  constexpr std::uint64_t kDraws = 16;  // apart, so that a rejected draw never meets a neighbour's
  tensor::Generator generator(seed_, static_cast<std::uint64_t>(iteration));
  generator.set_offset(static_cast<std::uint64_t>(sample) * kDraws);
  const auto places = static_cast<std::uint64_t>(tokens_.size() - block_size_);
  return static_cast<std::int64_t>(generator.next_below(places));
}

Batch TokenDataset::batch(std::int64_t batch_size, std::int64_t iteration, int rank) const {
  if (batch_size < 1 || iteration < 0 || rank < 0) {
    fail<InvalidArgument>(
        "batch: expected a size of at least 1, iteration and rank of at least 0, found {}, {}, {}",
        batch_size, iteration, rank);
  }
  Batch result{Tensor::empty({batch_size, block_size_}, {DType::i32}),
               Tensor::empty({batch_size, block_size_}, {DType::i32})};
  auto* inputs = result.inputs.data<std::int32_t>();
  auto* targets = result.targets.data<std::int32_t>();
  const auto width = static_cast<std::size_t>(block_size_);
  for (std::int64_t row = 0; row < batch_size; ++row) {
    const auto start = start_of(iteration, rank * batch_size + row);
    tokens_.copy(start, {inputs + row * block_size_, width});
    tokens_.copy(start + 1, {targets + row * block_size_, width});
  }
  return result;
}

}  // namespace weft::data
