// A rank that loads a checkpoint through Fabric, trains on, saves another, and says in a line what
// it has then. Arguments are NAME=VALUE:
//   load, save: where from, where to; form: single, sharded, async; keep: keep_last
//   steps: how many; dropout; wide: another model; part: the model's name in the checkpoint
//   poison: the step in which rank 0's loss is infinite; strict: 0 or 1
#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <string>

#include "kernels/base/error.h"
#include "launcher/fabric.h"
#include "tensor/checkpoint/training_state.h"
#include "tensor/data/sampler.h"
#include "tensor/nn/gpt.h"
#include "tensor/ops/basic.h"
#include "tensor/optim/adam.h"
#include "tensor/optim/schedule.h"
#include "tensor/parallel/zero.h"
#include "tensor/random.h"

namespace {

using namespace weft;  // NOLINT: as in examples

constexpr std::int64_t kSamples = 50;

class Arguments {
 public:
  Arguments(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string text = argv[i];
      const auto at = text.find('=');
      values_[text.substr(0, at)] = text.substr(at + 1);
    }
  }
  std::string text(const std::string& name, const std::string& otherwise = "") const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second;
  }
  double number(const std::string& name, double otherwise) const {
    return std::stod(text(name, fmt::format("{}", otherwise)));
  }

 private:
  std::map<std::string, std::string> values_;
};

nn::GPTConfig config_of(const Arguments& arguments) {
  return {.block_size = 8,
          .vocab_size = 37,
          .n_layer = 2,
          .n_head = 2,
          .n_embd = arguments.number("wide", 0) != 0 ? 16 : 12,
          .dropout = arguments.number("dropout", 0)};
}

// Sample `seed`'s tokens and targets.
std::vector<std::int64_t> row(std::int64_t seed, std::int64_t size) {
  tensor::Generator generator(static_cast<std::uint64_t>(seed));
  std::vector<std::int64_t> tokens;
  for (std::int64_t i = 0; i < size; ++i) {
    tokens.push_back(static_cast<std::int64_t>(generator.next_below(37)));
  }
  return tokens;
}

std::uint64_t fingerprint(const std::vector<Tensor>& tensors) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const auto& tensor : tensors) {
    for (const auto value : tensor.detach().to(DType::f64).to_vector<double>()) {
      hash = (hash ^ std::bit_cast<std::uint64_t>(value)) * 0x100000001b3;
    }
  }
  return hash;
}

class Run {
 public:
  Run(const Arguments& arguments, Fabric& fabric)
      : arguments_(arguments),
        fabric_(fabric),
        sampler_({.samples = kSamples,
                  .rank = fabric.global_rank(),
                  .world = fabric.world_size(),
                  .batch_size = 2,
                  .seed = 4}) {
    tensor::Generator generator(3);
    model_ = std::make_unique<nn::GPT>(config_of(arguments), &generator);
    fabric.setup(*model_);
    optimizer_ =
        std::make_unique<optim::AdamW>(optim::decay_groups(model_->named_parameters(), 1e-2, 0.1));
    fabric.setup_optimizers(*optimizer_);
    fabric.seed_everything(7, true);
    load();
  }

  void train() {
    const auto poisoned = static_cast<std::int64_t>(arguments_.number("poison", -1));
    const auto steps = static_cast<std::int64_t>(arguments_.number("steps", 0));
    for (const auto end = iteration_ + steps; iteration_ < end; ++iteration_) {
      optimizer_->set_learning_rate(schedule_.at(iteration_));
      if (sampler_.batches_left() == 0) sampler_.set_epoch(sampler_.epoch() + 1);
      const auto share = sampler_.next().front();
      auto loss = loss_of(share.samples) * share.weight;
      if (poisoned == iteration_ && fabric_.is_global_zero()) {
        loss = loss * std::numeric_limits<double>::infinity();
      }
      fabric_.backward(loss);
      fabric_.clip_gradients(*model_, {.max_norm = 1.0});
      optimizer_->step();
      optimizer_->zero_grad();
    }
  }

  void save() {
    const auto place = arguments_.text("save");
    if (place.empty()) return;
    const auto form = arguments_.text("form", "single");
    note();
    fabric_.save(place, state(form != "single"),
                 {.sharded = form != "single",
                  .asynchronous = form == "async",
                  .keep_last = static_cast<int>(arguments_.number("keep", 0))});
    fabric_.wait_for_save();
  }

  void tell() {
    note();
    const double scale = fabric_.grad_scaler() == nullptr ? 0 : fabric_.grad_scaler()->scale();
    std::optional<parallel::Zero::Gathered> gathered;
    if (auto* zero = fabric_.zero(*model_)) gathered.emplace(*zero);
    fmt::print("result model={:016x} iteration={} scale={} position={} random={}\n",
               fingerprint(model_->parameters()), iteration_, scale, position_,
               tensor::default_generator().offset());
  }

 private:
  Tensor loss_of(const std::vector<std::int64_t>& samples) {
    std::vector<std::int64_t> tokens, targets;
    for (const auto sample : samples) {
      const auto here = row(sample, 8), next = row(sample + 1000, 8);
      tokens.insert(tokens.end(), here.begin(), here.end());
      targets.insert(targets.end(), next.begin(), next.end());
    }
    const Shape shape{static_cast<std::int64_t>(samples.size()), 8};
    return model_->forward(Tensor::from(tokens, shape), Tensor::from(targets, shape)).loss;
  }

  Fabric::State state(bool with_ranks) {
    Fabric::State all{{{arguments_.text("part", "model"), model_.get()}},
                      {{"adamw", optimizer_.get()}},
                      {{"iteration", &iteration_text_}, {"position", &position_}}};
    if (with_ranks) all.rank_texts = {{"random", &random_}};
    return all;
  }
  void note() {
    iteration_text_ = std::to_string(iteration_);
    position_ = sampler_.save();
    random_ = checkpoint::rank_text(tensor::default_generator());
  }
  void load() {
    const auto place = arguments_.text("load");
    if (place.empty()) return;
    note();
    auto wished = state(true);
    const bool strict = arguments_.number("strict", 1) != 0;
    if (!strict) wished.optimizers.clear();
    fabric_.load(place, wished, strict);
    iteration_ = std::stoll(iteration_text_);
    sampler_.restore(position_);
    tensor::default_generator() = checkpoint::parse_rank_text(random_, place);
  }

  const Arguments& arguments_;
  Fabric& fabric_;
  data::DistributedSampler sampler_;
  std::unique_ptr<nn::GPT> model_;
  std::unique_ptr<optim::AdamW> optimizer_;
  optim::CosineSchedule schedule_{
      {.learning_rate = 1e-2, .min_rate = 1e-3, .warmup_iterations = 3, .decay_iterations = 12}};
  std::int64_t iteration_ = 0;
  std::string iteration_text_, position_, random_;
};

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  try {
    FabricOptions options;
    if (const double scale = arguments.number("scale", 0); scale > 0) {
      options.grad_scaler = {.initial_scale = scale};
    }
    Fabric fabric(options);
    fabric.launch();
    Run run(arguments, fabric);
    run.train();
    run.save();
    run.tell();
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "refused {}: {}\n", name_of(error.code()), error.what());
    return 1;
  }
}
