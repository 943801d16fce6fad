// cuBLASLt by plain loops over columns-first matrices, with its conditions: the real library
// refuses what these refuse, so that the way around them is tested too. Ordered by the stream
// through a host function.
#include <cublasLt.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

#include "kernels/base/half.h"
#include "kernels/cuda/gemm_library.h"

struct EmulatedBlasHandle {};
struct EmulatedMatmulDesc {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  std::int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  std::uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void *bias = nullptr, *aux = nullptr;
  std::int64_t aux_lead = 0;
};
struct EmulatedMatrixLayout {
  cudaDataType type = CUDA_R_32F;
  std::int64_t rows = 0, columns = 0, lead = 0;
  std::int32_t batch = 1;
  std::int64_t stride = 0;
};
struct EmulatedMatmulPreference {
  std::uint32_t alignment = 256;
};

namespace {

using Desc = EmulatedMatmulDesc;
using Layout = EmulatedMatrixLayout;

// A product that was queued; kept, because a captured graph may run it again.
struct Call {
  Desc operation;
  Layout a_layout, b_layout, d_layout;
  double alpha = 1.0, beta = 0.0;
  const void *a = nullptr, *b = nullptr;
  void* d = nullptr;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

template <class R>
R gelu(R x) {
  return R(0.5) * x * (R(1) + std::tanh(R(0.7978845608028654) * (x + R(0.044715) * x * x * x)));
}
template <class R>
R gelu_slope(R x) {
  const R t = std::tanh(R(0.7978845608028654) * (x + R(0.044715) * x * x * x));
  return R(0.5) * (R(1) + t) +
         R(0.5) * x * (R(1) - t * t) * R(0.7978845608028654) * (R(1) + R(0.134145) * x * x);
}

// op(X), dense, columns first.
template <class T, class R>
std::vector<R> dense(const T* data, const Layout& layout, bool transpose) {
  const std::int64_t rows = transpose ? layout.columns : layout.rows;
  const std::int64_t columns = transpose ? layout.rows : layout.columns;
  std::vector<R> out(static_cast<std::size_t>(rows * columns));
  for (std::int64_t j = 0; j < columns; ++j) {
    for (std::int64_t i = 0; i < rows; ++i) {
      out[static_cast<std::size_t>(j * rows + i)] =
          R(data[transpose ? i * layout.lead + j : j * layout.lead + i]);
    }
  }
  return out;
}

// One matrix of a batch.
template <class T, class R>
class Multiplication {
 public:
  Multiplication(const Call& call, std::int64_t image)
      : call_(call),
        op_(call.operation),
        m_(call.d_layout.rows),
        n_(call.d_layout.columns),
        a_(dense<T, R>(static_cast<const T*>(call.a) + image * call.a_layout.stride, call.a_layout,
                       op_.transpose_a == CUBLAS_OP_T)),
        b_(dense<T, R>(static_cast<const T*>(call.b) + image * call.b_layout.stride, call.b_layout,
                       op_.transpose_b == CUBLAS_OP_T)),
        k_(static_cast<std::int64_t>(a_.size()) / m_),
        d_(static_cast<T*>(call.d) + image * call.d_layout.stride) {}

  void run() {
    std::vector<R> row_sums(static_cast<std::size_t>(m_), R(0));
    std::vector<R> sums(static_cast<std::size_t>(m_));
    for (std::int64_t j = 0; j < n_; ++j) {
      std::fill(sums.begin(), sums.end(), R(0));
      for (std::int64_t l = 0; l < k_; ++l) {
        const R factor = b_[static_cast<std::size_t>(j * k_ + l)];
        const R* const column = a_.data() + l * m_;
        for (std::int64_t i = 0; i < m_; ++i)
          sums[static_cast<std::size_t>(i)] += column[i] * factor;
      }
      for (std::int64_t i = 0; i < m_; ++i) {
        T& to = d_[j * call_.d_layout.lead + i];
        R value = static_cast<R>(call_.alpha) * sums[static_cast<std::size_t>(i)];
        if (call_.beta != 0.0) value += static_cast<R>(call_.beta) * R(to);
        value = epilogue(value, i, j);
        row_sums[static_cast<std::size_t>(i)] += value;
        to = T(value);
      }
    }
    leave_sums(row_sums);
  }

 private:
  R epilogue(R value, std::int64_t i, std::int64_t j) {
    T* const aux = static_cast<T*>(op_.aux) + j * op_.aux_lead + i;
    switch (op_.epilogue) {
      case CUBLASLT_EPILOGUE_BIAS:
        return value + R(static_cast<T*>(op_.bias)[i]);
      case CUBLASLT_EPILOGUE_GELU_BIAS:
        return gelu(value + R(static_cast<T*>(op_.bias)[i]));
      case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
        value += R(static_cast<T*>(op_.bias)[i]);
        *aux = T(value);
        return gelu(value);
      case CUBLASLT_EPILOGUE_DGELU:
      case CUBLASLT_EPILOGUE_DGELU_BGRAD:
        return value * gelu_slope(R(*aux));
      default:
        return value;
    }
  }

  void leave_sums(const std::vector<R>& row_sums) {
    T* const to = static_cast<T*>(op_.bias);
    if (op_.epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD) {
      for (std::int64_t i = 0; i < m_; ++i) to[i] = T(row_sums[static_cast<std::size_t>(i)]);
    } else if (op_.epilogue == CUBLASLT_EPILOGUE_BGRADA) {
      std::vector<R> sums(static_cast<std::size_t>(m_), R(0));
      for (std::int64_t i = 0; i < m_ * k_; ++i) {
        sums[static_cast<std::size_t>(i % m_)] += a_[static_cast<std::size_t>(i)];
      }
      for (std::int64_t i = 0; i < m_; ++i) to[i] = T(sums[static_cast<std::size_t>(i)]);
    } else if (op_.epilogue == CUBLASLT_EPILOGUE_BGRADB) {
      for (std::int64_t j = 0; j < n_; ++j) {
        R sum = R(0);
        for (std::int64_t l = 0; l < k_; ++l) sum += b_[static_cast<std::size_t>(j * k_ + l)];
        to[j] = T(sum);
      }
    }
  }

  const Call& call_;
  const Desc& op_;
  std::int64_t m_, n_;
  std::vector<R> a_, b_;
  std::int64_t k_;
  T* d_;
};

template <class T, class R>
void run_all(const Call& call) {
  // The workspace is the call's while it runs: what others leave there is overwritten.
  std::memset(call.workspace, 0x5a, call.workspace_bytes);
  for (std::int64_t i = 0; i < call.d_layout.batch; ++i) Multiplication<T, R>(call, i).run();
}

void run_call(void* data) {
  const Call& call = *static_cast<const Call*>(data);
  switch (call.d_layout.type) {
    case CUDA_R_64F:
      return run_all<double, double>(call);
    case CUDA_R_16F:
      return run_all<weft::Half, float>(call);
    case CUDA_R_16BF:
      return run_all<weft::BFloat16, float>(call);
    default:
      return run_all<float, float>(call);
  }
}

Call* keep(const Call& call) {
  static std::mutex mutex;
  static std::deque<Call> calls;
  const std::scoped_lock lock(mutex);
  return &calls.emplace_back(call);
}

bool uses_aux(std::uint32_t epilogue) {
  return epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS || epilogue == CUBLASLT_EPILOGUE_DGELU ||
         epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD;
}

// Its shapes belong together.
bool fits(const Desc& op, const Layout& a, const Layout& b, const Layout& d) {
  const bool ta = op.transpose_a == CUBLAS_OP_T, tb = op.transpose_b == CUBLAS_OP_T;
  return (ta ? a.columns : a.rows) == d.rows && (tb ? b.rows : b.columns) == d.columns &&
         (ta ? a.rows : a.columns) == (tb ? b.columns : b.rows) && a.lead >= a.rows &&
         b.lead >= b.rows && d.lead >= d.rows && a.batch == d.batch && b.batch == d.batch &&
         a.type == d.type && b.type == d.type;
}

template <class T>
void read_value(T& to, const void* value) {
  std::memcpy(&to, value, sizeof to);
}

}  // namespace

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t type,
                                        cudaDataType) {
  *operation = new Desc;
  (*operation)->compute = type;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      read_value(operation->transpose_a, value);
      break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
      read_value(operation->transpose_b, value);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      read_value(operation->epilogue, value);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      read_value(operation->bias, value);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      read_value(operation->aux, value);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      read_value(operation->aux_lead, value);
      break;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          std::uint64_t rows, std::uint64_t columns,
                                          std::int64_t lead) {
  *layout =
      new Layout{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(columns), lead};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, std::size_t) {
  if (attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT) {
    read_value(layout->batch, value);
  } else {
    read_value(layout->stride, value);
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new EmulatedMatmulPreference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t) {
  if (attribute < CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES) return CUBLAS_STATUS_SUCCESS;
  std::uint32_t bytes = 0;
  read_value(bytes, value);
  preference->alignment = std::min(preference->alignment, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// The conditions of the documented epilogues; a workspace is asked for, to see that it is used.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t op,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* found) {
  *found = 0;
  if (!fits(*op, *a, *b, *d)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool plain = op->epilogue == CUBLASLT_EPILOGUE_DEFAULT;
  if (!plain && (d->type == CUDA_R_64F || d->batch > 1)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!plain && (preference->alignment < 16 || d->rows % 8 != 0)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (uses_aux(op->epilogue) && op->aux_lead % 8 != 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  results[0].workspaceSize = 1024;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void*,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t*, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  if (!fits(*operation, *a_layout, *b_layout, *d_layout)) return CUBLAS_STATUS_INVALID_VALUE;
  Call call{*operation, *a_layout, *b_layout, *d_layout,      1.0, 0.0, a,
            b,          d,         workspace, workspace_bytes};
  const bool f64 = operation->compute == CUBLAS_COMPUTE_64F;
  call.alpha = f64 ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
  call.beta = f64 ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
  const cudaError_t status = cudaLaunchHostFunc(stream, run_call, keep(call));
  return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "an error of the emulated cuBLASLt";
}

namespace weft::kernels::cuda {

const GemmLibrary& gemm_library() {
  static const GemmLibrary library{cublasLtMatmul,
                                   cublasLtMatmulAlgoGetHeuristic,
                                   cublasLtMatmulDescCreate,
                                   cublasLtMatmulDescDestroy,
                                   cublasLtMatmulDescSetAttribute,
                                   cublasLtMatrixLayoutCreate,
                                   cublasLtMatrixLayoutDestroy,
                                   cublasLtMatrixLayoutSetAttribute,
                                   cublasLtMatmulPreferenceCreate,
                                   cublasLtMatmulPreferenceDestroy,
                                   cublasLtMatmulPreferenceSetAttribute,
                                   cublasLtGetStatusString};
  return library;
}

cublasLtHandle_t create_gemm_handle() {
  static EmulatedBlasHandle handle;
  return &handle;
}

}  // namespace weft::kernels::cuda
