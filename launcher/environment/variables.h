// The variables that `weft run` sets for its ranks besides those of comm/environment.h. Rank and
// world are under torchrun's names, so that existing scripts work.
#pragma once

namespace weft::launcher::env {

inline constexpr const char* kLocalWorldSize = "LOCAL_WORLD_SIZE";  // ranks on this node
inline constexpr const char* kNodeRank = "NODE_RANK";
inline constexpr const char* kGroupRank = "GROUP_RANK";  // the same, torchrun's name

// What the command line said; Fabric compares it with what the code says. Strategy, precision and
// accelerator are set only where they were given.
inline constexpr const char* kAccelerator = "WEFT_ACCELERATOR";
inline constexpr const char* kStrategy = "WEFT_STRATEGY";
inline constexpr const char* kPrecision = "WEFT_PRECISION";
inline constexpr const char* kDevices = "WEFT_DEVICES";           // "2", or "0,2"; auto is resolved
inline constexpr const char* kCudaDevices = "WEFT_CUDA_DEVICES";  // of every local rank: "0,2"
inline constexpr const char* kNumNodes = "WEFT_NUM_NODES";

// "1" where weft run's own output is a terminal: a line that a rank rewrites with \r is shown live.
inline constexpr const char* kTerminal = "WEFT_TERMINAL";

// Threads a rank may use; see kernels/base/thread_pool.h.
inline constexpr const char* kNumThreads = "WEFT_NUM_THREADS";
inline constexpr const char* kOmpNumThreads = "OMP_NUM_THREADS";

}  // namespace weft::launcher::env
