#include "comm/arguments.h"

#include "kernels/base/error.h"

namespace weft::comm {

namespace {
// 2^60 bytes: more than any machine has, and sums of two of them do not overflow. A view may have
// the size()-th part, so that one block a rank, and scratch for as many, stays below it.
constexpr std::int64_t kBytesMax = std::int64_t{1} << 60;
}  // namespace

Elems Arguments::most(DType dtype) const { return Elems(kBytesMax / size_of(dtype).value / size_); }

std::string Arguments::where() const { return fmt::format("rank {}: {}", rank_, operation_); }

void Arguments::view(const char* name, const void* data, Elems count, DType dtype) const {
  if (static_cast<int>(dtype) >= kDTypeCount) {
    fail<InvalidArgument>("{}: {}.dtype is {}, which is no DType", where(), name,
                          static_cast<int>(dtype));
  }
  if (count.value < 0 || count > most(dtype)) {
    fail<InvalidArgument>("{}: {}.count is {}, expected 0 to {}", where(), name, count.value,
                          most(dtype).value);
  }
  if (data == nullptr && count.value > 0) {
    fail<InvalidArgument>("{}: {}.data is null, but {}.count is {}: pass a buffer of {} bytes",
                          where(), name, name, count.value, bytes_of(count, dtype).value);
  }
}

void Arguments::same_dtype(const ConstView& input, const View& output) const {
  if (input.dtype == output.dtype) return;
  fail<InvalidArgument>("{}: input is {}, output is {}: both must have one dtype; cast first",
                        where(), name_of(input.dtype), name_of(output.dtype));
}

void Arguments::op(ReduceOp op) const {
  if (static_cast<int>(op) < kReduceOpCount) return;
  fail<InvalidArgument>("{}: {} is no ReduceOp; expected sum, prod, min, max or avg", where(),
                        static_cast<int>(op));
}

void Arguments::root(int root) const {
  if (root >= 0 && root < size_) return;
  fail<InvalidArgument>("{}: root is {}, expected a rank, 0 to {}", where(), root, size_ - 1);
}

void Arguments::peer(int peer) const {
  if (peer < 0 || peer >= size_) {
    fail<InvalidArgument>("{}: peer is {}, expected a rank, 0 to {}", where(), peer, size_ - 1);
  }
  if (peer == rank_) {
    fail<InvalidArgument>("{}: peer is {}, this rank itself; expected another one", where(), peer);
  }
}

void Arguments::count(const char* name, Elems found, Elems expected, const char* why) const {
  if (found == expected) return;
  fail<InvalidArgument>("{}: {}.count is {}, expected {} ({})", where(), name, found.value,
                        expected.value, why);
}

Elems Arguments::counts(const char* name, std::span<const Elems> counts, DType dtype) const {
  if (counts.size() != static_cast<std::size_t>(size_)) {
    fail<InvalidArgument>("{}: {} has {} entries, expected one a rank, {}", where(), name,
                          counts.size(), size_);
  }
  Elems total;
  for (std::size_t r = 0; r < counts.size(); ++r) {
    if (counts[r].value < 0 || counts[r] > most(dtype) - total) {
      fail<InvalidArgument>("{}: {}[{}] is {}, expected 0 or more elements, and at most {} in all",
                            where(), name, r, counts[r].value, most(dtype).value);
    }
    total += counts[r];
  }
  return total;
}

std::optional<DType> Arguments::wire(const CallOptions& options, DType dtype) const {
  if (!options.wire || *options.wire == DType::f32) return std::nullopt;
  if (!is_half(*options.wire)) {
    fail<InvalidArgument>("{}: wire is {}, expected f16 or bf16 (or none)", where(),
                          static_cast<int>(*options.wire) < kDTypeCount
                              ? name_of(*options.wire)
                              : std::string_view("no DType"));
  }
  if (dtype == DType::f32) return size_ > 1 ? options.wire : std::nullopt;
  fail<InvalidArgument>(
      "{}: wire is {}, but the buffers are {}: only f32 is compressed; leave wire out, or cast to "
      "f32 first",
      where(), name_of(*options.wire), name_of(dtype));
}

void Arguments::no_wire(const CallOptions& options) const {
  if (!options.wire || *options.wire == DType::f32) return;
  fail<InvalidArgument>(
      "{}: wire is given, but {} does not compress: leave it out, or cast the buffers to f16 or "
      "bf16",
      where(), operation_);
}

void Arguments::no_overlap(const ConstView& input, const View& output) const {
  const auto a = reinterpret_cast<std::uintptr_t>(input.data);
  const auto b = reinterpret_cast<std::uintptr_t>(output.data);
  const std::size_t a_bytes = bytes_of(input.count, input.dtype).size();
  const std::size_t b_bytes = bytes_of(output.count, output.dtype).size();
  if (a_bytes == 0 || b_bytes == 0 || a + a_bytes <= b || b + b_bytes <= a) return;
  fail<InvalidArgument>("{}: input and output overlap; this collective is never in place", where());
}

std::uint32_t fingerprint(std::span<const Elems> counts) {
  std::uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a, over whole counts
  for (const Elems count : counts) {
    hash = (hash ^ static_cast<std::uint64_t>(count.value)) * 0x100000001b3ull;
    hash ^= hash >> 29;
  }
  return static_cast<std::uint32_t>(hash ^ (hash >> 32)) | 1u;
}

}  // namespace weft::comm
