// cuBLASLt's functions, found when the library is first needed (gemm_library.cc), or the emulator's
// (tests/emulator).
#pragma once

#include <cublasLt.h>

#include <string>

namespace weft::kernels::cuda {

struct GemmLibrary {
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtGetStatusString) status_string = nullptr;
};

// Unsupported where it cannot be had; asks again at the next call.
const GemmLibrary& gemm_library();

// A handle of the current device, for as long as the process lives.
cublasLtHandle_t create_gemm_handle();

}  // namespace weft::kernels::cuda
