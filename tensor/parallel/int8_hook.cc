#include "tensor/parallel/int8_hook.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "kernels/cast.h"
#include "kernels/quantize.h"

namespace weft::parallel {
namespace {

constexpr std::int32_t kBehind = 2;  // buckets between a launch and the second collective

std::byte* value_at(const Tensor& tensor, Elems at) {
  return static_cast<std::byte*>(tensor.data()) + bytes_of(at, tensor.dtype()).value;
}

void scale_in_place(std::byte* values, Elems count, double factor) {
  kernels::cast(values, DType::f32, values, DType::f32, count, factor);
}

Tensor make_bytes(Bytes bytes) { return Tensor::zeros({bytes.value}, {DType::u8}); }

}  // namespace

// Who owns which values of a bucket, and where their packed forms lie.
class Int8Hook::Chunks {
 public:
  Chunks(Elems values, const Communicator& communicator)
      : values_(values), n_(communicator.size()), rank_(communicator.rank()) {
    for (int r = 0; r < n_; ++r) packed_.emplace_back(kernels::quantized_bytes(count(r)).value);
  }
  int rank() const { return rank_; }
  int ranks() const { return n_; }
  Elems begin(int rank) const {
    const std::int64_t blocks =
        (values_.value + kernels::kQuantizeBlock - 1) / kernels::kQuantizeBlock;
    return std::min(values_, Elems(blocks * rank / n_ * kernels::kQuantizeBlock));
  }
  Elems count(int rank) const { return begin(rank + 1) - begin(rank); }
  // Bytes of every rank's chunk, as the v collectives want them.
  const std::vector<Elems>& packed() const { return packed_; }
  Elems own_packed() const { return packed_[static_cast<std::size_t>(rank_)]; }
  Elems packed_begin(int rank) const {
    Elems begin;
    for (int r = 0; r < rank; ++r) begin += packed_[static_cast<std::size_t>(r)];
    return begin;
  }

 private:
  Elems values_;
  int n_;
  int rank_;
  std::vector<Elems> packed_;
};

void Int8Hook::regroup(std::span<const GradBucket> buckets) {
  struct Home {
    Tensor residual;
    GradBucket::Part part;
  };
  std::map<std::int32_t, Home> old;
  for (const Flight& flight : flights_) {
    if (!flight.residual.defined()) continue;
    for (const auto& part : flight.bucket.parts) old[part.parameter] = {flight.residual, part};
  }
  flights_.clear();
  for (const GradBucket& bucket : buckets) {
    Flight& flight = flights_.emplace_back();
    flight.bucket = bucket;
    if (bucket.buffer.dtype() != DType::f32) continue;
    flight.residual = Tensor::zeros(bucket.buffer.shape(), {DType::f32});
    for (const auto& part : bucket.parts) {
      const auto home = old.find(part.parameter);
      if (home == old.end()) continue;
      std::memcpy(value_at(flight.residual, part.begin),
                  value_at(home->second.residual, home->second.part.begin),
                  bytes_of(part.count, DType::f32).size());
    }
  }
}

void Int8Hook::launch(const GradBucket& bucket, Communicator& communicator) {
  if (bucket.index >= kBehind) {
    proceed(flights_.at(static_cast<std::size_t>(bucket.index - kBehind)).bucket, communicator);
  }
  Flight& flight = at(bucket);
  flight.proceeded = false;
  const Tensor& buffer = bucket.buffer;
  if (!flight.residual.defined()) {
    flight.work = communicator.all_reduce_async(
        comm::View(buffer.data(), Elems(buffer.numel()), buffer.dtype()), ReduceOp::avg);
    flight.work.then([keep = buffer](std::exception_ptr) {});
    return;
  }
  const Chunks chunks(Elems(buffer.numel()), communicator);
  const Elems all = chunks.packed_begin(chunks.ranks());
  if (!flight.packed.defined()) {
    flight.packed = make_bytes(Bytes(all.value));
    flight.received = make_bytes(Bytes(chunks.own_packed().value * chunks.ranks()));
  }
  for (int r = 0; r < chunks.ranks(); ++r) {
    std::byte* const values = value_at(buffer, chunks.begin(r));
    std::byte* const residual = value_at(flight.residual, chunks.begin(r));
    const Elems count = chunks.count(r);
    if (r != chunks.rank()) {
      kernels::quantize_int8(value_at(flight.packed, chunks.packed_begin(r)), values, residual,
                             count);
      continue;
    }
    const void* const sum[] = {values, residual};
    kernels::reduce(values, sum, count, DType::f32, ReduceOp::sum);
    std::memset(residual, 0, bytes_of(count, DType::f32).size());
  }
  const std::vector<Elems> received(chunks.packed().size(), chunks.own_packed());
  flight.work = communicator.all_to_all_v_async(
      {flight.packed.data(), all, DType::u8}, chunks.packed(),
      {flight.received.data(), Elems(flight.received.numel()), DType::u8}, received);
  flight.work.then([sent = flight.packed, got = flight.received](std::exception_ptr) {});
}

void Int8Hook::proceed(const GradBucket& bucket, Communicator& communicator) {
  Flight& flight = at(bucket);
  if (flight.proceeded || !flight.residual.defined()) return;
  flight.proceeded = true;
  flight.work.wait();
  flight.first = flight.work.duration();
  const Chunks chunks(Elems(bucket.buffer.numel()), communicator);
  const int own = chunks.rank();
  const Elems count = chunks.count(own);
  std::byte* const values = value_at(bucket.buffer, chunks.begin(own));
  for (int r = 0; r < chunks.ranks(); ++r) {
    if (r == own) continue;
    kernels::dequantize_int8(values, value_at(flight.received, chunks.own_packed() * r), count,
                             true);
  }
  scale_in_place(values, count, 1.0 / chunks.ranks());
  std::byte* const packed = value_at(flight.packed, chunks.packed_begin(own));
  std::byte* const residual = value_at(flight.residual, chunks.begin(own));
  kernels::quantize_int8(packed, values, residual, count);
  scale_in_place(residual, count, chunks.ranks());
  flight.work = communicator.all_gather_v_async(
      {packed, chunks.own_packed(), DType::u8},
      {flight.packed.data(), Elems(flight.packed.numel()), DType::u8}, chunks.packed());
  flight.work.then([keep = flight.packed](std::exception_ptr) {});
}

std::chrono::nanoseconds Int8Hook::finish(const GradBucket& bucket, Communicator& communicator) {
  Flight& flight = at(bucket);
  const Work work = std::exchange(flight.work, Work());
  work.wait();
  if (!flight.residual.defined()) return work.duration();
  const Chunks chunks(Elems(bucket.buffer.numel()), communicator);
  for (int r = 0; r < chunks.ranks(); ++r) {
    kernels::dequantize_int8(value_at(bucket.buffer, chunks.begin(r)),
                             value_at(flight.packed, chunks.packed_begin(r)), chunks.count(r));
  }
  return flight.first + work.duration();
}

}  // namespace weft::parallel
