// What the codes in records are called. Async-signal-safe: every name is a constant; a code that
// has none (files come from anywhere) gives an empty one.
#pragma once

#include <cstdint>
#include <string_view>

#include "comm/trace/recorder.h"

namespace weft::comm::trace {

std::string_view collective_name(std::uint8_t code);
std::string_view dtype_name(std::uint8_t code);
std::string_view op_name(std::uint8_t code);
std::string_view algorithm_name(std::uint8_t code);
std::string_view state_name(State state);

// Point to point, reducing, rooted: which fields of a call mean something.
bool is_message(std::uint8_t collective);
bool is_reduction(std::uint8_t collective);
bool has_root(std::uint8_t collective);
bool has_elements(std::uint8_t collective);

}  // namespace weft::comm::trace
