// Which parameters are gathered and reduced together, and which of them are whose.
//
//   unit      | first.weight      | first.bias | second.weight  | pad |      one flat run
//   shares    | rank 0          | rank 1          | rank 2          |        of equal size
#pragma once

#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"
#include "tensor/nn/module.h"

namespace weft::parallel {

// Units whose gradients are whole at a time: one that fills, one that is reduced.
inline constexpr int kGradientUnits = 2;

struct FlatRun {
  std::vector<nn::NamedTensor> parameters;
  std::vector<Elems> begins;  // where each lies; on lines of 64 bytes
  DType dtype = DType::f32;
  Elems share;  // what each rank holds. No two runs have equal ones: the fingerprint of a
                // collective then tells a rank that is at another unit
  bool empty() const { return parameters.empty(); }
  Bytes share_bytes() const { return bytes_of(share, dtype); }
};

struct UnitLayout : FlatRun {    // of the parameters that are trained
  std::string name;              // of its module; empty: the module itself, for what is in no other
  nn::Module* module = nullptr;  // whose forward() uses the parameters
  FlatRun frozen;                // those that are not, where they are shared out, too
  bool has_parameters() const { return !empty() || !frozen.empty(); }
};

// The module itself first (it may have no parameters left), then units in the order of
// registration. `units` are names of modules; empty: the members of module lists, that is modules
// whose name ends in a number ("transformer.h.3"), the outermost ones; or else all direct parts. A
// parameter that several units share, or that has a second name outside of its unit, belongs to the
// module itself. InvalidArgument names a module that is not there, units inside of each other, and
// parameters of one unit that differ in dtype.
std::vector<UnitLayout> lay_out_units(nn::Module& module, const std::vector<std::string>& units,
                                      int ranks, bool with_frozen);

struct PartRange {
  Elems begin;  // in the parameter
  Elems count;
  Elems at;  // in the rank's share
};
// What of parameter `index` lies in the share of `rank`; nothing: a count of 0 at 0.
PartRange part_in_share(const FlatRun& run, std::size_t index, int rank);

}  // namespace weft::parallel
