// The basic operators against PyTorch's numbers (tests/fixtures/generate_basic.py).
#include "tensor/ops/basic.h"
#include "tests/tensor/gradcheck.h"
#include "tests/tensor/nn_fixtures.h"

namespace weft::tests {
namespace {

struct Operator {
  const char* name;
  std::vector<std::string> inputs;
  TensorFunction function;
  double slack = 1.0;
};

const std::vector<Operator>& operators() {
  static const std::vector<Operator> all = {
      {"exp", {"a"}, [](const auto& in) { return ops::exp(in[0]); }},
      {"log", {"a"}, [](const auto& in) { return ops::log(in[0]); }},
      {"sqrt", {"a"}, [](const auto& in) { return ops::sqrt(in[0]); }},
      {"tanh", {"a"}, [](const auto& in) { return ops::tanh(in[0]); }},
      {"sigmoid", {"a"}, [](const auto& in) { return ops::sigmoid(in[0]); }},
      {"relu", {"a"}, [](const auto& in) { return ops::relu(in[0]); }},
      {"neg", {"a"}, [](const auto& in) { return ops::neg(in[0]); }},
      {"pow", {"a"}, [](const auto& in) { return ops::pow(in[0], -1.5); }},
      {"add", {"a", "b"}, [](const auto& in) { return in[0] + in[1]; }},
      {"sub", {"a", "b"}, [](const auto& in) { return in[0] - in[1]; }},
      {"mul", {"a", "b"}, [](const auto& in) { return in[0] * in[1]; }},
      {"div", {"a", "b"}, [](const auto& in) { return in[0] / in[1]; }},
      {"sum",
       {"a"},
       [](const auto& in) {
         return ops::sum(in[0], {0, 2}, true);
       }},
      {"mean", {"a"}, [](const auto& in) { return ops::mean(in[0], {1}); }},
      {"max", {"a"}, [](const auto& in) { return ops::max(in[0], 1); }},
      {"matmul", {"a", "b"}, [](const auto& in) { return ops::matmul(in[0], in[1]); }},
      {"matmul_rows", {"a", "b"}, [](const auto& in) { return ops::matmul(in[0], in[1]); }},
      {"matmul_batch", {"a", "b"}, [](const auto& in) { return ops::matmul(in[0], in[1]); }},
      {"cat",
       {"a", "b"},
       [](const auto& in) {
         return ops::cat({in[0], in[1]}, 1);
       }},
      {"stack",
       {"a", "b"},
       [](const auto& in) {
         return ops::stack({in[0], in[1]}, 1);
       }},
  };
  return all;
}

TEST(BasicFixtureTest, MatchPyTorch) {
  const auto cases = load_fixture("basic");
  ASSERT_EQ(cases.size(), operators().size());
  for (const auto& op : operators()) {
    SCOPED_TRACE(op.name);
    for (const auto dtype : kFloatingTypes) {
      if (op.name == std::string("max") && is_half(dtype)) continue;  // rounding makes new ties
      expect_fixture(cases.at(op.name), op.inputs, dtype, op.function, op.slack);
    }
  }
}

}  // namespace
}  // namespace weft::tests
