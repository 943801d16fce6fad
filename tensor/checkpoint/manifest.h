// What a sharded checkpoint consists of: manifest.json beside its files.
//
//   {"format": "weft sharded checkpoint", "version": 1, "checksum": XXH3 of all the rest,
//    "world_size": 2,
//    "files": {"model-00000-of-00002.safetensors": {"part": "model", "bytes": n, "xxh3": hex}},
//    "parts": {"model": {TENSOR: {"dtype": "F32", "shape": [..], "pieces":
//              [{"file": name, "begin": element, "count": elements, "offset": bytes into the file,
//                "xxh3": hex of these bytes}, ..]}}},
//    "state": what the program saved with it, "ranks": [the same by rank]}
//
// Manifests are not trusted: parse_manifest() gives one whose files have plain names, whose pieces
// cover every tensor in order without hole or overlap, and lie inside their files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/units.h"
#include "tensor/tensor.h"

namespace weft::checkpoint {

struct FileEntry {
  std::string name;  // in the checkpoint's directory
  std::string part;
  std::uint64_t bytes = 0;
  std::optional<std::uint64_t> xxh3;  // none: of a file that was saved alone
};

struct PieceEntry {
  std::size_t file = 0;  // in Manifest::files
  Elems begin;           // in the whole tensor, row-major
  Elems count;
  std::uint64_t offset = 0;  // of its bytes in the file
  std::optional<std::uint64_t> xxh3;
};

struct TensorEntry {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::vector<PieceEntry> pieces;  // in order; none where the tensor has no elements
};

struct PartEntry {  // "model", "optimizer"
  std::string name;
  std::vector<TensorEntry> tensors;  // ordered by name
};

struct Manifest {
  int world_size = 1;  // who wrote it
  std::vector<FileEntry> files;
  std::vector<PartEntry> parts;          // ordered by name
  std::string state = "{}";              // a JSON object
  std::vector<std::string> rank_states;  // likewise, one a rank; or none

  const PartEntry* find(std::string_view part) const;
  const TensorEntry* find(std::string_view part, std::string_view tensor) const;
};

Elems elements_of(const Shape& shape);

// What the piece is called inside its file: the tensor's name where it is all of it, else
// "NAME[BEGIN:END]".
std::string piece_name(const std::string& tensor, const Shape& shape, Elems begin, Elems count);
// "model-00001-of-00004.safetensors"
std::string shard_file_name(const std::string& part, int rank, int world_size);
std::string hex(std::uint64_t xxh3);

// InvalidArgument where a name is not UTF-8, or `state` not a JSON object.
std::string to_text(const Manifest& manifest);
// Corrupt names `source`, the tensor, what was expected and found; Unsupported another version.
Manifest parse_manifest(std::string_view text, const std::string& source);

// InvalidArgument unless it may be a part's name: letters, digits, '_' and '.', and not beginning
// with a dot.
void check_part_name(const std::string& part);

}  // namespace weft::checkpoint
