// Takes typed fields out of JSON that may hold anything; errors name where.
#pragma once

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/base/error.h"

namespace weft::comm::trace {

// JSON of modest depth: what comes after is recursive. Throws Corrupt: "WHERE: no JSON, ...".
nlohmann::json parse_json(std::string_view text, const std::string& where, std::string_view remedy);

class Fields {
 public:
  // `where`: "x.json, line 7". The object must outlive this.
  Fields(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) refuse("", "an object", object_);
  }

  const nlohmann::json& any(const char* name) const {
    const auto found = object_.find(name);
    if (found == object_.end()) fail<Corrupt>("{}: the field \"{}\" is missing", where_, name);
    return *found;
  }
  bool has(const char* name) const { return object_.contains(name); }

  std::int64_t number(const char* name, std::int64_t least, std::int64_t most) const {
    const nlohmann::json& value = any(name);
    if (!value.is_number_integer()) refuse(name, "a whole number", value);
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX;
    if (huge || value.get<std::int64_t>() < least || value.get<std::int64_t>() > most) {
      refuse(name, fmt::format("{} to {}", least, most), value);
    }
    return value.get<std::int64_t>();
  }
  // Microseconds with a fraction, as nanoseconds.
  std::int64_t nanoseconds(const char* name, double least_us) const {
    constexpr double kMost = 9e15;  // 104 days: exact in nanoseconds
    const nlohmann::json& value = any(name);
    if (!value.is_number()) refuse(name, "a number", value);
    const double us = value.get<double>();
    if (!(us >= least_us && us < kMost / 1000)) refuse(name, "microseconds", value);
    return static_cast<std::int64_t>(std::llround(us * 1000));
  }
  bool flag(const char* name) const {
    const nlohmann::json& value = any(name);
    if (!value.is_boolean()) refuse(name, "true or false", value);
    return value.get<bool>();
  }
  std::string text(const char* name) const {
    const nlohmann::json& value = any(name);
    if (!value.is_string()) refuse(name, "a string", value);
    return value.get<std::string>();
  }
  const nlohmann::json& array(const char* name) const {
    const nlohmann::json& value = any(name);
    if (!value.is_array()) refuse(name, "an array", value);
    return value;
  }
  Fields object(const char* name) const { return {any(name), where_ + ", \"" + name + "\""}; }
  const std::string& where() const { return where_; }

 private:
  [[noreturn]] void refuse(const char* name, const std::string& expected,
                           const nlohmann::json& found) const {
    std::string text =
        found.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 60);
    fail<Corrupt>("{}: {}{}{}expected {}, found {}", where_, *name == 0 ? "" : "\"", name,
                  *name == 0 ? "" : "\": ", expected, text);
  }

  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace weft::comm::trace
