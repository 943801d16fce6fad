#include "comm/join_memory.h"

#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "kernels/base/error.h"

namespace weft::comm {

namespace {

using Json = nlohmann::json;

Blob encode(const Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return {text.begin(), text.end()};
}

Json decode(const Blob& blob) { return Json::parse(blob.begin(), blob.end()); }

Json describe(const shm::Invitation& mine) {
  return {{"pid", mine.area.pid},
          {"area", mine.area.fd},
          {"bell", mine.bell.fd},
          {"bytes", mine.bytes},
          {"nonce", mine.nonce}};
}

shm::Invitation invitation_of(const Json& json) {
  shm::Invitation theirs;
  theirs.area = {json.at("pid").get<std::int64_t>(), json.at("area").get<int>()};
  theirs.bell = {theirs.area.pid, json.at("bell").get<int>()};
  theirs.bytes = json.at("bytes").get<std::uint64_t>();
  theirs.nonce = json.at("nonce").get<std::uint64_t>();
  return theirs;
}

// The first trouble among the candidates, "" if none; tells who had it.
std::string first_trouble(const MemoryCandidates& candidates, const std::vector<Json>& said) {
  for (const int rank : candidates.ranks) {
    const auto& json = said[static_cast<std::size_t>(rank)];
    const auto text = json.value("trouble", std::string());
    if (!text.empty()) {
      return fmt::format("rank {}: {}", candidates.names[static_cast<std::size_t>(rank)], text);
    }
  }
  return {};
}

}  // namespace

std::shared_ptr<shm::Host> join_memory(const MemoryCandidates& candidates,
                                       const Exchange& exchange) {
  const bool wanted = candidates.ranks.size() > 1;
  std::shared_ptr<shm::Host> host;
  const auto all_say = [&](const char* what, const Json& mine) {
    std::vector<Json> said;
    for (const Blob& blob : exchange(what, encode(mine))) said.push_back(decode(blob));
    return said;
  };
  const auto attempt = [](auto&& body) {
    try {
      return body();
    } catch (const Error& error) {
      return Json{{"trouble", error.what()}};
    }
  };
  const Json mine = attempt([&] {
    if (!wanted) return Json::object();
    host = std::make_shared<shm::Host>(candidates.ranks, candidates.self, candidates.lanes);
    return describe(host->invitation());
  });
  const std::vector<Json> invitations = all_say("memory/area", mine);
  std::string trouble = first_trouble(candidates, invitations);
  const Json verdict = attempt([&] {
    if (!wanted || !trouble.empty()) return Json::object();
    std::vector<shm::Invitation> others;
    for (const int rank : candidates.ranks) {
      others.push_back(invitation_of(invitations[static_cast<std::size_t>(rank)]));
    }
    host->accept(others);
    return Json::object();
  });
  const std::vector<Json> verdicts = all_say("memory/mapped", verdict);
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
