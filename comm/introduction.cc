#include "comm/introduction.h"

#include <nlohmann/json.hpp>

#include "kernels/base/error.h"
#include "kernels/base/json_whole.h"

namespace weft::comm {

namespace {

Blob blob_of(const nlohmann::json& json) {
  const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return {text.begin(), text.end()};
}

}  // namespace

Blob encode(const Introduction& mine) {
  nlohmann::json json = {{"rank", mine.member.job_rank},    {"host", mine.member.host},
                         {"pid", mine.member.pid},          {"address", mine.endpoint.address},
                         {"port", mine.endpoint.port},      {"lanes", mine.lanes},
                         {"connections", mine.connections}, {"transport", mine.transport},
                         {"locality", mine.locality}};
  if (!mine.tuning.name.empty()) {
    json["tuning"] = {mine.tuning.name, mine.tuning.text, mine.tuning.error};
  }
  if (!mine.trouble.empty()) json["trouble"] = mine.trouble;
  return blob_of(json);
}

Introduction decode_introduction(std::span<const std::uint8_t> bytes) {
  try {
    const auto json = nlohmann::json::parse(bytes.begin(), bytes.end());
    Introduction theirs;
    theirs.member.job_rank = whole<int>(json.at("rank"));
    theirs.member.host = json.at("host").get<std::string>();
    theirs.member.pid = whole<std::int64_t>(json.at("pid"));
    theirs.endpoint.address = json.at("address").get<std::string>();
    theirs.endpoint.port = whole<std::uint16_t>(json.at("port"));
    theirs.lanes = whole<int>(json.at("lanes"));
    theirs.connections = whole<int>(json.at("connections"));
    theirs.transport = whole<int>(json.at("transport"));
    theirs.locality = json.at("locality").get<Locality>();
    if (const auto at = json.find("tuning"); at != json.end()) {
      theirs.tuning = {at->at(0).get<std::string>(), at->at(1).get<std::string>(),
                       at->at(2).get<std::string>()};
    }
    theirs.trouble = json.value("trouble", std::string());
    return theirs;
  } catch (const nlohmann::json::exception& error) {
    fail<Corrupt>(
        "connect: a rank's introduction cannot be read ({}); do all ranks run the same "
        "version of weft?",
        error.what());
  }
}

Blob encode(const Readiness& mine) {
  nlohmann::json json = nlohmann::json::object();
  if (!mine.clock.empty()) json["clock"] = mine.clock;
  if (!mine.trouble.empty()) {
    json["trouble"] = mine.trouble;
    json["code"] = static_cast<int>(mine.code);
  }
  return blob_of(json);
}

Readiness decode_readiness(std::span<const std::uint8_t> bytes) {
  try {
    const auto json = nlohmann::json::parse(bytes.begin(), bytes.end());
    Readiness theirs;
    theirs.clock = json.value("clock", std::string());
    theirs.trouble = json.value("trouble", std::string());
    if (theirs.trouble.empty()) return theirs;
    const int code = whole<int>(json.at("code"));
    if (code >= 0 && code < kErrorCodeCount) theirs.code = static_cast<ErrorCode>(code);
    return theirs;
  } catch (const nlohmann::json::exception& error) {
    fail<Corrupt>(
        "connect: what a rank says of its links cannot be read ({}); do all ranks run the same "
        "version of weft?",
        error.what());
  }
}

}  // namespace weft::comm
