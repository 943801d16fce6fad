#include "comm/rendezvous/key_table.h"

#include <fmt/format.h>

#include <algorithm>

#include "comm/rendezvous/bytes.h"
#include "comm/rendezvous/rank_names.h"

namespace weft::comm {
namespace {

SharedBlob shared(std::span<const std::uint8_t> bytes) {
  return std::make_shared<const Blob>(bytes.begin(), bytes.end());
}

}  // namespace

KeyTable::KeyTable(Reply reply, Excuse excuse, Limits limits)
    : reply_(std::move(reply)), excuse_(std::move(excuse)), limits_(limits) {}

void KeyTable::refuse(const Caller& caller, ErrorCode code, std::string_view text) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(text.data());
  reply_(caller, code_byte(code), shared({data, text.size()}));
}

bool KeyTable::has_room(const Caller& caller, std::size_t bytes, std::size_t replaced,
                        bool new_key) {
  const std::size_t keys = values_.size() + rounds_.size();
  if ((!new_key || keys < limits_.keys) && bytes_ - replaced + bytes <= limits_.bytes) return true;
  refuse(caller, ErrorCode::invalid_argument,
         fmt::format("the store is full: {} keys, {} bytes (at most {} and {}); erase keys that "
                     "are no longer needed, and keep bulk data out of it",
                     keys, bytes_, limits_.keys, limits_.bytes));
  return false;
}

void KeyTable::store(const std::string& key, SharedBlob value) {
  SharedBlob& slot = values_[key];
  if (slot) bytes_ -= slot->size();
  bytes_ += value->size();
  slot = value;
  const auto waiting = getters_.find(key);
  if (waiting == getters_.end()) return;
  const auto getters = std::move(waiting->second);
  getters_.erase(waiting);
  for (const WaitKey& getter : getters) {
    const auto found = waits_.find(getter);
    if (found == waits_.end()) continue;
    const Caller caller = found->second.caller;
    waits_.erase(found);
    reply_(caller, 0, value);
  }
}

void KeyTable::set(const Caller& caller, const CallBody& call) {
  const auto known = values_.find(call.key);
  const bool is_new = known == values_.end();
  if (!has_room(caller, call.value.size(), is_new ? 0 : known->second->size(), is_new)) return;
  store(call.key, shared(call.value));
  reply_(caller, 0, nullptr);
}

void KeyTable::add(const Caller& caller, const CallBody& call) {
  const auto found = values_.find(call.key);
  std::uint64_t sum = static_cast<std::uint64_t>(call.number);
  if (found != values_.end()) {
    if (found->second->size() != sizeof(sum)) {
      return refuse(caller, ErrorCode::mismatch,
                    fmt::format("'{}' holds {} bytes, not a counter: add() needs a key that only "
                                "add() has written",
                                call.key, found->second->size()));
    }
    sum += static_cast<std::uint64_t>(decode_number(*found->second));
  } else if (!has_room(caller, sizeof(sum), 0, true)) {
    return;
  }
  const auto value = std::make_shared<const Blob>(encode_number(static_cast<std::int64_t>(sum)));
  store(call.key, value);
  reply_(caller, 0, value);
}

void KeyTable::erase(const Caller& caller, const CallBody& call) {
  const auto found = values_.find(call.key);
  if (found != values_.end()) {
    bytes_ -= found->second->size();
    values_.erase(found);
  }
  reply_(caller, 0, nullptr);
}

KeyTable::WaitKey KeyTable::wait(const Caller& caller, const std::string& key,
                                 std::int64_t timeout_ms, bool exchange, Time now) {
  timeout_ms = std::clamp<std::int64_t>(timeout_ms, 0, kTimeoutMax.count());
  const WaitKey id{now + std::chrono::milliseconds(timeout_ms), ++waits_made_};
  waits_.emplace(id, Wait{caller, key, timeout_ms, exchange});
  return id;
}

void KeyTable::get(const Caller& caller, const CallBody& call, Time now) {
  const auto found = values_.find(call.key);
  if (found != values_.end()) return reply_(caller, 0, found->second);
  getters_[call.key].push_back(wait(caller, call.key, call.number, false, now));
}

std::string KeyTable::flaw_of(const Caller& caller, const ExchangeBody& call) const {
  const std::set<std::int32_t> distinct(call.participants.begin(), call.participants.end());
  if (distinct.size() != call.participants.size()) {
    return fmt::format("exchange '{}': a rank occurs twice among the participants ({})", call.key,
                       name_of_ranks(call.participants));
  }
  if (!distinct.contains(caller.rank)) {
    return fmt::format("exchange '{}': {} is not among the participants ({})", call.key,
                       name_of_rank(caller.rank), name_of_ranks(call.participants));
  }
  const auto round = rounds_.find(call.key);
  if (round != rounds_.end() && round->second.arrived.contains(caller.rank)) {
    return fmt::format("exchange '{}': {} is in it already, from another thread", call.key,
                       name_of_rank(caller.rank));
  }
  return {};
}

void KeyTable::exchange(const Caller& caller, const ExchangeBody& call, Time now) {
  const std::string flaw = flaw_of(caller, call);
  if (!flaw.empty()) return refuse(caller, ErrorCode::invalid_argument, flaw);
  if (!has_room(caller, call.mine.size(), 0, !rounds_.contains(call.key))) return;
  Round& round = rounds_[call.key];
  if (round.to_tell.contains(caller.rank)) {
    refuse(caller, ErrorCode::mismatch, round.spoilt);
    round.to_tell.erase(caller.rank);
    if (round.to_tell.empty()) rounds_.erase(call.key);
    return;
  }
  if (!round.spoilt.empty()) round = Round{};  // a rank that has been told tries again
  if (round.participants.empty()) round.participants = call.participants;
  if (round.participants != call.participants) return spoil(call.key, round, caller, call);
  bytes_ += call.mine.size();
  round.gave_up.erase(caller.rank);
  round.arrived[caller.rank] = {wait(caller, call.key, call.timeout_ms, true, now),
                                shared(call.mine)};
  if (round.arrived.size() == round.participants.size()) finish(call.key, round);
}

void KeyTable::spoil(const std::string& key, Round& round, const Caller& caller,
                     const ExchangeBody& call) {
  const std::int32_t other = round.arrived.begin()->first;
  round.spoilt = fmt::format(
      "exchange '{}': {} names the participants [{}], {} names [{}]: all must give the same list "
      "in the same order",
      key, name_of_rank(other), fmt::join(round.participants, ", "), name_of_rank(caller.rank),
      fmt::join(call.participants, ", "));
  round.to_tell.insert(round.participants.begin(), round.participants.end());
  round.to_tell.insert(call.participants.begin(), call.participants.end());
  round.to_tell.erase(caller.rank);
  refuse(caller, ErrorCode::mismatch, round.spoilt);
  for (const auto& [rank, contribution] : round.arrived) {
    round.to_tell.erase(rank);
    bytes_ -= contribution.blob->size();
    const auto found = waits_.find(contribution.wait);
    refuse(found->second.caller, ErrorCode::mismatch, round.spoilt);
    waits_.erase(found);
  }
  round.arrived.clear();
  if (round.to_tell.empty()) rounds_.erase(key);
}

void KeyTable::finish(const std::string& key, Round& round) {
  ByteWriter out;
  out.integer(static_cast<std::uint32_t>(round.participants.size()));
  for (const std::int32_t rank : round.participants) {
    const Blob& blob = *round.arrived.at(rank).blob;
    out.integer(static_cast<std::uint32_t>(blob.size()));
    out.bytes(blob);
  }
  const auto all = std::make_shared<const Blob>(out.take());
  const bool fits = all->size() <= kBodyBytesMax;
  for (const auto& [rank, contribution] : round.arrived) {
    bytes_ -= contribution.blob->size();
    const auto found = waits_.find(contribution.wait);
    const Caller caller = found->second.caller;
    waits_.erase(found);
    if (fits) {
      reply_(caller, 0, all);
    } else {
      refuse(caller, ErrorCode::invalid_argument,
             fmt::format("exchange '{}': {} bytes together, at most {} fit one reply; give less, "
                         "or use the communicator for bulk data",
                         key, all->size(), kBodyBytesMax));
    }
  }
  rounds_.erase(key);
}

void KeyTable::withdraw(const Wait& wait, bool late) {
  if (!wait.exchange) {
    const auto getters = getters_.find(wait.key);
    if (getters == getters_.end()) return;
    std::erase_if(getters->second, [&](const WaitKey& id) { return !waits_.contains(id); });
    if (getters->second.empty()) getters_.erase(getters);
    return;
  }
  const auto round = rounds_.find(wait.key);
  if (round == rounds_.end()) return;
  const auto contribution = round->second.arrived.find(wait.caller.rank);
  if (contribution == round->second.arrived.end()) return;
  bytes_ -= contribution->second.blob->size();
  round->second.arrived.erase(contribution);
  if (late) round->second.gave_up.insert(wait.caller.rank);
  if (round->second.arrived.empty()) rounds_.erase(round);
}

std::string KeyTable::why_late(const Wait& wait) const {
  if (!wait.exchange) {
    return fmt::format("the key '{}' was not set within {} ms", wait.key, wait.timeout_ms);
  }
  const Round& round = rounds_.at(wait.key);
  std::vector<std::int32_t> missing;
  for (const std::int32_t rank : round.participants) {
    const bool came = round.arrived.contains(rank) || round.gave_up.contains(rank);
    if (!came) missing.push_back(rank);
  }
  const std::vector<std::int32_t> gave_up(round.gave_up.begin(), round.gave_up.end());
  std::string text = fmt::format(
      "exchange '{}' among {} ranks: not complete within {} ms, missing: "
      "{}{}",
      wait.key, round.participants.size(), wait.timeout_ms,
      missing.empty() ? "none now" : name_of_ranks(missing),
      gave_up.empty() ? "" : fmt::format("; came and gave up: {}", name_of_ranks(gave_up)));
  const std::string excuse = excuse_(missing);
  return excuse.empty() ? text : text + " (" + excuse + ")";
}

void KeyTable::expire(Time now) {
  while (!waits_.empty() && waits_.begin()->first.first <= now) {
    const Wait late = waits_.begin()->second;
    const std::string why = why_late(late);  // before it is withdrawn: it counts as there
    waits_.erase(waits_.begin());
    withdraw(late, true);
    refuse(late.caller, ErrorCode::timeout, why);
  }
}

std::optional<KeyTable::Time> KeyTable::next_deadline() const {
  if (waits_.empty()) return std::nullopt;
  return waits_.begin()->first.first;
}

void KeyTable::forget(std::uint64_t connection) {
  for (auto at = waits_.begin(); at != waits_.end();) {
    if (at->second.caller.connection != connection) {
      ++at;
      continue;
    }
    const Wait gone = at->second;
    at = waits_.erase(at);
    withdraw(gone, false);
  }
}

void KeyTable::drop_waiting() {
  waits_.clear();
  getters_.clear();
  for (const auto& [key, round] : rounds_) {
    for (const auto& [rank, contribution] : round.arrived) bytes_ -= contribution.blob->size();
  }
  rounds_.clear();
}

}  // namespace weft::comm
