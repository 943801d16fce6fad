// What --accelerator and --devices mean on this machine.
#pragma once

#include <string>
#include <vector>

#include "launcher/job/topology.h"

namespace weft::launcher {

struct Devices {
  std::string accelerator = "cpu";  // cpu or cuda
  int count = 1;                    // ranks on this node
  std::vector<int> indices;         // of the CUDA devices, one a rank; empty on CPU
  bool automatic = false;           // we chose the number

  std::string text() const;     // as WEFT_DEVICES says it: "2", or "0,2"
  std::string by_rank() const;  // as WEFT_CUDA_DEVICES: every rank's index, "0,1"; empty on CPU
};

inline constexpr int kRanksPerNodeMax = 4096;

// `cuda_devices`: how many there are. `share_devices`: several ranks may be on one CUDA device;
// an index may then be named twice, and a count beyond the devices is dealt out in turn. Throws
// LaunchError (exit code 2).
Devices resolve_devices(const std::string& accelerator, const std::string& devices,
                        const Machine& machine, int cuda_devices, bool share_devices = false);

}  // namespace weft::launcher
