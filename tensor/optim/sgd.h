// Stochastic gradient descent with momentum, as PyTorch defines it (the first momentum is the
// gradient itself; Nesterov's form after Sutskever et al., 2013).
#pragma once

#include "tensor/optim/optimizer.h"

namespace weft::optim {

struct SgdOptions {
  double momentum = 0.0;
  double dampening = 0.0;
  bool nesterov = false;  // needs momentum and no dampening
};

class Sgd : public Optimizer {
 public:
  explicit Sgd(std::vector<ParameterGroup> groups, SgdOptions options = {});

 protected:
  void update(const Batch& batch) override;

 private:
  SgdOptions options_;
};

}  // namespace weft::optim
