// Adam (Kingma, Ba, 2014) and AdamW (Loshchilov, Hutter, 2017), with PyTorch's meaning of every
// setting.
#pragma once

#include "tensor/optim/optimizer.h"

namespace weft::optim {

struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};

class Adam : public Optimizer {  // weight decay is added to the gradient
 public:
  explicit Adam(std::vector<ParameterGroup> groups, AdamOptions options = {})
      : Adam(std::move(groups), options, false) {}

 protected:
  Adam(std::vector<ParameterGroup> groups, AdamOptions options, bool decoupled);
  void update(const Batch& batch) override;

 private:
  AdamOptions options_;
  bool decoupled_;
};

class AdamW : public Adam {  // weight decay shrinks the parameter itself
 public:
  explicit AdamW(std::vector<ParameterGroup> groups, AdamOptions options = {})
      : Adam(std::move(groups), options, true) {}
};

}  // namespace weft::optim
