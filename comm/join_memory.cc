#include "comm/join_memory.h"

#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "kernels/base/error.h"
#include "kernels/base/json_whole.h"

namespace weft::comm {

namespace {

// The first trouble among the candidates, "" if none; tells who had it.
std::string first_trouble(const MemoryCandidates& candidates, const std::vector<MemoryWord>& said) {
  for (const int rank : candidates.ranks) {
    const auto& text = said[static_cast<std::size_t>(rank)].trouble;
    if (!text.empty()) {
      return fmt::format("rank {}: {}", candidates.names[static_cast<std::size_t>(rank)], text);
    }
  }
  return {};
}

}  // namespace

Blob encode(const MemoryWord& mine) {
  nlohmann::json json = nlohmann::json::object();
  if (!mine.trouble.empty()) json["trouble"] = mine.trouble;
  if (const auto& invitation = mine.invitation) {
    json.update({{"pid", invitation->area.pid},
                 {"area", invitation->area.fd},
                 {"bell", invitation->bell.fd},
                 {"bytes", invitation->bytes},
                 {"nonce", invitation->nonce}});
  }
  const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return {text.begin(), text.end()};
}

MemoryWord decode_memory_word(std::span<const std::uint8_t> bytes) {
  try {
    const auto json = nlohmann::json::parse(bytes.begin(), bytes.end());
    MemoryWord theirs;
    theirs.trouble = json.value("trouble", std::string());
    if (!json.contains("area")) return theirs;
    shm::Invitation& invitation = theirs.invitation.emplace();
    invitation.area = {whole<std::int64_t>(json.at("pid")), whole<int>(json.at("area"))};
    invitation.bell = {invitation.area.pid, whole<int>(json.at("bell"))};
    invitation.bytes = whole<std::uint64_t>(json.at("bytes"));
    invitation.nonce = whole<std::uint64_t>(json.at("nonce"));
    return theirs;
  } catch (const nlohmann::json::exception& error) {
    fail<Corrupt>(
        "connect: what a rank says of its shared memory cannot be read ({}); do all ranks run the "
        "same version of weft?",
        error.what());
  }
}

std::shared_ptr<shm::Host> join_memory(const MemoryCandidates& candidates,
                                       const Exchange& exchange) {
  const bool wanted = candidates.ranks.size() > 1;
  std::shared_ptr<shm::Host> host;
  const auto all_say = [&](const char* what, const MemoryWord& mine) {
    std::vector<MemoryWord> said;
    for (const Blob& blob : exchange(what, encode(mine))) said.push_back(decode_memory_word(blob));
    return said;
  };
  const auto attempt = [](auto&& body) {
    MemoryWord mine;
    try {
      body(mine);
    } catch (const std::exception& error) {
      mine = {error.what(), std::nullopt};
    }
    return mine;
  };
  const MemoryWord mine = attempt([&](MemoryWord& word) {
    if (!wanted) return;
    host = std::make_shared<shm::Host>(candidates.ranks, candidates.self, candidates.lanes);
    word.invitation = host->invitation();
  });
  const std::vector<MemoryWord> said = all_say("memory/area", mine);
  std::string trouble = first_trouble(candidates, said);
  const MemoryWord verdict = attempt([&](MemoryWord&) {
    if (!wanted || !trouble.empty()) return;
    std::vector<shm::Invitation> others;
    for (const int rank : candidates.ranks) {
      const auto& invitation = said[static_cast<std::size_t>(rank)].invitation;
      if (!invitation) fail<Corrupt>("rank {} says nothing of its memory", rank);
      others.push_back(*invitation);
    }
    host->accept(others);
  });
  const std::vector<MemoryWord> verdicts = all_say("memory/mapped", verdict);
  if (trouble.empty()) trouble = first_trouble(candidates, verdicts);
  if (trouble.empty()) return wanted ? host : nullptr;
  if (candidates.required) {
    fail<IoError>("connect: shared memory was asked for, but {}", trouble);
  }
  if (candidates.self == 0) {
    spdlog::warn("the ranks of this host talk over TCP, since they cannot share memory: {}",
                 trouble);
  }
  return nullptr;
}

}  // namespace weft::comm
