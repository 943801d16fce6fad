// A checkpoint on the disk, whoever wrote it: a sharded directory (manifest.json), a training
// step's directory (state.json, training.h), or one safetensors file. All give whole tensors, or
// any range of them.
//
// Reading, nothing is trusted: sizes and checksums are those of the manifest, and every file's own
// header says the same. Corrupt names file, tensor, what was expected and found. Threading: one
// thread.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tensor/checkpoint/manifest.h"
#include "tensor/checkpoint/safetensors.h"
#include "tensor/nn/module.h"
#include "tensor/nn/state_dict.h"

namespace weft::checkpoint {

inline constexpr const char* kManifestFile = "manifest.json";
// In the metadata of a single file that holds a whole checkpoint: its parts' names (tensors are
// called "PART.NAME" then), what Manifest::state and rank_states say. JSON.
inline constexpr const char* kPartsKey = "weft.parts";
inline constexpr const char* kStateKey = "weft.state";
inline constexpr const char* kRanksKey = "weft.ranks";

class Source {
 public:
  // Reads manifest or headers, no data. IoError where there is nothing, or it cannot be read.
  static Source open(const std::filesystem::path& path);
  ~Source();
  Source(Source&&) noexcept;
  Source& operator=(Source&&) noexcept;

  const Manifest& manifest() const;
  std::string name() const;  // the path, for messages
  bool is_sharded() const;   // manifest.json
  // Of what `manifest()` says: equal where two processes see the same checkpoint.
  std::uint64_t fingerprint() const;

  // The file is there, whole, as it was written, and its header agrees. Reads all of it. A single
  // file has no checksum; then its structure is checked.
  void verify(std::size_t file) const;
  void verify_all() const;

  // Calls the part's tensors what the module calls them (Hugging Face's names of a GPT-2, say), and
  // drops what it has no use for. Mismatch as Module::adapted().
  void adapt(const std::string& part, const nn::Module& module);

  // Elements [begin, begin + to.numel()) into `to`, converted to its type: contiguous, any device.
  // Call verify() first, in some process: these reads check no sums. IoError.
  void read(const TensorEntry& tensor, Elems begin, const Tensor& to) const;
  // Whole: a view of the file where it lies there in one piece (SafeTensors), else put together.
  Tensor tensor(const TensorEntry& tensor) const;
  // Of a part; Mismatch where there is none of that name, naming those that are there.
  nn::StateDict state_dict(const std::string& part) const;
  const PartEntry& part(const std::string& name) const;
  // Small texts that went along: "metadata" of Manifest::state, a single file's own.
  Metadata metadata() const;

 private:
  struct Impl;
  explicit Source(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft::checkpoint
