// Named tensors, and how a set of them is checked against another before anything is copied.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tensor/tensor.h"

namespace weft::nn {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};
// In registration order; names are unique. Tensors share elements with their owner.
using StateDict = std::vector<NamedTensor>;

struct LoadOptions {
  bool strict = true;                     // missing or unexpected names are an error
  std::string source = "the state dict";  // who is to blame in messages: a file name, say
};

struct LoadReport {  // with strict == false; empty otherwise
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
};

// What would be copied where. Making one checks everything; apply() cannot fail halfway.
class StateMatch {
 public:
  // Mismatch, naming the source and every missing, unexpected and mis-shaped entry with what was
  // expected and found. Shapes must be equal; floating types convert into one another, integers
  // must be the same.
  StateMatch(const StateDict& expected, const StateDict& given, const LoadOptions& options);
  void apply() const;
  const LoadReport& report() const { return report_; }

 private:
  std::vector<std::pair<Tensor, Tensor>> copies_;  // to, from
  LoadReport report_;
};

// The entry of that name, or nullptr.
const Tensor* find(const StateDict& state, std::string_view name);
// Same shape and same values, types apart.
bool equal_values(const Tensor& a, const Tensor& b);

}  // namespace weft::nn
