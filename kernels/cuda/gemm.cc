#include "kernels/cuda/gemm.h"

#include <atomic>
#include <exception>

#include "kernels/base/error.h"
#include "kernels/cuda/gemm_finish.h"
#include "kernels/cuda/gemm_library.h"
#include "kernels/cuda/gemm_plan.h"
#include "kernels/cuda/runtime.h"
#include "kernels/gemm_check.h"

namespace weft::kernels::cuda {
namespace {

std::atomic<bool> tf32{false};

// cuBLASLt takes a second matrix in the epilogue only like this.
bool fusible(const Gemm& g, const void* matrix) {
  return matrix == nullptr || (g.n % 8 == 0 && reinterpret_cast<std::uintptr_t>(matrix) % 16 == 0);
}

[[noreturn]] void refuse_product(const Product& p) {
  const Gemm& g = p.gemm;
  fail<Unsupported>(
      "CUDA gemm: cuBLASLt has no algorithm for {} m={} n={} k={} lda={} ldb={} ldc={} batch={}: "
      "align matrices and their rows to 16 bytes.",
      name_of(g.dtype), g.m, g.n, g.k, g.lda, g.ldb, g.ldc, p.batch);
}

// C, without what follows. k may be 0.
void plain_product(Product p, Stream stream) {
  if (p.gemm.k == 0) {
    GemmFinish scale;
    scale.dtype = p.gemm.dtype;
    scale.batch = p.batch, scale.rows = p.gemm.m, scale.columns = p.gemm.n;
    scale.c = p.gemm.c, scale.ldc = p.gemm.ldc, scale.stride_c = p.stride_c;
    scale.scale = p.gemm.beta;
    return finish_gemm(scale, stream);
  }
  p.fusion = Fusion::none;
  p.vector = p.matrix = nullptr;
  if (!run_product(p, stream)) refuse_product(p);
}

GemmFinish finish_of(const Gemm& g, Finish finish) {
  GemmFinish work;
  work.dtype = g.dtype;
  work.rows = g.m, work.columns = g.n;
  work.c = g.c, work.ldc = g.ldc;
  work.finish = finish;
  return work;
}

GemmSums sums_of(const Gemm& g, const GemmGradient& gradient) {
  GemmSums sums;
  sums.dtype = g.dtype;
  sums.to = gradient.dbias;
  bool outputs_first = false;  // stored with a row for each output
  std::int64_t lead = 0;
  switch (gradient.bias_gradient) {
    case BiasGradient::of_a:
      sums.outputs = g.m, sums.terms = g.k, sums.data = g.a;
      outputs_first = g.transpose_a == Transpose::no, lead = g.lda;
      break;
    case BiasGradient::of_b:
      sums.outputs = g.n, sums.terms = g.k, sums.data = g.b;
      outputs_first = g.transpose_b == Transpose::yes, lead = g.ldb;
      break;
    default:
      sums.outputs = g.n, sums.terms = g.m, sums.data = g.c;
      lead = g.ldc;
  }
  sums.output_stride = outputs_first ? lead : 1;
  sums.term_stride = outputs_first ? 1 : lead;
  return sums;
}

Fusion fusion_of(const GemmGradient& gradient) {
  const bool gelu = gradient.pre_activation != nullptr;
  switch (gradient.bias_gradient) {
    case BiasGradient::of_a:
      return Fusion::sums_of_a;
    case BiasGradient::of_b:
      return Fusion::sums_of_b;
    case BiasGradient::of_c:
      return gelu ? Fusion::gelu_backward_bias : Fusion::none;
    case BiasGradient::none:
      break;
  }
  return gelu ? Fusion::gelu_backward : Fusion::none;
}

void check(const GemmGradient& gradient) {
  const bool of_factor =
      gradient.bias_gradient == BiasGradient::of_a || gradient.bias_gradient == BiasGradient::of_b;
  if (of_factor && gradient.pre_activation != nullptr) {
    fail<InvalidArgument>(
        "CUDA gemm_backward: the bias gradient of a factor and GELU's backward: expected one of "
        "them in a call.");
  }
  if (gradient.bias_gradient != BiasGradient::none && gradient.dbias == nullptr) {
    fail<InvalidArgument>("CUDA gemm_backward: a bias gradient is asked for, and dbias is null.");
  }
}

}  // namespace

void gemm(const Gemm& g, Epilogue epilogue, const void* bias, void* pre_activation, Stream stream) {
  check_gemm(g, epilogue != Epilogue::none && bias == nullptr);
  if (g.m == 0 || g.n == 0) return;
  Product p;
  p.gemm = g;
  if (epilogue == Epilogue::none) return plain_product(p, stream);
  const bool gelu = epilogue == Epilogue::bias_gelu;
  void* const kept = gelu ? pre_activation : nullptr;
  p.vector = bias, p.matrix = kept;
  p.fusion = !gelu ? Fusion::bias : kept == nullptr ? Fusion::bias_gelu : Fusion::bias_gelu_kept;
  if (g.k > 0 && fusible(g, kept) && run_product(p, stream)) return;
  plain_product(p, stream);
  GemmFinish work = finish_of(g, gelu ? Finish::bias_gelu : Finish::bias);
  work.bias = bias, work.kept = kept;
  finish_gemm(work, stream);
}

void gemm_batched(const Gemm& g, std::int64_t batch, std::int64_t stride_a, std::int64_t stride_b,
                  std::int64_t stride_c, Stream stream) {
  if (batch < 0) fail<InvalidArgument>("gemm_batched: batch {}: expected 0 or more.", batch);
  if (batch == 0) return;
  check_gemm(g);
  if (g.m == 0 || g.n == 0) return;
  Product p;
  p.gemm = g;
  p.batch = batch, p.stride_a = stride_a, p.stride_b = stride_b, p.stride_c = stride_c;
  plain_product(p, stream);
}

void gemm_backward(const Gemm& g, const GemmGradient& gradient, Stream stream) {
  check_gemm(g);
  check(gradient);
  const bool sums_wanted = gradient.bias_gradient != BiasGradient::none;
  if (g.m > 0 && g.n > 0) {
    Product p;
    p.gemm = g;
    p.fusion = fusion_of(gradient);
    p.vector = gradient.dbias, p.matrix = gradient.pre_activation;
    if (p.fusion != Fusion::none && g.k > 0 && fusible(g, p.matrix) && run_product(p, stream)) {
      return;
    }
    plain_product(p, stream);
    if (gradient.pre_activation != nullptr) {
      GemmFinish work = finish_of(g, Finish::gelu_backward);
      work.saved = gradient.pre_activation;
      finish_gemm(work, stream);
    }
  }
  if (sums_wanted) sum_for_gemm(sums_of(g, gradient), stream);
}

void allow_tf32(bool allowed) { tf32.store(allowed, std::memory_order_relaxed); }
bool tf32_allowed() { return tf32.load(std::memory_order_relaxed); }

std::string reason_for_no_gemm() {
  try {
    gemm_library();
  } catch (const std::exception& error) {
    return error.what();
  }
  return reason_for_none();
}

}  // namespace weft::kernels::cuda
