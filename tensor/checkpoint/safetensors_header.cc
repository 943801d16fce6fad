#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>

#include "tensor/checkpoint/safetensors.h"

namespace weft::checkpoint {
namespace {

using nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kHeaderBytesMax = 100'000'000;
constexpr std::size_t kSizeMax = std::size_t{1} << 62;  // elements or bytes; keeps sums in range
constexpr std::string_view kMetadata = "__metadata__";

struct FileType {
  std::string_view name;
  std::size_t bytes;
  std::optional<DType> dtype;
};
// Types of a byte or more; the packed ones (F4, F6) are refused as unknown.
constexpr std::array<FileType, 17> kTypes = {{{"F64", 8, DType::f64},
                                              {"F32", 4, DType::f32},
                                              {"F16", 2, DType::f16},
                                              {"BF16", 2, DType::bf16},
                                              {"I64", 8, DType::i64},
                                              {"I32", 4, DType::i32},
                                              {"U8", 1, DType::u8},
                                              {"U64", 8, {}},
                                              {"U32", 4, {}},
                                              {"I16", 2, {}},
                                              {"U16", 2, {}},
                                              {"I8", 1, {}},
                                              {"BOOL", 1, {}},
                                              {"C64", 8, {}},
                                              {"F8_E4M3", 1, {}},
                                              {"F8_E5M2", 1, {}},
                                              {"F8_E8M0", 1, {}}}};

// Reads the one shape of document that a header may have, as a machine of states over JSON's
// tokens: whatever else comes is an error at once, however deep or large it would grow.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(const std::string& source) : source_(source) {}
  Header header;

  bool start_object(std::size_t) override {
    if (state_ == State::start) return enter(State::names);
    if (state_ == State::name) {
      const bool is_metadata = key_ == kMetadata;
      if (!is_metadata) header.tensors.push_back({key_, {}, {}, {}, 0, 0});
      seen_ = {};
      return enter(is_metadata ? State::metadata : State::fields);
    }
    return unexpected("an object");
  }
  bool key(string_t& text) override {
    key_ = text;
    if (state_ == State::names) {
      if (!names_.insert(text).second) broken("the name is given twice");
      return enter(State::name);
    }
    if (state_ == State::metadata) {
      if (header.metadata.count(text) != 0) broken("the key is given twice in __metadata__");
      return enter(State::metadata_value);
    }
    if (text == "dtype") return field(seen_.dtype, State::dtype);
    if (text == "shape") return field(seen_.shape, State::shape);
    if (text == "data_offsets") return field(seen_.offsets, State::offsets);
    broken("unknown field");
  }
  bool end_object() override {
    if (state_ == State::names) return enter(State::done);
    if (state_ == State::metadata) return enter(State::names);
    if (!seen_.dtype || !seen_.shape || !seen_.offsets) {
      corrupt("expected dtype, shape and data_offsets, found less");
    }
    return enter(State::names);
  }
  bool string(string_t& text) override {
    if (state_ == State::metadata_value) {
      header.metadata.emplace(key_, text);
      return enter(State::metadata);
    }
    if (state_ != State::dtype) return unexpected("a text");
    const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const FileType& t) { return t.name == text; });
    if (type == kTypes.end()) corrupt(fmt::format("unknown dtype '{}'", text));
    tensor().type = text;
    tensor().dtype = type->dtype;
    return enter(State::fields);
  }
  bool start_array(std::size_t) override {
    if (state_ == State::shape) return enter(State::sizes);
    if (state_ == State::offsets) return enter(State::begin);
    return unexpected("a list");
  }
  bool number_unsigned(number_unsigned_t value) override {
    const bool expected = state_ == State::sizes || state_ == State::begin || state_ == State::end;
    if (!expected) return unexpected("a number");
    if (value > kSizeMax) corrupt(fmt::format("{} is larger than any file", value));
    if (state_ == State::sizes) {
      tensor().shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    const bool first = state_ == State::begin;
    (first ? tensor().begin : tensor().end) = value;
    return enter(first ? State::end : State::closed);
  }
  bool end_array() override {
    if (state_ == State::sizes || state_ == State::closed) return enter(State::fields);
    corrupt("data_offsets must be two numbers");
  }
  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a truth value"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t& text) override {
    return unexpected(("the number " + text).c_str());
  }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    fail<Corrupt>("{}: the header is no JSON at byte {}: {}", source_, position + kLengthBytes,
                  error.what());
  }

 private:
  enum class State {
    start,           // before {
    names,           // a name or }
    name,            // the object of a name
    metadata,        // a key or }
    metadata_value,  // a text
    fields,          // a field or }
    dtype,
    shape,
    sizes,  // in [ of shape
    offsets,
    begin,   // in [ of data_offsets, nothing yet
    end,     // the first is there
    closed,  // both are
    done,
  };
  struct Seen {
    bool dtype = false, shape = false, offsets = false;
  };

  bool enter(State state) {
    state_ = state;
    return true;
  }
  bool field(bool& seen, State state) {
    if (std::exchange(seen, true)) broken("the field is given twice");
    return enter(state);
  }
  TensorInfo& tensor() { return header.tensors.back(); }
  [[noreturn]] void broken(const char* what) const {
    fail<Corrupt>("{}: in the header, '{}': {}", source_, key_, what);
  }
  [[noreturn]] void corrupt(const std::string& what) const {
    fail<Corrupt>("{}: tensor '{}': {}", source_, header.tensors.back().name, what);
  }
  [[noreturn]] bool unexpected(const char* what) const {
    fail<Corrupt>("{}: the header does not belong to safetensors: {} after '{}'", source_, what,
                  key_);
  }

  const std::string& source_;
  State state_ = State::start;
  std::string key_;
  Seen seen_;
  std::unordered_set<std::string> names_;
};

std::size_t type_bytes(const TensorInfo& info) {
  return std::find_if(kTypes.begin(), kTypes.end(),
                      [&](const FileType& t) { return t.name == info.type; })
      ->bytes;
}

void check_size(const TensorInfo& info, const std::string& source) {
  std::size_t expected = type_bytes(info);
  bool overflow = false;
  for (const auto size : info.shape) {
    const auto factor = static_cast<std::size_t>(size);
    overflow = overflow || (factor != 0 && expected > kSizeMax / factor);
    expected = overflow ? expected : expected * factor;
  }
  if (info.end < info.begin || overflow || info.end - info.begin != expected) {
    fail<Corrupt>("{}: tensor '{}' of {} {}: expected {} bytes, found data_offsets [{}, {}]",
                  source, info.name, info.type, tensor::to_string(info.shape),
                  overflow ? "fewer" : std::to_string(expected), info.begin, info.end);
  }
}

// The data must cover `size` bytes exactly, one tensor after the other.
void check_layout(const Header& header, std::size_t size, const std::string& source) {
  std::size_t at = 0;
  for (const auto& info : header.tensors) {
    check_size(info, source);
    if (info.begin != at) {
      fail<Corrupt>("{}: tensor '{}': its data begins at {}, expected {} ({})", source, info.name,
                    info.begin, at, info.begin > at ? "a hole before it" : "it overlaps another");
    }
    at = info.end;
  }
  if (at != size) {
    fail<Corrupt>("{}: the tensors take {} bytes, but {} follow the header ({})", source, at, size,
                  size < at ? "truncated" : "trailing garbage");
  }
}

}  // namespace

Header parse_header(std::span<const std::byte> bytes, const std::string& source) {
  if (bytes.size() < kLengthBytes) {
    fail<Corrupt>("{}: {} bytes are too few for a safetensors file", source, bytes.size());
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) {
    length = length << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  }
  if (length > kHeaderBytesMax) {
    fail<Corrupt>("{}: expected a header of at most {} bytes, found {} (is it a safetensors file?)",
                  source, kHeaderBytesMax, length);
  }
  if (length > bytes.size() - kLengthBytes) {
    fail<Corrupt>("{}: truncated: a header of {} bytes is expected, {} are there", source, length,
                  bytes.size() - kLengthBytes);
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  if (length == 0 || text[0] != '{') fail<Corrupt>("{}: the header must begin with {{", source);
  HeaderReader reader(source);
  json::sax_parse(text, text + length, &reader);
  auto& header = reader.header;
  header.data_start = kLengthBytes + length;
  std::stable_sort(header.tensors.begin(), header.tensors.end(),
                   [](const TensorInfo& a, const TensorInfo& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  check_layout(header, bytes.size() - header.data_start, source);
  return std::move(header);
}

}  // namespace weft::checkpoint
