// A row-major C = op(A) op(B) is to cuBLASLt, which counts columns first, C' = op(B)' op(A)': its
// first factor is our B, its rows are our columns. A matrix stored by rows is its own transpose
// stored by columns, so the transposes stay as they are.
#include "kernels/cuda/gemm_plan.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "kernels/base/error.h"
#include "kernels/cuda/gemm_library.h"
#include "kernels/cuda/reach.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/status.h"

namespace weft::kernels::cuda {
namespace {

// What NVIDIA advises for Hopper; algorithms say how much of it they use.
constexpr std::uint64_t kWorkspaceMax = std::uint64_t{32} << 20;
constexpr std::size_t kPlansMax = 4096;

void check_blas(cublasStatus_t status, const char* operation) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const char* const text = gemm_library().status_string(status);
  if (status == CUBLAS_STATUS_NOT_INITIALIZED || status == CUBLAS_STATUS_ALLOC_FAILED) {
    fail<IoError>("CUDA gemm: {}: {}: is the device out of memory?", operation, text);
  }
  fail<IoError>("CUDA gemm: {}: {}.", operation, text);
}

cudaDataType type_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return CUDA_R_64F;
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

cublasLtEpilogue_t epilogue_of(Fusion fusion) {
  switch (fusion) {
    case Fusion::bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Fusion::bias_gelu:
      return CUBLASLT_EPILOGUE_GELU_BIAS;
    case Fusion::bias_gelu_kept:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case Fusion::gelu_backward:
      return CUBLASLT_EPILOGUE_DGELU;
    case Fusion::gelu_backward_bias:
      return CUBLASLT_EPILOGUE_DGELU_BGRAD;
    case Fusion::sums_of_a:  // cuBLASLt's second factor
      return CUBLASLT_EPILOGUE_BGRADB;
    case Fusion::sums_of_b:
      return CUBLASLT_EPILOGUE_BGRADA;
    case Fusion::none:
      break;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

// An owner of one of cuBLASLt's descriptions.
template <class T>
class Owned {
 public:
  using Destroy = cublasStatus_t (*)(T);
  explicit Owned(Destroy destroy) : destroy_(destroy) {}
  ~Owned() {
    if (value_ != nullptr) destroy_(value_);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  T* out() { return &value_; }
  T get() const { return value_; }

 private:
  T value_ = nullptr;
  Destroy destroy_;
};

class Layout : public Owned<cublasLtMatrixLayout_t> {
 public:
  // rows x columns as stored, by rows, `lead` apart.
  Layout(const Product& p, std::int64_t rows, std::int64_t columns, std::int64_t lead,
         std::int64_t stride)
      : Owned(gemm_library().layout_destroy) {
    const auto& library = gemm_library();
    check_blas(
        library.layout_create(out(), type_of(p.gemm.dtype), static_cast<std::uint64_t>(columns),
                              static_cast<std::uint64_t>(rows), lead),
        "cublasLtMatrixLayoutCreate");
    if (p.batch == 1) return;
    const auto batch = static_cast<std::int32_t>(p.batch);
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, batch);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }

 private:
  template <class Value>
  void set(cublasLtMatrixLayoutAttribute_t attribute, Value value) {
    check_blas(gemm_library().layout_set(get(), attribute, &value, sizeof value),
               "cublasLtMatrixLayoutSetAttribute");
  }
};

class Description : public Owned<cublasLtMatmulDesc_t> {
 public:
  explicit Description(const Product& p) : Owned(gemm_library().desc_destroy) {
    const Gemm& g = p.gemm;
    const bool f64 = g.dtype == DType::f64;
    const auto compute = f64                                       ? CUBLAS_COMPUTE_64F
                         : g.dtype == DType::f32 && tf32_allowed() ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                   : CUBLAS_COMPUTE_32F;
    check_blas(gemm_library().desc_create(out(), compute, f64 ? CUDA_R_64F : CUDA_R_32F),
               "cublasLtMatmulDescCreate");
    const auto operation = [](Transpose t) -> std::int32_t {
      return t == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N;
    };
    set(CUBLASLT_MATMUL_DESC_TRANSA, operation(g.transpose_b));
    set(CUBLASLT_MATMUL_DESC_TRANSB, operation(g.transpose_a));
    if (p.fusion == Fusion::none) return;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(epilogue_of(p.fusion)));
    if (p.vector != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.vector);
    if (p.matrix != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.matrix);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, g.n);
    }
  }

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, Value value) {
    check_blas(gemm_library().desc_set(get(), attribute, &value, sizeof value),
               "cublasLtMatmulDescSetAttribute");
  }
};

struct Operation {
  Description description;
  Layout a, b, c;  // ours; cuBLASLt takes b first

  explicit Operation(const Product& p)
      : description(p),
        a(p, stored(p.gemm.transpose_a, p.gemm.m, p.gemm.k),
          stored(p.gemm.transpose_a, p.gemm.k, p.gemm.m), p.gemm.lda, p.stride_a),
        b(p, stored(p.gemm.transpose_b, p.gemm.k, p.gemm.n),
          stored(p.gemm.transpose_b, p.gemm.n, p.gemm.k), p.gemm.ldb, p.stride_b),
        c(p, p.gemm.m, p.gemm.n, p.gemm.ldc, p.stride_c) {}

 private:
  static std::int64_t stored(Transpose transpose, std::int64_t as_is, std::int64_t transposed) {
    return transpose == Transpose::yes ? transposed : as_is;
  }
};

// The largest power of two up to 256 that divides the address, and the bytes from one matrix of a
// batch to the next.
std::uint32_t alignment_of(const void* data, std::int64_t stride_bytes = 0) {
  const auto address =
      reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride_bytes) | 256u;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

struct Alignments {
  std::uint32_t a, b, c;
  explicit Alignments(const Product& p)
      : a(alignment_of(p.gemm.a, p.stride_a * size_of(p.gemm.dtype).value)),
        b(alignment_of(p.gemm.b, p.stride_b * size_of(p.gemm.dtype).value)),
        c(alignment_of(p.gemm.c, p.stride_c * size_of(p.gemm.dtype).value)) {}
};

// Everything that the choice of an algorithm may depend on.
using Key = std::array<std::int64_t, 20>;

Key key_of(const Product& p, int device) {
  const Gemm& g = p.gemm;
  const Alignments alignment(p);
  return {device,
          static_cast<std::int64_t>(g.dtype),
          static_cast<std::int64_t>(g.transpose_a) * 2 + static_cast<std::int64_t>(g.transpose_b),
          static_cast<std::int64_t>(g.dtype == DType::f32 && tf32_allowed()),
          static_cast<std::int64_t>(p.fusion),
          g.m,
          g.n,
          g.k,
          g.lda,
          g.ldb,
          g.ldc,
          p.batch,
          p.stride_a,
          p.stride_b,
          p.stride_c,
          alignment.a,
          alignment.b,
          alignment.c,
          alignment_of(p.vector),
          alignment_of(p.matrix)};
}

struct Plan {
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
};

class Preference : public Owned<cublasLtMatmulPreference_t> {
 public:
  explicit Preference(const Alignments& alignment) : Owned(gemm_library().preference_destroy) {
    check_blas(gemm_library().preference_create(out()), "cublasLtMatmulPreferenceCreate");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceMax);
    // Parts of the inner dimension are added up in a pass of their own, in a fixed order and in
    // full precision; not in place, by whoever comes first.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment.b);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment.a);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment.c);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment.c);
  }

 private:
  template <class Value>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, Value value) {
    check_blas(gemm_library().preference_set(get(), attribute, &value, sizeof value),
               "cublasLtMatmulPreferenceSetAttribute");
  }
};

// Handles and algorithms of all devices; lives as long as the process, because work that a graph
// replays may outlive every caller.
class Plans {
 public:
  cublasLtHandle_t handle(int device) {
    const std::scoped_lock lock(handles_mutex_);
    cublasLtHandle_t& handle = handles_[device];
    if (handle == nullptr) handle = create_gemm_handle();
    return handle;
  }

  // Empty: there is no algorithm.
  std::optional<Plan> find(const Product& p, const Operation& operation, int device) {
    const Key key = key_of(p, device);
    {
      const std::shared_lock lock(mutex_);
      if (const auto found = plans_.find(key); found != plans_.end()) return found->second;
    }
    const std::optional<Plan> plan = search(p, operation, device);
    const std::unique_lock lock(mutex_);
    if (plans_.size() >= kPlansMax) plans_.clear();  // shapes without end; searching finds the same
    plans_.emplace(key, plan);
    return plan;
  }

 private:
  std::optional<Plan> search(const Product& p, const Operation& operation, int device) {
    const Preference preference{Alignments(p)};
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = gemm_library().get_heuristic(
        handle(device), operation.description.get(), operation.b.get(), operation.a.get(),
        operation.c.get(), operation.c.get(), preference.get(), 1, &best, &found);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
    check_blas(status, "cublasLtMatmulAlgoGetHeuristic");
    if (found == 0 || best.state != CUBLAS_STATUS_SUCCESS) return {};
    return Plan{best.algo, best.workspaceSize};
  }

  std::mutex handles_mutex_;
  std::map<int, cublasLtHandle_t> handles_;
  std::shared_mutex mutex_;
  std::map<Key, std::optional<Plan>> plans_;
};

Plans& plans() {
  static Plans* const all = new Plans;
  return *all;
}

}  // namespace

bool run_product(const Product& p, Stream stream) {
  check_reachable(p.gemm.a, "gemm", "A");
  check_reachable(p.gemm.b, "gemm", "B");
  check_reachable(p.gemm.c, "gemm", "C");
  check_reachable(p.vector, "gemm", "the bias or its gradient");
  check_reachable(p.matrix, "gemm", "the pre-activation");
  int device = 0;
  check(cudaGetDevice(&device), "CUDA gemm: cudaGetDevice");
  const Operation operation(p);
  const std::optional<Plan> plan = plans().find(p, operation, device);
  if (!plan) return false;
  const Gemm& g = p.gemm;
  const float alpha = static_cast<float>(g.alpha), beta = static_cast<float>(g.beta);
  const bool f64 = g.dtype == DType::f64;
  const Scratch workspace(Bytes(static_cast<std::int64_t>(plan->workspace)), stream);
  const cublasStatus_t status = gemm_library().matmul(
      plans().handle(device), operation.description.get(),
      f64 ? static_cast<const void*>(&g.alpha) : &alpha, g.b, operation.b.get(), g.a,
      operation.a.get(), f64 ? static_cast<const void*>(&g.beta) : &beta, g.c, operation.c.get(),
      g.c, operation.c.get(), &plan->algorithm, workspace.data(), plan->workspace,
      static_cast<cudaStream_t>(stream));
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return false;
  check_blas(status, "cublasLtMatmul");
  return true;
}

}  // namespace weft::kernels::cuda
