#include "tensor/checkpoint/safetensors.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "tensor/checkpoint/atomic_file.h"
#include "tensor/data/mapped_file.h"

namespace weft::checkpoint {
namespace {

constexpr std::size_t kAlignment = 8;  // of the data, by spaces after the header

// safetensors' name, and its place in the package's order of types.
std::pair<std::string_view, int> file_type(DType dtype) {
  switch (dtype) {
    case DType::i64:
      return {"I64", 6};
    case DType::f64:
      return {"F64", 5};
    case DType::f32:
      return {"F32", 4};
    case DType::i32:
      return {"I32", 3};
    case DType::bf16:
      return {"BF16", 2};
    case DType::f16:
      return {"F16", 1};
    case DType::u8:
      break;
  }
  return {"U8", 0};
}

std::size_t byte_size(const Tensor& tensor) {
  return bytes_of(Elems(tensor.numel()), tensor.dtype()).size();
}

std::string quoted(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    fail<InvalidArgument>("safetensors: a name is not UTF-8: '{}'", text);
  }
}

}  // namespace

SafeTensors::SafeTensors(const std::filesystem::path& path) : source_(path.string()) {
  auto file = data::MappedFile::open(path);
  bytes_ = file->bytes();
  owner_ = std::move(file);
  header_ = parse_header(bytes_, source_);
}

const TensorInfo* SafeTensors::find(std::string_view name) const {
  const auto it = std::find_if(tensors().begin(), tensors().end(),
                               [&](const TensorInfo& info) { return info.name == name; });
  return it == tensors().end() ? nullptr : &*it;
}

Tensor SafeTensors::view(const TensorInfo& info) const {
  auto* data = bytes_.data() + header_.data_start + info.begin;
  const auto size = info.end - info.begin;
  const auto width = size_of(*info.dtype).size();
  if (size == 0 || reinterpret_cast<std::uintptr_t>(data) % width != 0) {
    auto copy = Tensor::empty(info.shape, {*info.dtype});
    if (size != 0) std::memcpy(copy.data(), data, size);
    return copy;
  }
  auto storage = tensor::Storage::borrow(data, Bytes(static_cast<std::int64_t>(size)), owner_);
  return Tensor::wrap(std::move(storage), info.shape, *info.dtype);
}

Tensor SafeTensors::tensor(std::string_view name) const {
  const auto* info = find(name);
  if (info == nullptr) fail<InvalidArgument>("{}: there is no tensor '{}'", source_, name);
  if (!info->dtype) {
    fail<Unsupported>("{}: tensor '{}' is of {}, which weft cannot compute with", source_, name,
                      info->type);
  }
  return view(*info);
}

nn::StateDict SafeTensors::state_dict(std::vector<std::string>* skipped) const {
  nn::StateDict result;
  for (const auto& info : tensors()) {
    if (info.dtype) {
      result.push_back({info.name, view(info)});
    } else if (skipped != nullptr) {
      skipped->push_back(info.name);
    }
  }
  return result;
}

std::string_view safetensors_type(DType dtype) { return file_type(dtype).first; }

std::optional<DType> parse_safetensors_type(std::string_view name) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (file_type(dtype).first == name) return dtype;
  }
  return {};
}

bool serializes_before(const EntryInfo& a, const EntryInfo& b) {
  const int x = file_type(a.dtype).second;
  const int y = file_type(b.dtype).second;
  return x != y ? x > y : a.name < b.name;
}

nn::StateDict serialize_order(nn::StateDict tensors) {
  const auto info = [](const nn::NamedTensor& entry) {
    return EntryInfo{entry.name, entry.tensor.dtype(), {}};
  };
  std::stable_sort(tensors.begin(), tensors.end(),
                   [&](const nn::NamedTensor& a, const nn::NamedTensor& b) {
                     return serializes_before(info(a), info(b));
                   });
  return tensors;
}

std::string make_header(const nn::StateDict& tensors, const Metadata& metadata) {
  std::vector<EntryInfo> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({name, tensor.dtype(), tensor.shape()});
  }
  return make_header(entries, metadata);
}

std::string make_header(const std::vector<EntryInfo>& entries, const Metadata& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      text += fmt::format("{}{}:{}", text.back() == '{' ? "" : ",", quoted(key), quoted(value));
    }
    text += "}";
  }
  std::size_t at = 0;
  std::unordered_set<std::string_view> names;
  for (const auto& [name, dtype, shape] : entries) {
    if (name == "__metadata__" || !names.insert(name).second) {
      fail<InvalidArgument>("safetensors: a tensor cannot be named '{}': it is {}", name,
                            name == "__metadata__" ? "reserved" : "given twice");
    }
    std::int64_t elements = 1;
    for (const auto size : shape) elements *= size;
    const auto size = bytes_of(Elems(elements), dtype).size();
    text += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                        text.size() == 1 ? "" : ",", quoted(name), file_type(dtype).first,
                        fmt::join(shape, ","), at, at + size);
    at += size;
  }
  text += "}";
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  std::string length(8, '\0');
  for (std::size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<char>(static_cast<std::uint64_t>(text.size()) >> (8 * i));
  }
  return length + text;
}

void save_safetensors(const std::filesystem::path& path, const nn::StateDict& tensors,
                      const Metadata& metadata) {
  const auto ordered = serialize_order(tensors);
  const auto header = make_header(ordered, metadata);
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(header)));
  for (const auto& entry : ordered) {
    const auto values = entry.tensor.detach().to(Device{}).contiguous();
    if (values.numel() == 0) continue;
    file.write({static_cast<const std::byte*>(values.data()), byte_size(values)});
  }
  file.commit();
}

}  // namespace weft::checkpoint
