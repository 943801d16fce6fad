#include "tensor/parallel/single_file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>

#include "tensor/checkpoint/shard_file.h"
#include "tensor/checkpoint/source.h"
#include "tensor/parallel/agree.h"
#include "tensor/parallel/save_job.h"

namespace weft::parallel {
namespace {

namespace fs = std::filesystem;
using checkpoint::EntryInfo;
using checkpoint::serializes_before;
using checkpoint::ShardPiece;

constexpr std::size_t kChunk = std::size_t{4} << 20;  // bytes of a message

template <class Use>  // Use: (offset, size)
void in_chunks(std::size_t bytes, Use use) {
  for (std::size_t at = 0; at < bytes; at += kChunk) use(at, std::min(kChunk, bytes - at));
}

comm::View view(void* data, std::size_t bytes) {
  return {data, Elems(static_cast<std::int64_t>(bytes)), DType::u8};
}

std::string full_name(const std::string& part, const std::string& tensor) {
  return part + "." + tensor;
}

// This rank's pieces in the order of the file.
std::vector<const ShardPiece*> in_file_order(const checkpoint::RankFiles& files) {
  std::vector<std::pair<EntryInfo, const ShardPiece*>> keyed;
  for (std::size_t i = 0; i < files.pieces.size(); ++i) {
    const auto& piece = files.pieces[i];
    const auto name = full_name(files.parts[files.plan[i].part], piece.name);
    keyed.push_back({{name, piece.dtype, piece.shape}, &piece});
  }
  std::sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) {
    if (a.first.name == b.first.name) return a.second->begin < b.second->begin;
    return serializes_before(a.first, b.first);
  });
  std::vector<const ShardPiece*> pieces;
  for (const auto& [info, piece] : keyed) pieces.push_back(piece);
  return pieces;
}

void send_all(const checkpoint::RankFiles& files, Communicator& communicator) {
  for (const auto* piece : in_file_order(files)) {
    const auto data = piece->data();
    auto* const bytes = static_cast<std::byte*>(data.data());
    in_chunks(bytes_of(piece->count, piece->dtype).size(), [&](std::size_t at, std::size_t size) {
      communicator.send(view(bytes + at, size), 0);
    });
  }
}

// What rank 0 makes of them all.
class FileMaker {
 public:
  FileMaker(const fs::path& file, const AgreedSave& agreed, checkpoint::Metadata metadata)
      : own_(in_file_order(agreed.files)) {
    const auto& plan = agreed.plan;
    for (std::size_t rank = 0; rank < plan.places.size(); ++rank) {
      for (const auto& place : plan.places[rank]) {
        owners_[{place.part, place.tensor, place.piece}] = static_cast<int>(rank);
      }
    }
    auto names = nlohmann::json::array();
    for (std::size_t p = 0; p < plan.manifest.parts.size(); ++p) {
      const auto& part = plan.manifest.parts[p];
      names.push_back(part.name);
      for (std::size_t t = 0; t < part.tensors.size(); ++t) {
        const auto& tensor = part.tensors[t];
        const EntryInfo info{full_name(part.name, tensor.name), tensor.dtype, tensor.shape};
        entries_.push_back({info, p, t, &tensor});
      }
    }
    std::sort(entries_.begin(), entries_.end(),
              [](const Entry& a, const Entry& b) { return serializes_before(a.info, b.info); });
    metadata[checkpoint::kPartsKey] = names.dump();
    std::vector<EntryInfo> infos;
    for (const auto& entry : entries_) infos.push_back(entry.info);
    writer_.emplace(file, infos, metadata);
  }

  // Takes what is sent, whether it can be written or not: commit() says so.
  void take_all(Communicator& communicator) {
    std::vector<std::byte> buffer;
    auto own = own_.begin();
    for (const auto& entry : entries_) {
      for (std::size_t i = 0; i < entry.tensor->pieces.size(); ++i) {
        const auto owner = owners_.at({entry.part, entry.index, i});
        const auto size = bytes_of(entry.tensor->pieces[i].count, entry.info.dtype).size();
        if (owner == communicator.rank()) {
          const auto data = (*own++)->data();
          append({static_cast<const std::byte*>(data.data()), size});
          continue;
        }
        buffer.resize(std::min(size, kChunk));
        in_chunks(size, [&](std::size_t, std::size_t part) {
          communicator.recv(view(buffer.data(), part), owner);
          append({buffer.data(), part});
        });
      }
    }
  }

  void commit() {
    if (failure_) std::rethrow_exception(failure_);
    writer_->commit();
  }

 private:
  struct Entry {
    EntryInfo info;
    std::size_t part, index;
    const checkpoint::TensorEntry* tensor;
  };

  void append(std::span<const std::byte> bytes) {
    if (failure_) return;
    try {
      writer_->append(bytes);
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  std::vector<const ShardPiece*> own_;
  std::map<std::tuple<std::size_t, std::size_t, std::size_t>, int> owners_;  // of pieces
  std::vector<Entry> entries_;
  std::optional<checkpoint::TensorFileWriter> writer_;
  std::exception_ptr failure_;
};

}  // namespace

void save_single_file(const fs::path& file, const std::vector<ShardedPart>& parts,
                      const checkpoint::Metadata& metadata, Communicator& communicator) {
  const auto agreed = agree_on_save({.parts = parts}, communicator, true);
  const bool is_root = communicator.rank() == 0;
  std::optional<FileMaker> maker;
  together(communicator, [&] {
    if (is_root) maker.emplace(file, agreed, metadata);
  });
  if (is_root) {
    maker->take_all(communicator);
  } else {
    send_all(agreed.files, communicator);
  }
  together(communicator, [&] {
    if (is_root) maker->commit();
  });
}

}  // namespace weft::parallel
