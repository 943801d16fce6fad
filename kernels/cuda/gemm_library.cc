#include "kernels/cuda/gemm_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "kernels/base/error.h"
#include "kernels/cuda/relaxed_capture.h"

namespace weft::kernels::cuda {
namespace {

// Binaries of this header's major version alone: enumerations and structures are its.
constexpr std::size_t kMajor = CUBLAS_VER_MAJOR;

std::vector<std::string> candidates() {
  if (const char* const named = std::getenv("WEFT_CUBLASLT")) return {named};
  const std::string name = fmt::format("libcublasLt.so.{}", kMajor);
  return {name, fmt::format("{}/{}", WEFT_CUDA_LIBRARY_FOLDER, name)};
}

void* open() {
  std::string refusals;
  for (const std::string& name : candidates()) {
    if (void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    refusals += fmt::format(" {};", dlerror());
  }
  fail<Unsupported>(
      "CUDA gemm: cuBLASLt {0} cannot be opened:{1} install CUDA {0}'s cuBLAS, put its folder in "
      "LD_LIBRARY_PATH, or name the file in WEFT_CUBLASLT.",
      kMajor, refusals);
}

template <class Function>
void find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    fail<Unsupported>(
        "CUDA gemm: the cuBLASLt that was opened has no {}: expected version {}; see "
        "LD_LIBRARY_PATH and WEFT_CUBLASLT.",
        name, kMajor);
  }
}

decltype(&cublasLtCreate) create = nullptr;

GemmLibrary load() {
  void* const library = open();  // for as long as the process lives
  decltype(&cublasLtGetVersion) version = nullptr;
  find(library, "cublasLtGetVersion", version);
  if (version() / 10000 != kMajor) {
    fail<Unsupported>(
        "CUDA gemm: cuBLASLt of version {}: expected {}.x; see LD_LIBRARY_PATH and WEFT_CUBLASLT.",
        version(), kMajor);
  }
  GemmLibrary found;
  find(library, "cublasLtCreate", create);
  find(library, "cublasLtMatmul", found.matmul);
  find(library, "cublasLtMatmulAlgoGetHeuristic", found.get_heuristic);
  find(library, "cublasLtMatmulDescCreate", found.desc_create);
  find(library, "cublasLtMatmulDescDestroy", found.desc_destroy);
  find(library, "cublasLtMatmulDescSetAttribute", found.desc_set);
  find(library, "cublasLtMatrixLayoutCreate", found.layout_create);
  find(library, "cublasLtMatrixLayoutDestroy", found.layout_destroy);
  find(library, "cublasLtMatrixLayoutSetAttribute", found.layout_set);
  find(library, "cublasLtMatmulPreferenceCreate", found.preference_create);
  find(library, "cublasLtMatmulPreferenceDestroy", found.preference_destroy);
  find(library, "cublasLtMatmulPreferenceSetAttribute", found.preference_set);
  find(library, "cublasLtGetStatusString", found.status_string);
  return found;
}

}  // namespace

const GemmLibrary& gemm_library() {
  static const GemmLibrary library = load();
  return library;
}

cublasLtHandle_t create_gemm_handle() {
  const GemmLibrary& library = gemm_library();
  const RelaxedCapture relaxed;  // creating a handle allocates
  cublasLtHandle_t handle = nullptr;
  const cublasStatus_t status = create(&handle);
  if (status != CUBLAS_STATUS_SUCCESS) {
    fail<IoError>("CUDA gemm: cublasLtCreate: {}: is the device out of memory?",
                  library.status_string(status));
  }
  return handle;
}

}  // namespace weft::kernels::cuda
