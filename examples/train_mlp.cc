// Trains an image classifier: on IDX files as MNIST has them, or on a synthetic set that it makes
// itself.
//
//   train_mlp --devices 2
//   weft run --devices=2 train_mlp --images train-images-idx3-ubyte --labels
//   train-labels-idx1-ubyte --model conv
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "kernels/base/error.h"
#include "launcher/fabric.h"
#include "tensor/data/images.h"
#include "tensor/data/loader.h"
#include "tensor/nn/conv.h"
#include "tensor/nn/layers.h"
#include "tensor/ops/basic.h"
#include "tensor/ops/nn.h"
#include "tensor/optim/adam.h"

namespace {

using namespace weft;  // NOLINT: an example reads better so

struct Options {
  std::string images, labels, model = "mlp", devices, accelerator, precision;
  bool tf32 = false;
  std::int64_t batch_size = 64, epochs = 3, hidden = 128;
  double learning_rate = 1e-3;
  std::uint64_t seed = 1;
};

Options parse(int argc, char** argv) {
  Options o;
  CLI::App app("Trains an image classifier on IDX files or a synthetic set.", "train_mlp");
  auto* images = app.add_option("--images", o.images,
                                "IDX file of images (N, H, W); without it: a synthetic set");
  app.add_option("--labels", o.labels, "IDX file of labels (N)")->needs(images);
  app.add_option("--model", o.model, "mlp or conv")
      ->check(CLI::IsMember({"mlp", "conv"}))
      ->capture_default_str();
  app.add_option("--devices", o.devices, "Ranks to start, when not started by weft run");
  app.add_option("--accelerator", o.accelerator,
                 "What they train on, when not started by weft run (default auto)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda", "gpu"}));
  app.add_flag("--tf32", o.tf32, "On cuda, products of f32 may round their factors");
  app.add_option("--precision", o.precision, "Numbers to compute with (default: 32-true)")
      ->check(CLI::IsMember({"16-mixed", "bf16-mixed", "32-true", "64-true", "16-true", "bf16-true",
                             "64", "32", "16", "bf16"}));
  app.add_option("--batch_size,--batch-size", o.batch_size, "A rank")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--epochs", o.epochs)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--hidden", o.hidden, "Width")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--learning_rate,--learning-rate", o.learning_rate)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seed", o.seed)->capture_default_str();
  try {
    app.parse(argc, argv);
    if (!o.images.empty() && o.labels.empty()) throw CLI::RequiredError("--labels (with --images)");
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  return o;
}

// flatten, two hidden layers
class Perceptron : public nn::Layer {
 public:
  Perceptron(std::int64_t inputs, std::int64_t hidden, std::int64_t classes)
      : first_(inputs, hidden), second_(hidden, hidden), last_(hidden, classes) {
    register_module("first", first_);
    register_module("second", second_);
    register_module("last", last_);
  }

 protected:
  Tensor compute(const Tensor& x) override {
    return last_.forward(ops::relu(second_.forward(ops::relu(first_.forward(x.flatten(1))))));
  }

 private:
  nn::Linear first_, second_, last_;
};

// two convolutions, each pooled, and a linear head
class Convolutional : public nn::Layer {
 public:
  Convolutional(std::int64_t side, std::int64_t classes)
      : first_(1, 8, 3, {.padding = 1}),
        second_(8, 16, 3, {.padding = 1}),
        last_(16 * (side / 4) * (side / 4), classes) {
    register_module("first", first_);
    register_module("second", second_);
    register_module("last", last_);
  }

 protected:
  Tensor compute(const Tensor& x) override {
    const auto half = ops::max_pool2d(ops::relu(first_.forward(x)), 2);
    const auto quarter = ops::max_pool2d(ops::relu(second_.forward(half)), 2);
    return last_.forward(quarter.flatten(1));
  }

 private:
  nn::Conv2d first_, second_;
  nn::Linear last_;
};

std::unique_ptr<nn::Layer> make_model(const Options& o, const data::ImageSet& set) {
  const auto height = set.images.size(2), width = set.images.size(3);
  if (o.model == "mlp") return std::make_unique<Perceptron>(height * width, o.hidden, set.classes);
  if (height != width || height < 4) {
    fail<InvalidArgument>("--model conv needs square images of 4 pixels or more; these are {} x {}",
                          height, width);
  }
  return std::make_unique<Convolutional>(height, set.classes);
}

std::int64_t count_right(const Tensor& logits, const Tensor& labels) {
  const auto guesses = ops::argmax(logits, 1).to_vector<std::int64_t>();
  const auto truth = labels.to_vector<std::int64_t>();
  std::int64_t right = 0;
  for (std::size_t i = 0; i < truth.size(); ++i) right += guesses[i] == truth[i];
  return right;
}

void train(const Options& o) {
  FabricOptions fabric_options;
  if (!o.devices.empty()) fabric_options.devices = o.devices;
  if (!o.accelerator.empty()) fabric_options.accelerator = o.accelerator;
  if (!o.precision.empty()) fabric_options.precision = o.precision;
  fabric_options.tf32 = o.tf32;
  Fabric fabric(fabric_options);
  fabric.launch();
  fabric.seed_everything(o.seed);

  const auto set = o.images.empty() ? data::synthetic_images({.count = 2000, .seed = o.seed})
                                    : data::read_idx_images(o.images, o.labels);
  auto model = make_model(o, set);
  fabric.setup(*model);
  optim::AdamW optimizer(optim::decay_groups(model->named_parameters(), o.learning_rate, 0.01));
  fabric.setup_optimizers(optimizer);
  auto loader = fabric.setup_dataloaders(
      data::DataLoader(set.images, set.labels, {.batch_size = o.batch_size, .seed = o.seed}));
  fabric.print("{} images, {} classes, {} parameters, {} ranks", set.images.size(0), set.classes,
               model->parameter_count(), fabric.world_size());

  for (std::int64_t epoch = 0; epoch < o.epochs; ++epoch) {
    loader.set_epoch(epoch);
    double loss_sum = 0, right = 0, seen = 0;
    for (const auto& batch : loader) {
      const auto logits = model->forward(fabric.to_device(batch.inputs));
      const auto loss = ops::cross_entropy(logits, batch.targets);
      fabric.backward(loss * batch.weight);  // each sample counts once, on whichever rank
      optimizer.step();
      optimizer.zero_grad();
      if (batch.weight == 0.0) continue;  // no samples were left for this rank
      const auto samples = static_cast<double>(batch.targets.numel());
      loss_sum += loss.item() * samples;
      right += static_cast<double>(count_right(logits, batch.targets));
      seen += samples;
    }
    const double all = fabric.all_reduce(seen, "sum");
    fabric.print("epoch {}: loss {:.4f}, accuracy {:.1f}%", epoch + 1,
                 fabric.all_reduce(loss_sum, "sum") / all,
                 100 * fabric.all_reduce(right, "sum") / all);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = parse(argc, argv);
  try {
    train(options);
    return 0;
  } catch (const weft::Error& error) {
    fmt::print(stderr, "train_mlp: {}: {}\n", weft::name_of(error.code()), error.what());
    return 1;
  }
}
