// What holds parameters: a tree of modules with names.
//
// A derived class keeps its parameters as Tensor members and its parts as Module members, and
// registers each once in its constructor. Modules are addressed by their parts, so they are neither
// copied nor moved. Names are joined by dots ("transformer.h.0.attn.c_attn.weight"). Not
// thread-safe: one thread trains one module.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tensor/amp/autocast.h"
#include "tensor/amp/precision.h"
#include "tensor/nn/state_dict.h"
#include "tensor/tensor.h"

namespace weft::nn {

// Told of the forward passes of a module (parallel::Zero).
class ForwardObserver {
 public:
  virtual ~ForwardObserver() = default;
  virtual void begin_forward() = 0;  // before anything is computed; what it throws, forward()
                                     // throws
  virtual void end_forward() noexcept = 0;  // also when forward() threw
};

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Own parameters first, then those of the parts, in registration order. A parameter that several
  // parts share (tied weights) comes once, under its first name; aliases count as last.
  std::vector<NamedTensor> named_parameters() const;
  std::vector<Tensor> parameters() const;
  std::vector<NamedTensor> named_buffers() const;
  // Second names of parameters that have several, with the parameter.
  std::vector<NamedTensor> named_aliases() const;
  // This one (under "") and all below.
  std::vector<std::pair<std::string, Module*>> named_modules();
  std::int64_t parameter_count() const;

  void train(bool on = true);
  void eval() { train(false); }
  bool is_training() const { return training_; }
  void zero_grad();
  // Converts floating parameters and buffers. They become new tensors: make optimizers and hooks
  // afterwards. Tied parameters stay tied.
  void to(DType dtype);
  void to(Device device);

  // From now on forward() of this module casts its inputs, runs under autocast and casts its
  // outputs as `policy` says. Parameters are not converted (to() does that); parts inside are
  // called as they are. Fabric::setup() does both.
  void set_policy(const amp::Policy& policy) { policy_ = policy; }

  // Told of every forward() from now on; empty: nobody. A module has one.
  void set_forward_observer(std::shared_ptr<ForwardObserver> observer) {
    observer_ = std::move(observer);
  }

  // Parameters and buffers, detached and shared with this module.
  StateDict state_dict() const;
  // Copies values in. Everything is checked first: on Mismatch nothing has changed. The second name
  // of a tied parameter may be given too, if its values are the same.
  LoadReport load_state_dict(const StateDict& given, const LoadOptions& options = {});
  // The entries under this module's names: what other programs call otherwise is renamed, what they
  // write besides is dropped. Mismatch names `source` where a tied parameter has two values.
  StateDict adapted(StateDict given, const std::string& source) const;
  // The same check, without copying yet (to load several things or none).
  StateMatch match_state_dict(const StateDict& given, const LoadOptions& options = {});

 protected:
  // The scope of a forward(), in which the module's policy holds. Layer::forward() has one; a
  // module with a forward() of its own begins it with one.
  class Forward {
   public:
    explicit Forward(const Module& module);
    ~Forward();
    Forward(const Forward&) = delete;
    Forward& operator=(const Forward&) = delete;
    Tensor input(const Tensor& x) const;   // floating: in the policy's type
    Tensor output(const Tensor& y) const;  // likewise

   private:
    std::shared_ptr<ForwardObserver> observer_;
    const amp::Policy* policy_;  // null: everything stays as it is
    std::optional<amp::Autocast> autocast_;
  };

  // `member` lives as long as the module. An undefined tensor (no bias) is passed over.
  void register_parameter(std::string name, Tensor& member);
  void register_buffer(std::string name, Tensor& member);
  void register_module(std::string name, Module& part);
  // A second name for a registered parameter (a tied output head).
  void register_alias(std::string name, Tensor& member);
  // A chance to rename or drop entries that other programs write.
  virtual void adapt_state_dict(StateDict& /*given*/) const {}

 private:
  enum class Kind { parameter, buffer, alias };
  struct Slot {
    std::string name;
    Tensor* member;
    Kind kind;
  };
  void check_name(const std::string& name) const;
  void collect(const std::string& prefix, bool aliases, std::vector<Slot>& entries) const;
  std::vector<Slot> entries() const;
  template <class Convert>
  void convert(Convert convert);

  std::vector<Slot> slots_;
  std::vector<std::pair<std::string, Module*>> parts_;
  std::optional<amp::Policy> policy_;
  std::shared_ptr<ForwardObserver> observer_;
  bool training_ = true;
};

// A module of one tensor to one tensor: what Sequential chains. forward() is what one calls,
// compute() what one writes.
class Layer : public Module {
 public:
  Tensor forward(const Tensor& x);
  Tensor operator()(const Tensor& x) { return forward(x); }

 protected:
  virtual Tensor compute(const Tensor& x) = 0;
};

}  // namespace weft::nn
