#include "bench/collectives/subject.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/cast.h"

namespace weft::bench {
namespace {

// Small whole numbers: their sums are exact in every dtype for up to 85 ranks (u8 and bf16 hold
// 255).
double pattern(const Options& options, int world_size, int rank, std::int64_t index) {
  if (options.op == ReduceOp::prod) return (index + rank) % world_size == 0 ? 2.0 : 1.0;
  return 1.0 + static_cast<double>((index + rank) % 3);
}

double fold(const Options& options, int world_size, std::int64_t index) {
  double result = pattern(options, world_size, 0, index);
  for (int rank = 1; rank < world_size; ++rank) {
    const double value = pattern(options, world_size, rank, index);
    switch (options.op) {
      case ReduceOp::sum:
      case ReduceOp::avg:
        result += value;
        break;
      case ReduceOp::prod:
        result *= value;
        break;
      case ReduceOp::min:
        result = std::min(result, value);
        break;
      case ReduceOp::max:
        result = std::max(result, value);
        break;
    }
  }
  if (options.op != ReduceOp::avg) return result;
  return is_floating(options.dtype) ? result / world_size : std::trunc(result / world_size);
}

// One unit in the last place of the dtype: division by the world size is the only inexact
// operation.
double tolerance(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 2.3e-16;
    case DType::f32:
      return 1.2e-7;
    case DType::f16:
      return 9.8e-4;
    case DType::bf16:
      return 7.9e-3;
    default:
      return 0.0;
  }
}

}  // namespace

Subject::Subject(const Options& options, Bytes size, Communicator& communicator,
                 const DeviceCalls* device)
    : options_(options),
      communicator_(communicator),
      device_(device),
      kind_(find_kind(options.collective)) {
  const std::int64_t blocks = kind_.wide_input || kind_.wide_output ? communicator.size() : 1;
  block_ = Elems(size.value / size_of(options.dtype).value / blocks);
  size_ = bytes_of(block_ * blocks, options.dtype);
  const auto side = [&](bool wide) {
    const Bytes bytes = bytes_of(block_ * (wide ? blocks : 1), options.dtype);
    return Buffer(bytes, options.registered, communicator, device);
  };
  if (kind_.out_of_place || kind_.wide_input) input_ = side(kind_.wide_input);
  output_ = side(kind_.wide_output);
}

// In place: the narrow side is this rank's own block of the wide side, or both sides are one
// buffer.
comm::ConstView Subject::input(bool in_place) const {
  const auto block_bytes = bytes_of(block_, options_.dtype).size();
  const auto rank = static_cast<std::size_t>(communicator_.rank());
  if (in_place && !kind_.wide_input) {
    const bool inside =
        kind_.wide_output && (!kind_.output_on_root_only || communicator_.rank() == options_.root);
    return {output_.data() + (inside ? rank * block_bytes : 0), block_, options_.dtype};
  }
  return {input_.data(),
          Elems(static_cast<std::int64_t>(input_.size()) / size_of(options_.dtype).value),
          options_.dtype};
}

comm::View Subject::output(bool in_place) const {
  const auto block_bytes = bytes_of(block_, options_.dtype).size();
  const auto rank = static_cast<std::size_t>(communicator_.rank());
  if (in_place && kind_.wide_input && (!kind_.rooted || communicator_.rank() == options_.root)) {
    return {input_.data() + rank * block_bytes, block_, options_.dtype};
  }
  return {output_.data(),
          Elems(static_cast<std::int64_t>(output_.size()) / size_of(options_.dtype).value),
          options_.dtype};
}

void Subject::fill(bool in_place) {
  output_.poison();
  const auto in = input(in_place);
  std::vector<double> values(in.count.size());
  for (std::int64_t i = 0; i < in.count.value; ++i) {
    values[static_cast<std::size_t>(i)] =
        pattern(options_, communicator_.size(), communicator_.rank(), i);
  }
  if (in.count.value == 0) return;
  std::vector<std::uint8_t> bytes(bytes_of(in.count, in.dtype).size());
  kernels::cast(bytes.data(), in.dtype, values.data(), DType::f64, in.count);
  input_.write(const_cast<void*>(in.data), bytes);
}

double Subject::expected(std::int64_t index) const {
  const Place place{communicator_.rank(), communicator_.size(), options_.root,
                    std::max<std::int64_t>(block_.value, 1)};
  const auto origin = kind_.origin(place, index);
  if (origin.rank == Origin::kEveryRank) return fold(options_, place.world_size, origin.index);
  return pattern(options_, place.world_size, origin.rank, origin.index);
}

std::int64_t Subject::wrong(bool in_place) const {
  if (kind_.name == "barrier") return 0;
  if (kind_.output_on_root_only && communicator_.rank() != options_.root) return 0;
  const auto out = output(in_place);
  std::vector<double> values(out.count.size());
  const auto bytes = output_.read(out.data, bytes_of(out.count, out.dtype).size());
  if (out.count.value > 0) {
    kernels::cast(values.data(), DType::f64, bytes.data(), out.dtype, out.count);
  }
  const double slack = kind_.reducing && options_.op == ReduceOp::avg
                           ? tolerance(options_.wire.value_or(options_.dtype))
                           : 0.0;
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < out.count.value; ++i) {
    const double want = expected(i);
    if (!(std::abs(values[static_cast<std::size_t>(i)] - want) <= slack * std::abs(want))) ++wrong;
  }
  return wrong;
}

}  // namespace weft::bench
