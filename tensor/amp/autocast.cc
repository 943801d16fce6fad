#include "tensor/amp/autocast.h"

#include <algorithm>
#include <unordered_map>

#include "tensor/amp/operands.h"
#include "tensor/autograd/node.h"

namespace weft::tensor::amp {
namespace {

// Low copies of weights. A weight is kept with its copy, so that no other takes its address.
class Cache {
 public:
  Tensor get(const Tensor& weight, DType type) {
    auto& entry = entries_[weight.impl()];
    const auto version = weight.storage()->version();
    if (entry.copy.defined() && entry.copy.dtype() == type && entry.version == version) {
      ++hits_;
    } else {
      entry = {weight, weight.detach().to(type), version};
    }
    return entry.copy.detach();  // a handle of its own: each use has its own history
  }
  void clear() {
    entries_.clear();
    hits_ = 0;
  }
  CastCache counts() const { return {entries_.size(), hits_}; }

 private:
  struct Entry {
    Tensor weight, copy;
    std::uint64_t version = 0;
  };
  std::unordered_map<const TensorImpl*, Entry> entries_;
  std::size_t hits_ = 0;
};

Cache& cache() {
  static thread_local Cache of_this_thread;
  return of_this_thread;
}

bool is_weight(const Tensor& a) { return a.is_leaf() && a.requires_grad(); }

Tensor cast_recorded(const Tensor& a, DType type) {
  const bool weight = is_weight(a);
  Tensor copy = weight && detail::state().depth > 0 ? cache().get(a, type) : a.detach().to(type);
  if (!autograd::should_record({a})) return copy;
  // An activation is not captured: it may be gone by the time its gradient comes.
  if (!weight) {
    return autograd::record("autocast", copy, {a}, [from = a.dtype()](const Tensor& grad) {
      return std::vector<Tensor>{grad.to(from)};
    });
  }
  return autograd::record("autocast", copy, {a}, [a](const Tensor& grad) {
    const Tensor own = autograd::empty_gradient(a);
    own.copy_(grad);
    return std::vector<Tensor>{own};
  });
}

bool has_floating_type(const Tensor& a) { return a.defined() && is_floating(a.dtype()); }

DType wider(DType a, DType b) {
  if (a == b) return a;
  if (is_half(a) && is_half(b)) return DType::f32;
  if (a == DType::f64 || b == DType::f64) return DType::f64;
  return DType::f32;
}

}  // namespace

namespace detail {

State& state() {
  static constinit thread_local State of_this_thread;
  return of_this_thread;
}

Tensor cast(const Tensor& a, DType type) {
  if (!has_floating_type(a) || a.dtype() == type || a.dtype() == DType::f64) return a;
  return cast_recorded(a, type);
}

Tensor promote(const Tensor& a, DType type) {
  if (!has_floating_type(a) || a.dtype() == type) return a;
  return cast_recorded(a, type);
}

DType widest(std::initializer_list<const Tensor*> operands) {
  const Tensor* first = nullptr;
  DType type = DType::f32;
  for (const Tensor* a : operands) {
    if (!has_floating_type(*a)) continue;
    type = first == nullptr ? a->dtype() : wider(type, a->dtype());
    first = a;
  }
  return type;
}

DType widest(const std::vector<Tensor>& operands) {
  bool any = false;
  DType type = DType::f32;
  for (const Tensor& a : operands) {
    if (!has_floating_type(a)) continue;
    type = any ? wider(type, a.dtype()) : a.dtype();
    any = true;
  }
  return type;
}

}  // namespace detail

std::vector<Tensor> promoted(const std::vector<Tensor>& operands) {
  if (!casts()) return operands;
  const DType type = detail::widest(operands);
  std::vector<Tensor> result;
  result.reserve(operands.size());
  for (const Tensor& a : operands) result.push_back(detail::promote(a, type));
  return result;
}

Autocast::Autocast(DType low, bool enabled)
    : previous_enabled_(detail::state().enabled), previous_low_(detail::state().low) {
  if (!is_half(low)) {
    fail<InvalidArgument>("Autocast: {} is no low type; expected f16 or bf16", name_of(low));
  }
  detail::state() = {enabled, low, detail::state().depth + 1};
}

Autocast::~Autocast() {
  auto& state = detail::state();
  state = {previous_enabled_, previous_low_, state.depth - 1};
  if (state.depth == 0) cache().clear();
}

CastCache cast_cache() { return cache().counts(); }

}  // namespace weft::tensor::amp
