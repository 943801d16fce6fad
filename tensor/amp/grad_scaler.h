// Dynamic loss scaling, for gradients that f16 would lose: the loss is multiplied by a scale before
// backward, gradients are divided by it before the step. Where they overflowed the step is skipped
// and the scale halved; after 2000 clean steps it is doubled. (Micikevicius et al., "Mixed
// Precision Training", 2017; the numbers are PyTorch's GradScaler's, the smallest scale
// DeepSpeed's.)
//
//   amp::GradScaler scaler;
//   { const amp::Autocast autocast(DType::f16); loss = ...; }
//   scaler.scaled(loss).backward();
//   scaler.unscale(optimizer);               // only where gradients are looked at, clipped say
//   const bool stepped = scaler.step(optimizer);
//   scaler.update();                         // once all optimizers have stepped
//
// Gradients carry the scale that they were made under: accumulate as often as wanted, unscale once.
// Fabric does all of this by itself (precision 16-mixed).
//
// Threading: one thread. With several ranks the verdict must be common, or parameters part ways:
// gradients that are equal on all ranks (DDP's) see to that; for sharded ones set_verdict().
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tensor/optim/optimizer.h"
#include "tensor/tensor.h"

namespace weft::tensor::amp {

struct GradScalerOptions {
  double initial_scale = 65536.0;
  double growth_factor = 2.0;
  double backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;  // clean updates in a row before the scale grows
  double minimum_scale = 1.0;
  bool operator==(const GradScalerOptions&) const = default;
};

// What a checkpoint keeps.
struct GradScalerState {
  double scale = 65536.0;
  std::int64_t clean_updates = 0;    // in a row, since the scale changed
  std::int64_t skipped_updates = 0;  // of all
  bool operator==(const GradScalerState&) const = default;
};
bool is_valid(const GradScalerState& state);  // a positive f32, and counts of at least 0
// As text ("65536 12 3"), for the metadata of checkpoints; Corrupt, naming `source`, where it is
// none.
std::string to_string(const GradScalerState& state);
GradScalerState parse_grad_scaler_state(const std::string& text, const std::string& source);

class GradScaler {
 public:
  // InvalidArgument where an option makes no sense.
  explicit GradScaler(GradScalerOptions options = {});

  double scale() const { return state_.scale; }
  // loss * scale, recorded. A low loss is widened first: the scale alone may be beyond f16.
  Tensor scaled(const Tensor& loss) const;

  // Says that gradients of a loss under the present scale will be added to this optimizer's. What
  // it has already, unscaled or under an earlier scale, is brought to the present one. For loops
  // where scales may change, or gradients be clipped, while gradients accumulate; not needed else.
  void prepare(optim::Optimizer& optimizer);

  // Divides the optimizer's gradients by the scale they carry (the reciprocal taken in f64) and
  // looks for ones that are not finite, in one pass. Collective where there is a verdict hook.
  // InvalidArgument when they were unscaled already.
  void unscale(optim::Optimizer& optimizer);
  bool is_unscaled(const optim::Optimizer& optimizer) const;

  // Unscales, where that was not done, and says whether the optimizer may step: not where any
  // gradient of any rank is not finite.
  bool admit(optim::Optimizer& optimizer);
  // admit(), then the step. False: skipped.
  bool step(optim::Optimizer& optimizer);

  // Adapts the scale to what was found since the last update(), in all optimizers admitted since.
  // NotFinite, naming the parameters, where gradients overflowed under the smallest scale.
  // InvalidArgument where nothing was admitted.
  void update();

  // Whether anybody's gradients overflowed, from whether this rank's did: called once an unscale().
  using Verdict = std::function<bool(bool overflowed_here)>;
  // All ranks' names of parameters that did, from this rank's, for the error: called where the
  // verdict is that some did, under the smallest scale.
  using Names = std::function<std::vector<std::string>(const std::vector<std::string>& here)>;
  void set_verdict(Verdict verdict, Names names = {}) {
    verdict_ = std::move(verdict);
    names_ = std::move(names);
  }

  const GradScalerOptions& options() const { return options_; }
  const GradScalerState& state() const { return state_; }
  // Corrupt, naming `source`, where the state cannot be one.
  void load_state(const GradScalerState& state, const std::string& source = "the state");

 private:
  struct Record {           // of an optimizer, since its last admitted step
    double carried = 0;     // the scale its gradients carry; 1: unscaled
    bool prepared = false;  // prepare() is called: what they carry is known from one to the next
    bool unscaled = false;
    bool admitted = false;
    bool overflowed = false;
    std::vector<std::string> overflowed_names;  // under the smallest scale only
  };
  Record& record_of(optim::Optimizer& optimizer);
  [[noreturn]] void give_up(const std::vector<std::string>& names) const;

  GradScalerOptions options_;
  GradScalerState state_;
  Verdict verdict_;
  Names names_;
  std::unordered_map<const optim::Optimizer*, Record> records_;
};

}  // namespace weft::tensor::amp
