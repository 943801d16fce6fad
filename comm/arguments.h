// Checks of what callers pass. All throw InvalidArgument naming rank, operation, what was expected
// and what was found, before anything is sent.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "comm/communicator.h"
#include "comm/schedule/schedule.h"

namespace weft::comm {

class Arguments {
 public:
  Arguments(const char* operation, int rank, int size)
      : operation_(operation), rank_(rank), size_(size) {}

  void view(const char* name, const void* data, Elems count, DType dtype) const;
  void view(const char* name, const ConstView& view_) const {
    view(name, view_.data, view_.count, view_.dtype);
  }
  void same_dtype(const ConstView& input, const View& output) const;
  void op(ReduceOp op) const;
  void root(int root) const;
  void peer(int peer) const;
  // `found`.count must be `expected`; `why` is how that came about ("input.count").
  void count(const char* name, Elems found, Elems expected, const char* why) const;
  // Blocks per rank: one for each, none negative, in total no more than a view may have. Gives the
  // total.
  Elems counts(const char* name, std::span<const Elems> counts, DType dtype) const;
  // Of calls that can compress: what travels instead of f32, if anything does.
  std::optional<DType> wire(const CallOptions& options, DType dtype) const;
  // Of the others.
  void no_wire(const CallOptions& options) const;
  void no_overlap(const ConstView& input, const View& output) const;

 private:
  std::string where() const;
  Elems most(DType dtype) const;  // elements of a view: no size that is derived can overflow
  const char* operation_;
  int rank_;
  int size_;
};

// Fingerprint of the counts of a v form; never 0.
std::uint32_t fingerprint(std::span<const Elems> counts);

}  // namespace weft::comm
