// What sizes and probabilities may be. Apart from what uses them: `weft plan` checks a shape
// without linking operators.
#include "tensor/nn/gpt.h"

namespace weft::nn {
namespace {

// Beyond this, sizes multiplied below could leave 64 bits.
constexpr std::int64_t kLargest = std::int64_t{1} << 28;

void check_size(const char* option, std::int64_t value) {
  if (value < 1 || value > kLargest) {
    fail<InvalidArgument>("GPT: {} must be in 1..{}, not {}", option, kLargest, value);
  }
}

}  // namespace

double check_probability(double p, const char* who) {
  if (!(p >= 0.0 && p < 1.0)) {
    fail<InvalidArgument>("{}: a dropout probability is in [0, 1), not {}", who, p);
  }
  return p;
}

void GPTConfig::validate() const {
  check_size("block_size", block_size);
  check_size("vocab_size", vocab_size);
  check_size("n_layer", n_layer);
  check_size("n_head", n_head);
  check_size("n_embd", n_embd);
  if (n_embd % n_head != 0) {
    fail<InvalidArgument>("GPT: n_embd {} must be a multiple of n_head {}", n_embd, n_head);
  }
  check_probability(dropout, "GPT");
}

}  // namespace weft::nn
