// What holds parameters: a tree of modules with names.
//
// A derived class keeps its parameters as Tensor members and its parts as Module members, and
// registers each once in its constructor. Modules are addressed by their parts, so they are neither
// copied nor moved. Names are joined by dots ("transformer.h.0.attn.c_attn.weight"). Not
// thread-safe: one thread trains one module.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tensor/nn/state_dict.h"
#include "tensor/tensor.h"

namespace weft::nn {

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

  // Parameters and buffers, detached and shared with this module.
  StateDict state_dict() const;
  // Copies values in. Everything is checked first: on Mismatch nothing has changed. The second name
  // of a tied parameter may be given too, if its values are the same.
  LoadReport load_state_dict(const StateDict& given, const LoadOptions& options = {});
  // The same check, without copying yet (to load several things or none).
  StateMatch match_state_dict(const StateDict& given, const LoadOptions& options = {});

 protected:
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
  bool training_ = true;
};

// A module of one tensor to one tensor: what Sequential chains.
class Layer : public Module {
 public:
  virtual Tensor forward(const Tensor& x) = 0;
  Tensor operator()(const Tensor& x) { return forward(x); }
};

}  // namespace weft::nn
