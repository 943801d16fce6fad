#include "tensor/data/tokens.h"

#include <algorithm>
#include <limits>

#include "kernels/base/check.h"

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
  Run run;
  if (vocab_size <= kNarrow) {
    auto copy = std::make_shared<std::vector<std::uint16_t>>(tokens.begin(), tokens.end());
    run.narrow = copy->data();
    run.owner = std::move(copy);
  } else {
    auto copy = std::make_shared<std::vector<std::int32_t>>(tokens.begin(), tokens.end());
    run.wide = copy->data();
    run.owner = std::move(copy);
  }
  run.size = size_;
  run.source = "the tokens";
  runs_ = std::make_shared<const std::vector<Run>>(1, std::move(run));
}

Tokens::Tokens(std::shared_ptr<const void> owner, std::span<const std::uint16_t> tokens,
               std::string source)
    : size_(static_cast<std::int64_t>(tokens.size())), vocab_size_(kNarrow) {
  Run run{std::move(owner), tokens.data(), nullptr, 0, size_, std::move(source)};
  runs_ = std::make_shared<const std::vector<Run>>(1, std::move(run));
}

Tokens Tokens::join(std::span<const Tokens> parts) {
  if (parts.empty()) fail<InvalidArgument>("tokens: nothing to join");
  Tokens all;
  std::vector<Run> runs;
  for (const auto& part : parts) {
    all.vocab_size_ = std::max(all.vocab_size_, part.vocab_size_);
    for (const auto& [run, first, length] : part.spans()) {
      Run copy = *run;
      if (copy.narrow != nullptr) copy.narrow += first;
      if (copy.wide != nullptr) copy.wide += first;
      copy.start = all.size_;
      copy.size = length;
      all.size_ += length;
      runs.push_back(std::move(copy));
    }
  }
  all.runs_ = std::make_shared<const std::vector<Run>>(std::move(runs));
  return all;
}

// `place` is counted from the first run, not from start_.
const Tokens::Run& Tokens::run_at(std::int64_t place) const {
  if (runs_->size() == 1) return runs_->front();
  const auto after =
      std::upper_bound(runs_->begin(), runs_->end(), place,
                       [](std::int64_t wanted, const Run& run) { return wanted < run.start; });
  return *(after - 1);
}

std::vector<Tokens::Span> Tokens::spans() const {
  std::vector<Span> found;
  if (runs_ == nullptr) return found;
  for (const auto& run : *runs_) {
    const auto first = std::max(start_ - run.start, std::int64_t{0});
    const auto end = std::min(start_ + size_ - run.start, run.size);
    if (first < end) found.push_back({&run, first, end - first});
  }
  return found;
}

std::vector<Tokens::Piece> Tokens::pieces() const {
  std::vector<Piece> found;
  for (const auto& [run, first, length] : spans()) {
    found.push_back({run->start + first - start_, length});
  }
  return found;
}

std::int32_t Tokens::operator[](std::int64_t i) const {
  WEFT_ASSERT(i >= 0 && i < size_, "a token inside the run");
  const auto& run = run_at(start_ + i);
  return run.at(start_ + i - run.start);
}

Tokens Tokens::slice(std::int64_t start, std::int64_t length) const {
  WEFT_ASSERT(start >= 0 && length >= 0 && start <= size_ - length, "a slice inside the run");
  Tokens result = *this;
  result.start_ = start_ + start;
  result.size_ = length;
  return result;
}

void Tokens::copy(std::int64_t start, std::span<std::int32_t> to) const {
  const auto length = static_cast<std::int64_t>(to.size());
  WEFT_ASSERT(start >= 0 && start <= size_ - length, "a window inside the run");
  auto* out = to.data();
  for (std::int64_t done = 0; done < length;) {
    const auto& run = run_at(start_ + start + done);
    const auto first = start_ + start + done - run.start;
    const auto count = std::min(length - done, run.size - first);
    if (run.narrow != nullptr) {
      std::copy_n(run.narrow + first, count, out + done);
    } else {
      std::copy_n(run.wide + first, count, out + done);
    }
    done += count;
  }
}

std::int64_t Tokens::used_vocabulary() const {
  std::int64_t used = 0;
  for (const auto& [run, first, length] : spans()) {
    std::int32_t largest = 0;
    for (auto i = first; i < first + length; ++i) largest = std::max(largest, run->at(i));
    used = std::max(used, std::int64_t{largest} + 1);
  }
  return used;
}

void Tokens::require_vocabulary(std::int64_t vocab_size) const {
  for (const auto& [run, first, length] : spans()) {
    for (auto i = first; i < first + length; ++i) {
      if (run->at(i) < vocab_size) continue;
      fail<Mismatch>(
          "{}: token {} at place {} is outside the model's vocabulary, 0..{}: expected data of the "
          "tokenizer that the model was made for",
          run->source, run->at(i), i, vocab_size - 1);
    }
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

}  // namespace weft::data
