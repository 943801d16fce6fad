#include "comm/select/fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <vector>

namespace weft::comm {

namespace {

constexpr std::size_t kConstants = 4;
using Constants = std::array<double, kConstants>;  // logarithms
using Model = std::function<double(const Constants&, const Sample&)>;

constexpr double kHuber = 0.2;
constexpr double kPrior = 0.03;  // weight of staying at the start, per constant and sample
constexpr int kRoundsMax = 200;

struct Normal {
  std::array<std::array<double, kConstants>, kConstants> matrix{};
  Constants right{};

  void add(const Constants& slope, double residual, double weight) {
    for (std::size_t i = 0; i < kConstants; ++i) {
      right[i] -= weight * slope[i] * residual;
      for (std::size_t j = 0; j < kConstants; ++j) matrix[i][j] += weight * slope[i] * slope[j];
    }
  }
  // Elimination without pivots: the matrix is positive definite.
  Constants solve(double damping) const {
    auto m = matrix;
    Constants x = right;
    for (std::size_t i = 0; i < kConstants; ++i) m[i][i] *= 1 + damping;
    for (std::size_t i = 0; i < kConstants; ++i) {
      for (std::size_t r = i + 1; r < kConstants; ++r) {
        const double factor = m[r][i] / m[i][i];
        for (std::size_t c = i; c < kConstants; ++c) m[r][c] -= factor * m[i][c];
        x[r] -= factor * x[i];
      }
    }
    for (std::size_t i = kConstants; i-- > 0;) {
      for (std::size_t c = i + 1; c < kConstants; ++c) x[i] -= m[i][c] * x[c];
      x[i] /= m[i][i];
    }
    return x;
  }
};

class Fitter {
 public:
  Fitter(std::span<const Sample> samples, Model model, const Constants& start)
      : samples_(samples), model_(std::move(model)), start_(start) {
    prior_ = kPrior * kPrior * static_cast<double>(samples.size());
  }

  Constants run() const {
    Constants at = start_;
    double loss = loss_at(at);
    double damping = 1e-3;
    for (int round = 0; round < kRoundsMax && damping < 1e9; ++round) {
      Constants next = normal_at(at).solve(damping);
      // Never more than a factor of e at a time: far away the slopes tell nothing.
      for (std::size_t i = 0; i < kConstants; ++i) next[i] = at[i] + std::clamp(next[i], -1.0, 1.0);
      const double lower = loss_at(next);
      if (!(lower < loss)) {
        damping *= 4;
        continue;
      }
      at = next;
      loss = lower;
      damping = std::max(damping / 3, 1e-9);
    }
    return at;
  }

 private:
  double residual(const Constants& at, const Sample& sample) const {
    return std::log(model_(at, sample) / sample.seconds);
  }
  double loss_at(const Constants& at) const {
    double loss = 0;
    for (const Sample& sample : samples_) {
      const double off = std::abs(residual(at, sample));
      loss += off <= kHuber ? off * off / 2 : kHuber * (off - kHuber / 2);
    }
    for (std::size_t i = 0; i < kConstants; ++i) {
      loss += prior_ * (at[i] - start_[i]) * (at[i] - start_[i]) / 2;
    }
    return loss;
  }
  Normal normal_at(const Constants& at) const {
    Normal normal;
    for (const Sample& sample : samples_) {
      const double off = residual(at, sample);
      Constants slope;
      for (std::size_t i = 0; i < kConstants; ++i) {
        constexpr double kStep = 1e-5;
        Constants moved = at;
        moved[i] += kStep;
        slope[i] = (residual(moved, sample) - off) / kStep;
      }
      normal.add(slope, off, std::abs(off) <= kHuber ? 1 : kHuber / std::abs(off));
    }
    for (std::size_t i = 0; i < kConstants; ++i) {
      Constants slope{};
      slope[i] = 1;
      normal.add(slope, at[i] - start_[i], prior_);
    }
    return normal;
  }

  std::span<const Sample> samples_;
  Model model_;
  Constants start_;
  double prior_;
};

Constants logs(double a, double b, double c, double d) {
  return {std::log(a), std::log(b), std::log(c), std::log(d)};
}

LinkCosts links_of(const Constants& c) {
  return {std::exp(c[0]), std::exp(c[1]), std::exp(c[2]), std::exp(c[3])};
}

SharedCosts shared_of(const Constants& c, bool crowded, SharedCosts costs) {
  (crowded ? costs.wait_crowded : costs.wait) = std::exp(c[0]);
  costs.per_byte_stage = std::exp(c[1]);
  costs.per_byte_copy = std::exp(c[2]);
  costs.per_byte_reduce = std::exp(c[3]);
  return costs;
}

double expected(const Sample& sample, const LinkCosts& costs) {
  return expected_seconds(sample.algorithm, sample.problem, sample.bytes, costs);
}

double expected(const Sample& sample, bool crowded, const SharedCosts& costs) {
  return expected_seconds_on_memory(sample.algorithm, sample.problem, sample.bytes, crowded, costs,
                                    sample.registered);
}

FitError summary(std::span<const Sample> samples, const std::function<double(const Sample&)>& of) {
  if (samples.empty()) return {};
  std::vector<double> errors;
  for (const Sample& sample : samples) errors.push_back(std::abs(of(sample) / sample.seconds - 1));
  std::sort(errors.begin(), errors.end());
  return {errors[errors.size() / 2], errors.back()};
}

}  // namespace

LinkCosts fit_links(std::span<const Sample> samples, const LinkCosts& start) {
  const Model model = [](const Constants& at, const Sample& sample) {
    return expected(sample, links_of(at));
  };
  const Fitter fitter(
      samples, model,
      logs(start.latency, start.per_message, start.per_byte, start.per_byte_reduce));
  return samples.empty() ? start : links_of(fitter.run());
}

SharedCosts fit_shared(std::span<const Sample> samples, bool crowded, const SharedCosts& start) {
  const Model model = [&](const Constants& at, const Sample& sample) {
    return expected(sample, crowded, shared_of(at, crowded, start));
  };
  const Fitter fitter(samples, model,
                      logs(crowded ? start.wait_crowded : start.wait, start.per_byte_stage,
                           start.per_byte_copy, start.per_byte_reduce));
  return samples.empty() ? start : shared_of(fitter.run(), crowded, start);
}

FitError error_of(std::span<const Sample> samples, const LinkCosts& costs) {
  return summary(samples, [&](const Sample& sample) { return expected(sample, costs); });
}

FitError error_of(std::span<const Sample> samples, bool crowded, const SharedCosts& costs) {
  return summary(samples, [&](const Sample& sample) { return expected(sample, crowded, costs); });
}

}  // namespace weft::comm
