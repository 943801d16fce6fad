// Softmax cross entropy: a block a row.
//
//   targets are counted ->  rows: online sum of exponentials, loss, (gradient)  -> losses are
//   summed
#include "kernels/cuda/cross_entropy.h"

#include "kernels/cuda/checks.h"
#include "kernels/cuda/faults.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/scratch.h"
#include "kernels/functors/softmax.h"

namespace weft::kernels::cuda {
namespace {

constexpr int kTotalThreads = 1024;

// CrossEntropyScale, for a kernel.
struct DeviceScale {
  double factor;
  DType gradient_type;
  const void* gradient;
  const CrossEntropyLoss* mean_over;

  __device__ double value() const {
    double scale = factor;
    if (gradient != nullptr) {
      switch (gradient_type) {
        case DType::f64:
          scale *= *static_cast<const double*>(gradient);
          break;
        case DType::f16:
          scale *= widen(*static_cast<const Half*>(gradient));
          break;
        case DType::bf16:
          scale *= widen(*static_cast<const BFloat16*>(gradient));
          break;
        default:
          scale *= *static_cast<const float*>(gradient);
      }
    }
    if (mean_over != nullptr) {
      const std::int64_t counted = mean_over->counted;
      scale = counted == 0 ? 0.0 : scale / static_cast<double>(counted);
    }
    return scale;
  }
};

template <class T, class I>
struct Rows {
  using R = ComputeOf<T>;
  std::int64_t rows, classes;
  const T* logits;
  const I* targets;
  std::int64_t ignored;
  R* log_sum_exp;  // forward writes it (or not, where nullptr); backward alone reads it
  double* losses;  // of each row; nullptr: backward alone
  T* dlogits;      // nullptr: forward alone
  DeviceScale scale;

  template <class Visit>
  void pointers(const Visit& visit) const {
    visit(logits), visit(targets), visit(log_sum_exp), visit(losses), visit(dlogits);
    visit(scale.gradient), visit(scale.mean_over);
  }
};

template <class Row, class T>
__device__ __forceinline__ void write_zeros(Row& row, T* to) {
  using R = ComputeOf<T>;
  row.each(R(0), [&](auto chunk, const R(&)[Row::kN]) {
    const R zeros[Row::kN] = {};
    row.put(chunk, to, zeros);
  });
}

// (softmax - onehot) * scale of this thread's columns.
template <class T, class Row>
__device__ __forceinline__ void write_gradient(Row& row, T* to, std::int64_t target,
                                               ComputeOf<T> log_sum, ComputeOf<T> scale) {
  using R = ComputeOf<T>;
  using Math = functors::MathFor<T>;
  row.each(R(0), [&](auto chunk, const R(&x)[Row::kN]) {
    R gradient[Row::kN];
#pragma unroll
    for (int i = 0; i < Row::kN; ++i) {
      gradient[i] = Math::exp(x[i] - log_sum) * scale;
      if (chunk.column + i == target) gradient[i] -= scale;
    }
    row.put(chunk, to, gradient);
  });
}

template <class T, class I>
__global__ void __launch_bounds__(1024) rows_kernel(Rows<T, I> p, bool held) {
  using R = ComputeOf<T>;
  using Row = LongRow<T>;
  using Sum = functors::ExpSum<R, functors::MathFor<T>>;
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  const R infinity = std::numeric_limits<R>::infinity();
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    const T* const logits = p.logits + r * p.classes;
    Row row(logits, p.classes, held ? dynamic_shared<FullPack<T>>() : nullptr);
    const std::int64_t target = p.targets[r];
    const bool good = target >= 0 && target < p.classes;
    if (!good || target == p.ignored) {
      if (p.dlogits != nullptr) write_zeros(row, p.dlogits + r * p.classes);
      if (team.rank() == 0 && p.losses != nullptr) {
        const bool ignored = target == p.ignored;
        p.losses[r] = ignored ? 0.0 : std::numeric_limits<double>::quiet_NaN();
        if (ignored && p.log_sum_exp != nullptr) p.log_sum_exp[r] = R(0);
      }
      continue;
    }
    R log_sum;
    if (p.losses != nullptr) {
      const R of_target = widen(logits[target]);  // before dlogits, which may be the logits
      Sum sum;
      row.each(-infinity, [&](auto, const R(&x)[Row::kN]) { sum.add(x); });
      sum.raise(team.max(sum.top));
      sum.sum = team.sum(sum.sum);
      log_sum = sum.log_sum();
      if (team.rank() == 0) {
        if (p.log_sum_exp != nullptr) p.log_sum_exp[r] = log_sum;
        p.losses[r] = static_cast<double>(log_sum - of_target);
      }
    } else {
      log_sum = p.log_sum_exp[r];
    }
    if (p.dlogits == nullptr) continue;
    write_gradient<T>(row, p.dlogits + r * p.classes, target, log_sum,
                      static_cast<R>(p.scale.value()));
  }
}

// One block: how many rows count, and, where losses are given, what they add up to. Thread t adds
// rows t, t + 1024, ...; then warps, then the block.
template <class I>
__global__ void __launch_bounds__(kTotalThreads)
    total_kernel(const I* targets, std::int64_t rows, FaultSink sink, bool report,
                 const double* losses, CrossEntropyLoss* loss) {
  __shared__ double slots[kWarpsMax];
  const BlockTeam team{slots};
  double sum = 0.0;
  std::int64_t counted = 0;
#pragma unroll 4
  for (std::int64_t r = threadIdx.x; r < rows; r += kTotalThreads) {
    const std::int64_t target = targets[r];
    if (target == sink.ignored) continue;
    ++counted;
    if (losses != nullptr) sum += losses[r];
    if (report) index_is_good(sink, r, target);
  }
  sum = team.sum(sum);
  counted = team.sum(counted);
  if (threadIdx.x == 0) *loss = CrossEntropyLoss{sum, counted};
}

template <class T>
__global__ void mean_kernel(const CrossEntropyLoss* loss, T* out) {
  const double share = loss->counted == 0 ? 0.0 : 1.0 / static_cast<double>(loss->counted);
  *out = narrow<T>(static_cast<ComputeOf<T>>(loss->sum * share));
}

template <class T, class I>
void run(const CrossEntropy& problem, const CrossEntropyScale& scale, double* losses, void* dlogits,
         Stream stream) {
  const Rows<T, I> p{problem.rows,
                     problem.classes,
                     static_cast<const T*>(problem.logits),
                     static_cast<const I*>(problem.targets),
                     problem.ignore_index,
                     static_cast<ComputeOf<T>*>(problem.log_sum_exp),
                     losses,
                     static_cast<T*>(dlogits),
                     {scale.factor, scale.gradient_type, scale.gradient, scale.mean_over}};
  if (p.rows == 0) return;
  const LongRows shape = long_rows<T>(p.classes, losses != nullptr && dlogits != nullptr);
  launch(rows_kernel<T, I>,
         Shape{grid_for(p.rows, 1, kRowBlocksMax), shape.threads, shape.shared_bytes}, stream, p,
         shape.shared_bytes > 0);
}

template <class Run>
void with_types(const CrossEntropy& problem, const Run& run) {
  dispatch_floating(problem.dtype, "cross_entropy", [&]<class T>() {
    dispatch_index(problem.target_type, "cross_entropy",
                   [&]<class I>() { run.template operator()<T, I>(); });
  });
}

void require_floating_gradient(const CrossEntropyScale& scale) {
  if (scale.gradient == nullptr || is_floating(scale.gradient_type)) return;
  refuse("cross_entropy: a gradient of " + std::string(name_of(scale.gradient_type)) +
         "; cast it to a floating type");
}

// Forward, with the gradient where dlogits is given.
void forward(const CrossEntropy& problem, CrossEntropyLoss* loss, const CrossEntropyScale& scale,
             void* dlogits, Stream stream) {
  require_floating_gradient(scale);
  with_types(problem, [&]<class T, class I>() {
    const auto* const targets = static_cast<const I*>(problem.targets);
    const Scratch losses(Bytes(problem.rows * static_cast<std::int64_t>(sizeof(double))), stream);
    const FaultSink sink =
        fault_sink(FaultKind::cross_entropy, problem.classes, problem.ignore_index);
    const auto total = [&](bool report, const double* of_rows) {
      launch(total_kernel<I>, Shape{1, kTotalThreads}, stream, targets, problem.rows, sink, report,
             of_rows, loss);
    };
    if (scale.mean_over == loss && dlogits != nullptr) total(false, nullptr);
    run<T, I>(problem, scale, static_cast<double*>(losses.data()), dlogits, stream);
    total(true, static_cast<const double*>(losses.data()));
  });
}

}  // namespace

void cross_entropy(const CrossEntropy& problem, CrossEntropyLoss* loss, Stream stream) {
  forward(problem, loss, {}, nullptr, stream);
}

void cross_entropy_fused(const CrossEntropy& problem, CrossEntropyLoss* loss,
                         const CrossEntropyScale& scale, void* dlogits, Stream stream) {
  forward(problem, loss, scale, dlogits, stream);
}

void cross_entropy_backward(const CrossEntropy& problem, const CrossEntropyScale& scale,
                            void* dlogits, Stream stream) {
  require_floating_gradient(scale);
  with_types(problem,
             [&]<class T, class I>() { run<T, I>(problem, scale, nullptr, dlogits, stream); });
}

void cross_entropy_backward(const CrossEntropy& problem, double scale, void* dlogits,
                            Stream stream) {
  cross_entropy_backward(problem, CrossEntropyScale{scale}, dlogits, stream);
}

void cross_entropy_mean(const CrossEntropyLoss* loss, DType dtype, void* out, Stream stream) {
  dispatch_floating(dtype, "cross_entropy", [&]<class T>() {
    launch(mean_kernel<T>, Shape{}, stream, loss, static_cast<T*>(out));
  });
}

}  // namespace weft::kernels::cuda
