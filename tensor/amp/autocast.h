// Autocast: while a scope is alive, each operator of this thread runs in the type that suits it.
//
//   {
//     const amp::Autocast autocast(DType::bf16);
//     loss = ops::cross_entropy(ops::linear(x, weight), targets);  // product in bf16, loss in f32
//   }
//   loss.backward();  // the gradient of an f32 weight is f32
//
// Products (linear, matmul, conv2d, causal_attention) take f32 operands in the low type and sum in
// f32; exp, log, pow, softmax, layer_norm, cross_entropy, sum and mean take low operands in f32;
// what has several operands (add, mul, cat, ...) takes the widest type among them; the rest runs in
// the type that it is given. f64 and integers are never cast. docs/precision.md has the table and
// says why; it is Micikevicius et al., "Mixed Precision Training" (2017), with PyTorch's lists.
//
// Casts of leaves that require grad (weights) are kept until the outermost scope ends, and made
// anew when the weight was written to meanwhile (Storage::version()). Scopes nest; one with
// `enabled` false is a region without casts. Backward and an operator's inside never see autocast.
// Threading: a scope is its thread's own.
#pragma once

#include <cstddef>

#include "kernels/base/dtype.h"

namespace weft::tensor::amp {

namespace detail {
struct State {
  bool enabled = false;
  DType low = DType::bf16;
  int depth = 0;  // scopes alive
};
State& state();
}  // namespace detail

class Autocast {
 public:
  // `low`: f16 or bf16, else InvalidArgument.
  explicit Autocast(DType low, bool enabled = true);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool previous_enabled_;
  DType previous_low_;
};

inline bool autocast_enabled() { return detail::state().enabled; }
inline DType autocast_type() { return detail::state().low; }

// No casts for the scope, whatever surrounds it. Not a scope of its own: casts stay cached.
class NoAutocast {
 public:
  NoAutocast() : previous_(detail::state().enabled) { detail::state().enabled = false; }
  ~NoAutocast() { detail::state().enabled = previous_; }
  NoAutocast(const NoAutocast&) = delete;
  NoAutocast& operator=(const NoAutocast&) = delete;

 private:
  bool previous_;
};

// Of this thread's outermost scope so far; zeros outside of one.
struct CastCache {
  std::size_t entries = 0, hits = 0;
};
CastCache cast_cache();

}  // namespace weft::tensor::amp

namespace weft {
namespace amp = tensor::amp;
}
