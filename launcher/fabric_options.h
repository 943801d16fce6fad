// What a Fabric is built with: Lightning Fabric's arguments, their names and their strings.
//
// An argument that is not given takes what `weft run` was told, or else the default. One that is
// given must agree with `weft run`; otherwise the constructor throws InvalidArgument ("conflicts
// with the value").
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "tensor/amp/grad_scaler.h"
#include "tensor/amp/precision.h"
#include "tensor/parallel/comm_hook.h"
#include "tensor/parallel/zero.h"

namespace weft {

struct FabricOptions {
  std::optional<std::string> accelerator = {};  // auto cpu gpu cuda
  // auto ddp dp ddp_find_unused_parameters_true; deepspeed (stage 2) deepspeed_stage_1 _2 _3 and
  // fsdp (stage 3), each with _offload: parallel/zero.h.
  std::optional<std::string> strategy = {};
  std::optional<std::string> devices = {};  // "2", "auto", "-1", "0,2"
  // Several ranks may be on one CUDA device, as with weft run --share-devices.
  bool share_devices = false;
  std::optional<int> num_nodes = {};
  // 32-true 64-true 16-mixed bf16-mixed 16-true bf16-true, aliases 32 64 16 bf16. On the CPU
  // 16-mixed becomes bf16-mixed, with a warning.
  std::optional<std::string> precision = {};
  // Whether products of f32 on CUDA may round their factors to TF32 (10 bits of mantissa), for
  // speed; of the whole process, from launch() on. In code only.
  bool tf32 = false;
  // The loss scale of 16-mixed, in code only. Where it is given, 16-mixed stays 16-mixed on the CPU
  // too (f16 is computed in f32 and rounded there), to try out what a GPU will do.
  std::optional<amp::GradScalerOptions> grad_scaler = {};
  // What f32 gradients travel as: none fp16 bf16 int8 (tensor/parallel/comm_hook.h). In code only;
  // the same on every rank.
  std::optional<std::string> grad_compression = {};
  // Units and how many of them live at a time under deepspeed and fsdp; the stage is the
  // strategy's. In code only; the same on every rank.
  std::optional<parallel::ZeroOptions> zero = {};
};

namespace launcher {

// FabricOptions with every choice made, checked, and aliases resolved.
struct FabricSettings {
  std::string accelerator = "cpu";
  std::string strategy = "ddp";
  std::string devices = "1";
  bool share_devices = false;
  int num_nodes = 1;
  std::string precision = "32-true";
  amp::Policy policy;                                 // what `precision` means
  bool tf32 = false;                                  // of products of f32, on cuda
  std::optional<amp::GradScalerOptions> grad_scaler;  // of a policy that scales the loss
  std::vector<std::string> warnings;                  // for rank 0 to say once
  parallel::Compression grad_compression = parallel::Compression::none;
  std::optional<parallel::ZeroOptions> zero;  // of a strategy that shares out state
};

// Reads the WEFT_* variables that `weft run` sets. InvalidArgument on nonsense and on conflicts;
// Unsupported for what this version does not have (sharded strategies on cuda, TPU) and for cuda
// where there is no device.
FabricSettings resolve(const FabricOptions& options);

}  // namespace launcher
}  // namespace weft
