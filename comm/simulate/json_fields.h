// Takes typed fields out of a JSON file that a person wrote: every field known, every value in
// range, or InvalidArgument naming file, line and field.
#pragma once

#include <fmt/ranges.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "comm/simulate/json_lines.h"
#include "kernels/base/error.h"

namespace weft::comm::simulate {

// A JSON text that is read, for messages that say where.
struct Source {
  std::string name;
  JsonLines lines;

  int line(const std::string& path) const {
    const auto at = lines.find(path);
    return at == lines.end() ? 1 : at->second;
  }
  template <class... Args>
  [[noreturn]] void refuse(const std::string& path, fmt::format_string<Args...> format,
                           Args&&... args) const {
    fail<InvalidArgument>("{}, line {}, field {}: {}", name, line(path),
                          path.empty() ? "/" : printable(path),
                          fmt::format(format, std::forward<Args>(args)...));
  }
};

// One object of the file. Every field that may be there is asked for once; finish() refuses others.
class Fields {
 public:
  Fields(const Source& source, const nlohmann::json& object, std::string path)
      : source_(source), object_(object), path_(std::move(path)) {
    if (!object.is_object()) {
      source.refuse(path_, "expected an object, found {}", found(object));
    }
  }

  std::string path(const std::string& field) const { return path_ + "/" + pointer_token(field); }
  bool has(const char* field) const { return object_.contains(field); }

  const nlohmann::json* find(const char* field) {
    known_.insert(field);
    const auto at = object_.find(field);
    return at == object_.end() ? nullptr : &*at;
  }

  void number(const char* field, double& into, double low, double high) {
    const nlohmann::json* value = find(field);
    if (value == nullptr) return;
    if (!value->is_number()) {
      source_.refuse(path(field), "expected a number, found {}", found(*value));
    }
    const double given = value->get<double>();
    if (!(given >= low && given <= high)) {
      source_.refuse(path(field), "expected {} to {}, found {}", low, high, given);
    }
    into = given;
  }

  void integer(const char* field, std::int32_t& into, std::int64_t low, std::int64_t high) {
    const nlohmann::json* value = find(field);
    if (value != nullptr) into = integer_of(*value, path(field), low, high);
  }

  std::int32_t integer_of(const nlohmann::json& value, const std::string& path, std::int64_t low,
                          std::int64_t high) const {
    const bool fits = value.is_number_integer() &&
                      !(value.is_number_unsigned() &&
                        value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX));
    if (!fits) source_.refuse(path, "expected a whole number, found {}", found(value));
    const auto given = value.get<std::int64_t>();
    if (given < low || given > high) {
      source_.refuse(path, "expected {} to {}, found {}", low, high, given);
    }
    return static_cast<std::int32_t>(given);
  }

  // Calls visit(element, path) for each element of an array.
  template <class Visit>
  void each(const char* field, Visit&& visit) {
    const nlohmann::json* list = find(field);
    if (list == nullptr) return;
    if (!list->is_array()) source_.refuse(path(field), "expected a list, found {}", found(*list));
    for (std::size_t i = 0; i < list->size(); ++i) {
      visit((*list)[i], fmt::format("{}/{}", path(field), i));
    }
  }

  // Fields of an object inside this one.
  template <class Visit>
  void inside(const char* field, Visit&& visit) {
    const nlohmann::json* object = find(field);
    if (object == nullptr) return;
    Fields fields(source_, *object, path(field));
    visit(fields);
    fields.finish();
  }

  void finish() const {
    for (const auto& item : object_.items()) {
      if (known_.contains(item.key())) continue;
      source_.refuse(path(item.key()), "there is no such field; here there are: {}",
                     fmt::join(known_, ", "));
    }
  }

 private:
  static std::string found(const nlohmann::json& value) {
    std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    if (text.size() > 40) text = text.substr(0, 37) + "...";
    return fmt::format("{} {}", value.type_name(), printable(text));
  }

  const Source& source_;
  const nlohmann::json& object_;
  std::string path_;
  std::set<std::string> known_;
};

}  // namespace weft::comm::simulate
