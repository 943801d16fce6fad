#include "launcher/fabric.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "launcher/join.h"
#include "tensor/autograd/node.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/optim/clip.h"
#include "tensor/parallel/agree.h"
#include "tensor/parallel/async_checkpoint.h"
#include "tensor/parallel/ddp.h"
#include "tensor/parallel/zero.h"
#include "tensor/stream.h"

namespace weft {
namespace {

struct Trained {
  nn::Module* module = nullptr;
  std::unique_ptr<parallel::Engine> engine;
  parallel::Zero* zero = nullptr;  // the engine, where it is one
};

// An optimizer whose gradients are scaled. It owns this, by its gate: gone with it.
struct Scaled {
  optim::Optimizer* optimizer = nullptr;
};

bool trains(const optim::Optimizer& optimizer, const std::vector<Tensor>& parameters) {
  const auto trained = optimizer.parameters();
  return std::any_of(trained.begin(), trained.end(), [&](const Tensor& one) {
    return std::any_of(parameters.begin(), parameters.end(),
                       [&](const Tensor& p) { return p.same_as(one); });
  });
}

}  // namespace

struct Fabric::Impl {
  launcher::FabricSettings settings;
  std::optional<launcher::Membership> membership;  // after launch()
  std::vector<Trained> trained;
  BackwardTimes times;
  std::shared_ptr<amp::GradScaler> scaler;  // of 16-mixed
  std::vector<std::weak_ptr<Scaled>> scaled;

  std::vector<optim::Optimizer*> scaled_optimizers() const {
    std::vector<optim::Optimizer*> alive;
    for (const auto& entry : scaled) {
      if (const auto one = entry.lock()) alive.push_back(one->optimizer);
    }
    return alive;
  }
  // What backward is to start from.
  Tensor scaled_loss(const Tensor& loss) {
    if (!scaler) return loss;
    const auto optimizers = scaled_optimizers();
    if (optimizers.empty()) {
      fail<InvalidArgument>(
          "Fabric::backward(): precision {} scales the loss, and no optimizer was set up to take "
          "the scale out again: call Fabric::setup_optimizers(optimizer) first.",
          settings.precision);
    }
    for (auto* optimizer : optimizers) scaler->prepare(*optimizer);
    return scaler->scaled(loss);
  }

  // A rank sees its own shares only, and all must step or none.
  void make_verdict_common() {
    if (!scaler) return;
    auto& communicator = membership->communicator;
    scaler->set_verdict(
        [&communicator](bool here) {
          std::int32_t anywhere = here ? 1 : 0;
          communicator.all_reduce(std::span(&anywhere, 1), ReduceOp::max);
          return anywhere != 0;
        },
        [&communicator](const std::vector<std::string>& here) {
          return parallel::unite_texts(communicator, here);
        });
  }

  launcher::Membership& joined(const char* method) {
    if (!membership)
      fail<InvalidArgument>("Fabric::{}() before Fabric::launch(): call launch() first.", method);
    return *membership;
  }
  Trained& find(nn::Module& module, const char* method) {
    const auto it = std::find_if(trained.begin(), trained.end(),
                                 [&](const Trained& t) { return t.module == &module; });
    if (it == trained.end()) {
      fail<InvalidArgument>(
          "Fabric::{}(): this module was not set up; call Fabric::setup(module) first.", method);
    }
    return *it;
  }
};

Fabric::Fabric(FabricOptions options) : impl_(std::make_unique<Impl>()) {
  impl_->settings = launcher::resolve(options);
  if (impl_->settings.grad_scaler)
    impl_->scaler = std::make_shared<amp::GradScaler>(*impl_->settings.grad_scaler);
}
Fabric::~Fabric() = default;

void Fabric::launch() {
  if (impl_->membership)
    fail<InvalidArgument>("Fabric::launch() was called twice; once is enough.");
  impl_->membership.emplace(launcher::join(impl_->settings));
  // So that CUDA calls of the program's own, too, mean this rank's device.
  if (device().type == DeviceType::cuda) tensor::set_current_device(device());
  if (!is_global_zero()) return;
  for (const auto& text : impl_->settings.warnings) fmt::print(stderr, "weft: warning: {}\n", text);
}

int Fabric::global_rank() const { return impl_->joined("global_rank").communicator.rank(); }
int Fabric::local_rank() const { return impl_->joined("local_rank").local_rank; }
int Fabric::node_rank() const { return impl_->joined("node_rank").node_rank; }
int Fabric::world_size() const { return impl_->joined("world_size").communicator.size(); }
Device Fabric::device() const {
  return impl_->settings.accelerator == "cpu" ? Device{} : impl_->joined("device").device;
}
const launcher::FabricSettings& Fabric::settings() const { return impl_->settings; }
Communicator& Fabric::communicator() { return impl_->joined("communicator").communicator; }

void Fabric::setup(nn::Module& module) {
  auto& communicator = impl_->joined("setup").communicator;
  for (const auto& t : impl_->trained) {
    if (t.module == &module)
      fail<InvalidArgument>("Fabric::setup(): this module is set up already.");
  }
  module.to(impl_->settings.policy.parameters);
  module.to(device());
  module.set_policy(impl_->settings.policy);
  if (impl_->settings.zero) {
    auto zero = std::make_unique<parallel::Zero>(module, communicator, *impl_->settings.zero);
    auto* const engine = zero.get();
    impl_->trained.push_back({&module, std::move(zero), engine});
    impl_->make_verdict_common();
    return;
  }
  parallel::DdpOptions options;
  options.find_unused_parameters = impl_->settings.strategy == "ddp_find_unused_parameters_true";
  options.compression = impl_->settings.grad_compression;
  impl_->trained.push_back(
      {&module, std::make_unique<parallel::Ddp>(module.named_parameters(), module.named_buffers(),
                                                communicator, options)});
}

void Fabric::setup(nn::Module& module, optim::Optimizer& optimizer) {
  setup(module);
  const auto parameters = module.parameters();
  for (const auto& trained : optimizer.parameters()) {
    if (std::any_of(parameters.begin(), parameters.end(),
                    [&](const Tensor& p) { return p.same_as(trained); }))
      continue;
    fail<InvalidArgument>(
        "Fabric::setup(module, optimizer): the optimizer trains a tensor of shape {} that is not a "
        "parameter of this "
        "module. Precision {} may have converted the parameters: make the optimizer after "
        "setup(module).",
        tensor::to_string(trained.shape()), impl_->settings.precision);
  }
  setup_optimizers(optimizer);
}

void Fabric::setup_optimizers(optim::Optimizer& optimizer) {
  impl_->joined("setup_optimizers");
  std::vector<Tensor> parameters;
  for (const auto& t : impl_->trained) {
    for (auto& parameter : t.module->parameters()) parameters.push_back(std::move(parameter));
  }
  for (const auto& trained : optimizer.parameters()) {
    if (std::any_of(parameters.begin(), parameters.end(),
                    [&](const Tensor& p) { return p.same_as(trained); }))
      continue;
    fail<InvalidArgument>(
        "Fabric::setup_optimizers(): the optimizer trains a tensor of shape {} that belongs to no "
        "module set up: call Fabric::setup(module) first, and make the optimizer after it.",
        tensor::to_string(trained.shape()));
  }
  if (!impl_->scaler) return;
  for (auto* known : impl_->scaled_optimizers()) {
    if (known == &optimizer)
      fail<InvalidArgument>("Fabric::setup_optimizers(): this optimizer is set up already.");
  }
  std::erase_if(impl_->scaled, [](const auto& entry) { return entry.expired(); });
  auto registration = std::make_shared<Scaled>(Scaled{&optimizer});
  impl_->scaled.push_back(registration);
  optimizer.set_gate([scaler = impl_->scaler, registration](optim::Optimizer& stepping) {
    const bool admitted = scaler->admit(stepping);
    scaler->update();
    return admitted;
  });
}

amp::GradScaler* Fabric::grad_scaler() const { return impl_->scaler.get(); }

data::DataLoader Fabric::setup_dataloaders(const data::DataLoader& loader) const {
  return loader.share(global_rank(), world_size()).on(device());
}

void Fabric::backward(const Tensor& plain_loss) {
  impl_->joined("backward");
  impl_->times = {};
  const Tensor loss = impl_->scaled_loss(plain_loss);
  if (impl_->trained.size() == 1) {
    auto& engine = *impl_->trained.front().engine;
    engine.backward(loss);
    impl_->times = {engine.last_times().communication, engine.last_times().exposed};
    return;
  }
  for (auto& t : impl_->trained) t.engine->begin_backward();
  try {
    loss.backward();
  } catch (...) {
    for (auto& t : impl_->trained) t.engine->cancel_backward();
    throw;
  }
  for (auto& t : impl_->trained) {
    t.engine->finish_backward();
    impl_->times.communication += t.engine->last_times().communication;
    impl_->times.exposed += t.engine->last_times().exposed;
  }
}

BackwardTimes Fabric::last_backward() const { return impl_->times; }

parallel::Engine& Fabric::engine(nn::Module& module) const {
  return *impl_->find(module, "engine").engine;
}

parallel::Engine* Fabric::engine_of(const nn::Module& module) const {
  for (const auto& trained : impl_->trained) {
    if (trained.module == &module) return trained.engine.get();
  }
  return nullptr;
}

parallel::Zero* Fabric::zero(nn::Module& module) const { return impl_->find(module, "zero").zero; }

Fabric::NoBackwardSync Fabric::no_backward_sync(nn::Module& module, bool enabled) {
  auto* engine = impl_->find(module, "no_backward_sync").engine.get();
  const bool previous = engine->synchronises();
  if (enabled) engine->set_synchronises(false);
  return NoBackwardSync([engine, previous] { engine->set_synchronises(previous); });
}

double Fabric::clip_gradients(nn::Module& module, const ClipOptions& options) {
  if (options.clip_val.has_value() == options.max_norm.has_value()) {
    fail<InvalidArgument>("Fabric::clip_gradients(): give exactly one of clip_val and max_norm.");
  }
  auto* const zero = impl_->find(module, "clip_gradients").zero;
  const auto parameters = module.parameters();
  for (auto* optimizer : impl_->scaled_optimizers()) {
    if (trains(*optimizer, parameters) && !impl_->scaler->is_unscaled(*optimizer))
      impl_->scaler->unscale(*optimizer);
  }
  // An overflow is the loss scale's to deal with.
  const bool refuse = options.error_if_nonfinite && !impl_->scaler;
  if (options.max_norm) {
    return zero != nullptr ? zero->clip_grad_norm(*options.max_norm, refuse)
                           : optim::clip_grad_norm_(parameters, *options.max_norm, refuse);
  }
  const auto norm = [&] {
    return zero != nullptr ? zero->grad_norm() : optim::grad_norm(parameters);
  };
  if (refuse && !std::isfinite(norm())) {
    fail<InvalidArgument>("Fabric::clip_gradients(): rank {}: the gradients are not finite.",
                          global_rank());
  }
  if (zero != nullptr) {
    zero->clip_grad_value(*options.clip_val);
  } else {
    optim::clip_grad_value_(parameters, *options.clip_val);
  }
  return 0.0;
}

Tensor Fabric::to_device(const Tensor& tensor) const {
  return (is_floating(tensor.dtype()) ? tensor.to(impl_->settings.policy.inputs) : tensor)
      .to(device());
}

void Fabric::print_line(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

}  // namespace weft
