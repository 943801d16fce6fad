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
// On a CUDA device the scale lives in its memory, and scaling, unscaling, the verdict and the
// update are queued there: nothing waits for the device, a step that overflowed passes over itself,
// and the whole may be captured into a graph (tensor/cuda_graph.h). So step() is true there for a
// step that was queued, and NotFinite comes with the second update() after, or from check().
// state() waits. Where a verdict hook is set, or gradients lie on several devices, the host decides
// as it does for the CPU, and waits.
//
// Threading: one thread. With several ranks the verdict must be common, or parameters part ways:
// gradients that are equal on all ranks (DDP's) see to that; for sharded ones set_verdict().
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tensor/amp/device_scale.h"
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

  double scale() const { return state().scale; }
  // loss * scale, recorded. A low loss is widened first: the scale alone may be beyond f16.
  Tensor scaled(const Tensor& loss);

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
  // gradient of any rank is not finite. With `inputs`, of a step that is to be made with them, a
  // verdict that lies on the device is not waited for: the step reads it there (InvalidArgument
  // where they have another already).
  bool admit(optim::Optimizer& optimizer, optim::DeviceInputs* inputs = nullptr);
  // admit(), then the step. False: skipped.
  bool step(optim::Optimizer& optimizer);

  // Adapts the scale to what was found since the last update(), in all optimizers admitted since.
  // NotFinite, naming the parameters, where gradients overflowed under the smallest scale.
  // InvalidArgument where nothing was admitted.
  void update();
  // NotFinite where an update found, or a graph's did, that gradients overflowed under the smallest
  // scale since the last check(), naming those of the optimizer's parameters that do so now. Waits
  // for the device.
  void check(optim::Optimizer& optimizer);

  // Whether anybody's gradients overflowed, from whether this rank's did: called once an unscale().
  using Verdict = std::function<bool(bool overflowed_here)>;
  // All ranks' names of parameters that did, from this rank's, for the error: called where the
  // verdict is that some did, under the smallest scale.
  using Names = std::function<std::vector<std::string>(const std::vector<std::string>& here)>;
  void set_verdict(Verdict verdict, Names names = {});

  const GradScalerOptions& options() const { return options_; }
  GradScalerState state() const;
  // Corrupt, naming `source`, where the state cannot be one.
  void load_state(const GradScalerState& state, const std::string& source = "the state");

 private:
  struct Record {                           // of an optimizer, since its last admitted step
    optim::Optimizer* optimizer = nullptr;  // there when it is admitted; later perhaps not
    double carried = 0;                     // the scale its gradients carry; 1: unscaled
    bool prepared = false;  // prepare() is called: what they carry is known from one to the next
    bool unscaled = false;
    bool admitted = false;
    bool overflowed = false;
    std::vector<std::string> overflowed_names;  // under the smallest scale only
    // Of the scale on a device, in place of `carried` and `overflowed`:
    DeviceScale::Carried on_device;
    std::uint64_t generation = 0;  // of the scale it was made under
  };
  Record& record_of(optim::Optimizer& optimizer);
  void place(Device device);
  void place(const optim::Optimizer& optimizer);
  void come_home();
  void carry_present_scale(optim::Optimizer& optimizer, Record& record);
  bool found_on_host(optim::Optimizer& optimizer, Record& record);
  std::vector<Record> take_admitted();
  void update_on_device(const std::vector<Record>& admitted);
  void update_on_host(const std::vector<Record>& admitted);
  [[noreturn]] void give_up(const std::vector<std::string>& names, const char* otherwise) const;

  GradScalerOptions options_;
  GradScalerState state_;  // unless on_device_ has it
  Verdict verdict_;
  Names names_;
  std::unordered_map<const optim::Optimizer*, Record> records_;
  std::optional<DeviceScale> on_device_;
  std::uint64_t generation_ = 0;    // of the scale there: one more with each that may be another
  std::int32_t lost_seen_ = 0;      // steps that are told of
  bool stays_on_the_host_ = false;  // it was on a device, and something came up that it cannot do
};

}  // namespace weft::tensor::amp
