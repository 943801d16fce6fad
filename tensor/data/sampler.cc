#include "tensor/data/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <utility>

#include "kernels/base/error.h"
#include "tensor/random.h"

namespace weft::data {
namespace {

struct Saved {
  std::uint64_t samples, seed, shuffle, epoch, position;
};

constexpr std::array<std::string_view, 5> kFields = {
    "sampler samples=", " seed=", " shuffle=", " epoch=", " position="};

[[noreturn]] void not_ours(std::string_view saved) {
  fail<Corrupt>(
      "this is no saved position of a sampler: '{}'. Expected \"sampler samples=N seed=N "
      "shuffle=0|1 "
      "epoch=N position=N\"",
      saved.substr(0, 120));
}

Saved parse(std::string_view saved) {
  std::array<std::uint64_t, kFields.size()> values{};
  auto rest = saved;
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    if (!rest.starts_with(kFields[i])) not_ours(saved);
    rest.remove_prefix(kFields[i].size());
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), values[i]);
    if (error != std::errc()) not_ours(saved);
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  }
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
  const Saved found{values[0], values[1], values[2], values[3], values[4]};
  if (!rest.empty() || found.samples > kMost || found.shuffle > 1 || found.epoch > kMost ||
      found.position > found.samples) {
    not_ours(saved);
  }
  return found;
}

}  // namespace

DistributedSampler::DistributedSampler(SamplerOptions options) : options_(options) {
  const auto& o = options_;
  if (o.world < 1 || o.rank < 0 || o.rank >= o.world) {
    fail<InvalidArgument>("DistributedSampler: rank {} is not in a world of {}", o.rank, o.world);
  }
  if (o.samples < 1) {
    fail<InvalidArgument>("DistributedSampler: there must be samples, not {}", o.samples);
  }
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // times the world: no overflow
  if (o.batch_size < 1 || o.batch_size > kMost) {
    fail<InvalidArgument>("DistributedSampler: a batch holds 1..{} samples, not {}", kMost,
                          o.batch_size);
  }
  if (o.drop_last && o.samples < batch_of_all()) {
    fail<InvalidArgument>(
        "DistributedSampler: {} samples fill no batch of {} ranks with {} each, and drop_last "
        "leaves none",
        o.samples, o.world, o.batch_size);
  }
}

void DistributedSampler::set_epoch(std::int64_t epoch) {
  if (epoch < 0) fail<InvalidArgument>("DistributedSampler: epoch {} is below 0", epoch);
  epoch_ = epoch;
  position_ = 0;
}

std::int64_t DistributedSampler::batches() const {
  const auto size = batch_of_all();
  return options_.drop_last ? options_.samples / size : (options_.samples - 1) / size + 1;
}

std::int64_t DistributedSampler::batches_left() const {
  const auto left = options_.samples - position_, size = batch_of_all();
  return options_.drop_last ? left / size : (left + size - 1) / size;
}

void DistributedSampler::make_order() {
  if (order_epoch_ == epoch_) return;
  order_.resize(static_cast<std::size_t>(options_.samples));
  std::iota(order_.begin(), order_.end(), 0);
  order_epoch_ = epoch_;
  if (!options_.shuffle) return;
  tensor::Generator generator(options_.seed, static_cast<std::uint64_t>(epoch_));
  for (auto i = order_.size(); i > 1; --i) {  // Fisher and Yates
    std::swap(order_[i - 1], order_[generator.next_below(i)]);
  }
}

Share DistributedSampler::share_of(std::int64_t begin, std::int64_t end,
                                   std::int64_t step_samples) const {
  Share share;
  for (auto place = begin + options_.rank; place < end; place += options_.world) {
    share.samples.push_back(order_[static_cast<std::size_t>(place)]);
  }
  share.weight = static_cast<double>(share.samples.size()) * options_.world /
                 static_cast<double>(step_samples);
  if (share.samples.empty()) share.samples.push_back(order_[static_cast<std::size_t>(begin)]);
  return share;
}

std::vector<Share> DistributedSampler::next(std::int64_t micro_batches) {
  if (micro_batches < 1) {
    fail<InvalidArgument>("DistributedSampler: a step has at least 1 batch, not {}", micro_batches);
  }
  make_order();
  const auto count = std::min(micro_batches, batches_left());
  const auto size = batch_of_all(), start = position_;
  const auto stop =
      count == batches_left() && !options_.drop_last ? options_.samples : start + count * size;
  std::vector<Share> step;
  for (; position_ < stop; position_ = std::min(position_ + size, stop)) {
    step.push_back(share_of(position_, std::min(position_ + size, stop), stop - start));
  }
  return step;
}

std::string DistributedSampler::save() const {
  return fmt::format("sampler samples={} seed={} shuffle={} epoch={} position={}", options_.samples,
                     options_.seed, options_.shuffle ? 1 : 0, epoch_, position_);
}

void DistributedSampler::restore(std::string_view saved) {
  const auto found = parse(saved);
  const auto check = [&](const char* what, std::uint64_t expected, std::uint64_t value) {
    if (value == expected) return;
    fail<Mismatch>(
        "sampler: the saved position is of {} {}, this one has {}: its order is another one. "
        "Resume with the data and settings of that run",
        what, value, expected);
  };
  check("samples", static_cast<std::uint64_t>(options_.samples), found.samples);
  check("seed", options_.seed, found.seed);
  check("shuffle", options_.shuffle ? 1 : 0, found.shuffle);
  epoch_ = static_cast<std::int64_t>(found.epoch);
  position_ = static_cast<std::int64_t>(found.position);
}

}  // namespace weft::data
