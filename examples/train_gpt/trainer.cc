#include "examples/train_gpt/trainer.h"

#include <fmt/format.h>

#include <chrono>

#include "examples/train_gpt/resume.h"
#include "kernels/base/thread_pool.h"
#include "tensor/autograd/node.h"
#include "tensor/ops/basic.h"
#include "tensor/random.h"

namespace train_gpt {
namespace {

using namespace weft;  // NOLINT: an example reads better so
using Clock = std::chrono::steady_clock;

double milliseconds(std::chrono::nanoseconds duration) {
  return static_cast<double>(duration.count()) / 1e6;
}

optim::CosineSchedule make_schedule(const Options& o) {
  return optim::CosineSchedule({.learning_rate = o.learning_rate,
                                .min_rate = o.min_lr,
                                .warmup_iterations = o.warmup_iters,
                                .decay_iterations = o.lr_decay_iters});
}

}  // namespace

Trainer::Trainer(const Options& options, Fabric& fabric)
    : options_(options),
      fabric_(fabric),
      progress_(options_, fabric.is_global_zero()),
      start_(open_start(options_)),
      corpus_(load_corpus(options_, std::move(start_.tokenizer), start_.vocab_size)),
      batches_(options_, *corpus_.train, fabric),
      schedule_(make_schedule(options)) {
  is_sharded(options_, fabric_);  // now, rather than at the first checkpoint
  fabric_.seed_everything(options_.seed);
  options_.model.vocab_size = corpus_.vocab_size;
  model_ = build_model(options_, start_);
  fabric_.setup(*model_);
  load_weights(start_, *model_, fabric_);
  optimizer_ = std::make_unique<optim::AdamW>(
      optim::decay_groups(model_->named_parameters(), options_.learning_rate,
                          options_.weight_decay),
      optim::AdamOptions{.beta1 = options_.beta1, .beta2 = options_.beta2});
  fabric_.setup_optimizers(*optimizer_);
  fabric_.seed_everything(options_.seed, true);  // every rank drops out differently
  if (start_.kind == Start::Kind::resume) {
    iter_ = load_progress(start_, progressing(), fabric_);
    progress_.line(fmt::format("resuming from {} at iteration {}", start_.path.string(), iter_));
  }
  fabric_.on_rank_zero([&] {
    progress_.open_log(iter_);
    if (!options_.eval_only) check_writable(options_.out_dir);
  });
  progress_.line(fmt::format("{}: {} layers, {} heads, {} wide, context {}: {} parameters",
                             corpus_.description, options_.model.n_layer, options_.model.n_head,
                             options_.model.n_embd, options_.model.block_size,
                             model_->num_parameters()));
  const auto sequences =
      options_.batch_size * options_.gradient_accumulation_steps * fabric_.world_size();
  progress_.line(fmt::format(
      "{} rank{} with {} thread{} each; {} tokens a step", fabric_.world_size(),
      fabric_.world_size() == 1 ? "" : "s", ThreadPool::current().size(),
      ThreadPool::current().size() == 1 ? "" : "s", sequences * options_.model.block_size));
  progress_.line("memory a rank, predicted: " +
                 tensor::describe(predict_memory(options_, *model_, fabric_)));
}

void Trainer::run() {
  std::int64_t validated_at = -1;
  const auto evaluate = [&] {
    const double loss = validate();
    progress_.validation(iter_, loss);
    validated_at = iter_;
    if (!options_.eval_only && iter_ > 0) save(loss);
  };
  const bool from_start = iter_ == 0;
  if (options_.eval_only || from_start) evaluate();
  if (options_.eval_only) return;
  if (iter_ >= options_.max_iters) {
    progress_.line(
        fmt::format("nothing to train: the checkpoint is at iteration {}, --max_iters is {}", iter_,
                    options_.max_iters));
    validated_at = iter_;
  }
  memory_.emplace(*model_, *optimizer_, fabric_);
  while (iter_ < options_.max_iters && !batches_.is_over()) {
    const auto report = step();
    progress_.step(report);
    ++iter_;
    if (iter_ % options_.eval_interval == 0) evaluate();
  }
  if (memory_->has_seen()) {
    progress_.line("memory a rank, measured:  " +
                   tensor::describe(largest(memory_->use(), fabric_)));
  }
  if (validated_at != iter_) evaluate();
  fabric_.wait_for_save();
  sample();
}

StepReport Trainer::step() {
  const auto start = Clock::now();
  const auto data = batches_.next(iter_);
  StepReport report;
  std::vector<Tensor> losses;  // read at the end: on a GPU reading one waits for it
  report.iter = iter_;
  report.lr = schedule_.at(iter_ - skipped_updates());
  optimizer_->set_learning_rate(report.lr);
  for (std::int64_t micro = 0; micro < data.micro_batches; ++micro) {
    const auto batch = on_device(batches_.load(data, micro));
    const auto accumulate = fabric_.no_backward_sync(*model_, micro + 1 < data.micro_batches);
    auto loss = model_->forward(batch.inputs, batch.targets).loss;
    if (batch.weight != 1.0) loss = loss * batch.weight;
    fabric_.backward(loss);
    losses.push_back(loss.detach());
  }
  memory_->see_gradients();
  if (options_.grad_clip > 0) fabric_.clip_gradients(*model_, {.max_norm = options_.grad_clip});
  optimizer_->step();
  optimizer_->zero_grad();
  for (const auto& loss : losses) report.loss += loss.item();
  report.loss = fabric_.all_reduce(report.loss);

  const auto times = fabric_.last_backward();
  report.comm_ms = milliseconds(times.communication);
  report.exposed_comm_ms = milliseconds(times.exposed);
  report.step_ms = milliseconds(Clock::now() - start);
  report.epoch = data.epoch;
  report.sequences = data.sequences;
  const auto tokens = data.sequences * options_.model.block_size;
  report.tokens_per_s = static_cast<double>(tokens) / report.step_ms * 1e3;
  return report;
}

data::Batch Trainer::on_device(const data::Batch& batch) const {
  return {fabric_.to_device(batch.inputs), fabric_.to_device(batch.targets), batch.weight};
}

// Updates that a loss scale gave up on: the schedule does not count them.
std::int64_t Trainer::skipped_updates() const {
  const auto* scaler = fabric_.grad_scaler();
  return scaler != nullptr ? scaler->state().skipped_updates : 0;
}

// The same batches every time, shared out over the ranks.
double Trainer::validate() {
  const NoGrad no_grad;
  model_->eval();
  double sum = 0;
  for (std::int64_t i = 0; i < options_.eval_iters; ++i) {
    const auto batch =
        on_device(corpus_.validation->batch(options_.batch_size, i, fabric_.global_rank()));
    sum += model_->forward(batch.inputs, batch.targets).loss.item();
  }
  model_->train();
  return fabric_.all_reduce(sum / static_cast<double>(options_.eval_iters));
}

void Trainer::save(double validation_loss) {
  const auto path =
      save_progress(options_, corpus_, progressing(), fabric_, iter_, validation_loss);
  progress_.line(
      fmt::format("{} {}", options_.async_checkpoint ? "saving" : "saved", path.string()));
}

void Trainer::sample() {
  if (!fabric_.is_global_zero() || options_.sample_tokens == 0) return;
  const NoGrad no_grad;
  std::vector<std::int64_t> prompt{0};
  if (corpus_.tokenizer) prompt = {first_token(*corpus_.tokenizer)};
  tensor::Generator generator(options_.seed);
  const auto tokens =
      model_->generate(Tensor::from(prompt, {1, 1}), options_.sample_tokens,
                       {.temperature = options_.temperature, .generator = &generator});
  const auto values = tokens.to_vector<std::int64_t>();
  progress_.line("--- a sample:");
  progress_.line(corpus_.tokenizer ? corpus_.tokenizer->decode(values)
                                   : fmt::format("{}", fmt::join(values, " ")));
}

}  // namespace train_gpt
