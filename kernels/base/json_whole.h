// Whole numbers out of JSON that others wrote.
#pragma once

#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace weft {

// value.get<T>() converts what it finds, a number with a fraction or beyond T too, which may be
// undefined. This throws nlohmann's out_of_range instead.
template <std::integral T>
T whole(const nlohmann::json& value) {
  const bool fits = (value.is_number_unsigned() && std::in_range<T>(value.get<std::uint64_t>())) ||
                    (value.is_number_integer() && !value.is_number_unsigned() &&
                     std::in_range<T>(value.get<std::int64_t>()));
  if (fits) return value.get<T>();
  throw nlohmann::json::out_of_range::create(
      406,
      "expected a whole number from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
          std::to_string(std::numeric_limits<T>::max()) + ", found " + value.dump().substr(0, 60),
      &value);
}

template <std::integral T>
std::vector<T> whole_list(const nlohmann::json& value) {
  std::vector<T> all;
  for (const nlohmann::json& one : value) all.push_back(whole<T>(one));
  return all;
}

}  // namespace weft
