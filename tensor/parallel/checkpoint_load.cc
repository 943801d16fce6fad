#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <span>

#include "tensor/autograd/node.h"
#include "tensor/parallel/agree.h"
#include "tensor/parallel/checkpoint.h"

namespace weft::parallel {
namespace {

namespace fs = std::filesystem;
using checkpoint::elements_of;
using checkpoint::Shard;
using checkpoint::Source;
using checkpoint::TensorEntry;

constexpr std::string_view kMaster = ".master";

// "a, b and 3 more"
std::string listed(const std::vector<std::string>& texts) {
  constexpr std::size_t kShown = 8;
  std::string all;
  for (std::size_t i = 0; i < std::min(texts.size(), kShown); ++i) {
    all += (i == 0 ? "" : ", ") + texts[i];
  }
  if (texts.size() > kShown) all += fmt::format(" and {} more", texts.size() - kShown);
  return all;
}

// The wishes of one rank against what is there.
class ShardMatch {
 public:
  ShardMatch(const Source& source, const std::vector<ShardedPart>& wishes)
      : source_(source), wishes_(wishes) {
    for (const auto& part : source.manifest().parts) {
      for (const auto& tensor : part.tensors) index_.emplace(&tensor, index_.size());
    }
    wished_.resize(index_.size());
    for (const auto& part : wishes_) {
      if (source.manifest().find(part.name) == nullptr) continue;  // resolve() says so
      for (const auto& shard : part.shards) {
        const auto* tensor = source.manifest().find(part.name, shard.name);
        if (tensor != nullptr) wished_[index_.at(tensor)] = 1;
      }
    }
  }

  // By this rank; to become those of any rank.
  std::span<std::uint8_t> wished() { return wished_; }

  // Mismatch. Once wished() is that of all ranks.
  void resolve(bool strict) {
    for (const auto& part : wishes_) {
      source_.part(part.name);
      for (const auto& shard : part.shards) resolve(part.name, shard);
      find_unexpected(part.name);
    }
    if (wrong_.empty() && (!strict || (missing_.empty() && unexpected_.empty()))) return;
    auto text = fmt::format("{} does not fit what is to be loaded.", source_.name());
    if (!wrong_.empty()) text += fmt::format(" Different: {}.", listed(wrong_));
    if (!missing_.empty()) text += fmt::format(" Missing: {}.", listed(missing_));
    if (!unexpected_.empty()) text += fmt::format(" Unexpected: {}.", listed(unexpected_));
    fail<Mismatch>("{} Nothing was loaded; build it with the configuration that was saved.", text);
  }

  void apply() const {
    const NoGrad no_grad;
    for (const auto& [shard, tensor] : reads_) {
      source_.read(*tensor, shard->begin, shard->data.detach());
    }
  }

 private:
  bool is_wished(const TensorEntry* tensor) const { return wished_[index_.at(tensor)] != 0; }

  // In any part but `part`.
  const TensorEntry* elsewhere(const std::string& part, const std::string& name) const {
    for (const auto& other : source_.manifest().parts) {
      const auto* found = other.name == part ? nullptr : source_.manifest().find(other.name, name);
      if (found != nullptr) return found;
    }
    return nullptr;
  }

  const TensorEntry* find(const std::string& part, const std::string& name) const {
    const auto* own = source_.manifest().find(part, name);
    if (own == nullptr && name.ends_with(kMaster)) {
      return elsewhere(part, name.substr(0, name.size() - kMaster.size()));
    }
    const auto* master = elsewhere(part, name + std::string(kMaster));
    return own != nullptr && master != nullptr && !is_wished(master) ? master : own;
  }

  void resolve(const std::string& part, const Shard& shard) {
    const auto* tensor = find(part, shard.name);
    if (tensor == nullptr) {
      missing_.push_back(shard.name);
      return;
    }
    if (tensor->shape != shard.shape) {
      wrong_.push_back(fmt::format("{}: expected shape {}, found {}", shard.name,
                                   tensor::to_string(shard.shape),
                                   tensor::to_string(tensor->shape)));
      return;
    }
    if (!shard.data.defined() || shard.data.numel() == 0) return;
    const auto end = shard.begin + Elems(shard.data.numel());
    if (shard.begin.value < 0 || elements_of(shard.shape) < end) {
      wrong_.push_back(fmt::format("{}: elements [{}, {}) are wished for, it has {}", shard.name,
                                   shard.begin.value, end.value, elements_of(shard.shape).value));
      return;
    }
    const auto to = shard.data.dtype();
    if (to != tensor->dtype && !(is_floating(to) && is_floating(tensor->dtype))) {
      wrong_.push_back(fmt::format("{}: expected {}, found {}", shard.name, name_of(to),
                                   name_of(tensor->dtype)));
      return;
    }
    if (counts_below_zero(shard, *tensor)) return;
    reads_.emplace_back(&shard, tensor);
  }

  // Of an optimizer's "<parameter>.step".
  bool counts_below_zero(const Shard& shard, const TensorEntry& tensor) {
    if (!shard.name.ends_with(".step") || is_floating(tensor.dtype) || !tensor.shape.empty()) {
      return false;
    }
    const auto count = source_.tensor(tensor).item();
    if (count >= 0) return false;
    wrong_.push_back(
        fmt::format("{}: it counts updates, expected at least 0, found {}", shard.name, count));
    return true;
  }

  void find_unexpected(const std::string& part) {
    for (const auto& tensor : source_.part(part).tensors) {
      if (is_wished(&tensor)) continue;
      const auto base =
          tensor.name.substr(0, tensor.name.size() - std::min(tensor.name.size(), kMaster.size()));
      const bool fills_parameter =
          tensor.name.ends_with(kMaster) && elsewhere(part, base) != nullptr;
      if (!fills_parameter) unexpected_.push_back(tensor.name);
    }
  }

  const Source& source_;
  const std::vector<ShardedPart>& wishes_;
  std::map<const TensorEntry*, std::size_t> index_;  // in wished_
  std::vector<std::uint8_t> wished_;
  std::vector<std::string> wrong_, missing_, unexpected_;
  std::vector<std::pair<const Shard*, const TensorEntry*>> reads_;
};

}  // namespace

Source open_verified(const fs::path& place, Communicator& communicator) {
  std::optional<Source> source;
  together(communicator, [&] { source.emplace(Source::open(place)); });
  std::array<std::uint64_t, 1> first{source->fingerprint()};
  communicator.broadcast({first.data(), Elems(8), DType::u8}, 0);
  together(communicator, [&] {
    if (first[0] == source->fingerprint()) return;
    fail<Mismatch>(
        "{}: this rank sees another checkpoint there than rank 0 does. All ranks must read one "
        "file system, or equal copies.",
        place.string());
  });
  together(communicator, [&] {
    const auto files = source->manifest().files.size();
    const auto world = static_cast<std::size_t>(communicator.size());
    for (auto i = static_cast<std::size_t>(communicator.rank()); i < files; i += world) {
      source->verify(i);
    }
  });
  return std::move(*source);
}

void load_sharded(const Source& source, const std::vector<ShardedPart>& wishes,
                  Communicator& communicator, const LoadShardedOptions& options) {
  ShardMatch match(source, wishes);
  communicator.all_reduce(match.wished(), ReduceOp::max);
  together(communicator, [&] { match.resolve(options.strict); });
  together(communicator, [&] {
    try {
      match.apply();
    } catch (const IoError& error) {
      fail<IoError>("{}. Some of it has been loaded: don't go on with what is in memory",
                    error.what());
    }
  });
}

}  // namespace weft::parallel
