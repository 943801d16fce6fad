#include "comm/trace/names.h"

#include <array>

#include "comm/schedule/algorithm_names.h"
#include "comm/schedule/schedule.h"
#include "kernels/base/dtype.h"

namespace weft::comm::trace {

namespace {
// In the order of ReduceOp (kernels/reduce.h, which this room does not see); a test compares.
constexpr std::array<std::string_view, 5> kOps = {"sum", "prod", "min", "max", "avg"};
constexpr std::array<std::string_view, kStateCount> kStates = {"queued", "running", "complete",
                                                               "failed"};
constexpr auto kLastCollective = static_cast<std::uint8_t>(Collective::recv);
}  // namespace

std::string_view collective_name(std::uint8_t code) {
  return code > kLastCollective ? std::string_view() : name_of(static_cast<Collective>(code));
}

std::string_view dtype_name(std::uint8_t code) {
  return code >= kDTypeCount ? std::string_view() : name_of(static_cast<DType>(code));
}

std::string_view op_name(std::uint8_t code) {
  return code >= kOps.size() ? std::string_view() : kOps[code];
}

std::string_view algorithm_name(std::uint8_t code) {
  return code >= kAlgorithmNames.size() ? std::string_view() : kAlgorithmNames[code];
}

std::string_view state_name(State state) {
  const auto code = static_cast<std::size_t>(state);
  return code >= kStates.size() ? std::string_view() : kStates[code];
}

bool is_message(std::uint8_t collective) {
  return collective == static_cast<std::uint8_t>(Collective::send) ||
         collective == static_cast<std::uint8_t>(Collective::recv);
}

bool is_reduction(std::uint8_t collective) {
  return collective <= kLastCollective && is_reducing(static_cast<Collective>(collective));
}

bool has_root(std::uint8_t collective) {
  return collective <= kLastCollective && is_rooted(static_cast<Collective>(collective));
}

bool has_elements(std::uint8_t collective) {
  return collective != static_cast<std::uint8_t>(Collective::barrier);
}

}  // namespace weft::comm::trace
