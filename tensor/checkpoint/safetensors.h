// safetensors files (https://github.com/huggingface/safetensors): 8 bytes of little-endian header
// length, a JSON header {name: {dtype, shape, data_offsets}, "__metadata__": {text: text}}, the
// data.
//
// Files are not trusted. The reader checks everything before it gives out a byte: header length (at
// most 100 MB, inside the file), strict JSON and UTF-8, no name twice, known types, shapes that
// agree with their bytes, and data that covers the rest of the file in order without hole, overlap
// or trailing garbage. Corrupt names the file, the tensor, what was expected and found.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tensor/nn/state_dict.h"

namespace weft::checkpoint {

using Metadata = std::map<std::string, std::string>;

struct TensorInfo {
  std::string name;
  std::string type;            // as in the file: "F32"
  std::optional<DType> dtype;  // ours; none for types that weft has not (BOOL, I16, F8_E4M3, ...)
  Shape shape;
  std::size_t begin = 0;  // bytes from the start of the data
  std::size_t end = 0;
};

struct Header {
  std::vector<TensorInfo> tensors;  // in order of their data
  Metadata metadata;
  std::size_t data_start = 0;  // bytes from the start of the file
};

// Reads and checks a header. `bytes` is the whole file; `source` its name for messages.
Header parse_header(std::span<const std::byte> bytes, const std::string& source);

class SafeTensors {
 public:
  // Maps the file. IoError if it cannot be read, Corrupt as above.
  explicit SafeTensors(const std::filesystem::path& path);

  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  const Metadata& metadata() const { return header_.metadata; }
  const TensorInfo* find(std::string_view name) const;
  // Views of the mapped file (copies where the data is not aligned for its type), alive as long as
  // the tensors are. Writing to one does not change the file. InvalidArgument if there is none of
  // that name, Unsupported if weft has not its type.
  Tensor tensor(std::string_view name) const;
  // All of them, but those whose type weft has not: these are named in `skipped`.
  nn::StateDict state_dict(std::vector<std::string>* skipped = nullptr) const;
  const std::string& source() const { return source_; }
  std::size_t data_start() const { return header_.data_start; }  // bytes from the file's start

 private:
  Tensor view(const TensorInfo& info) const;

  std::string source_;
  std::shared_ptr<void> owner_;
  std::span<std::byte> bytes_;
  Header header_;
};

// safetensors' name of a type of ours, and back.
std::string_view safetensors_type(DType dtype);
std::optional<DType> parse_safetensors_type(std::string_view name);

struct EntryInfo {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
};
// safetensors' own order: wider types first, so that all data is aligned, then names.
bool serializes_before(const EntryInfo& a, const EntryInfo& b);
// The bytes before the data, for entries in that order. Names must be unique and valid UTF-8, else
// InvalidArgument.
std::string make_header(const std::vector<EntryInfo>& entries, const Metadata& metadata);
std::string make_header(const nn::StateDict& tensors, const Metadata& metadata);
nn::StateDict serialize_order(nn::StateDict tensors);

// Replaces the file at once or not at all (AtomicFile). The bytes are those that the safetensors
// package would write. Strided tensors are made contiguous.
void save_safetensors(const std::filesystem::path& path, const nn::StateDict& tensors,
                      const Metadata& metadata = {});

}  // namespace weft::checkpoint
