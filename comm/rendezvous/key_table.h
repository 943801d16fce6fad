// What the store keeps: keys, callers that wait for one, and exchanges under way. Knows no socket
// and reads no clock, so that its rules can be tested alone. Not thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "comm/rendezvous/wire.h"

namespace weft::comm {

class KeyTable {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Caller {
    std::uint64_t connection = 0;
    std::uint64_t request = 0;
    std::int32_t rank = 0;
  };
  // code: 0 and the result, or 1 + ErrorCode and the error's text.
  using Reply = std::function<void(const Caller&, std::uint8_t code, SharedBlob body)>;
  // A word on ranks that have not come: "never connected: 3-5".
  using Excuse = std::function<std::string(std::span<const std::int32_t> missing)>;

  struct Limits {
    std::size_t keys = std::size_t{1} << 20;
    std::size_t bytes = std::size_t{1} << 30;  // of all values and blobs
  };

  KeyTable(Reply reply, Excuse excuse) : KeyTable(std::move(reply), std::move(excuse), Limits{}) {}
  KeyTable(Reply reply, Excuse excuse, Limits limits);

  void set(const Caller& caller, const CallBody& call);
  void get(const Caller& caller, const CallBody& call, Time now);
  void add(const Caller& caller, const CallBody& call);
  void erase(const Caller& caller, const CallBody& call);
  void exchange(const Caller& caller, const ExchangeBody& call, Time now);

  void forget(std::uint64_t connection);  // it is gone: nobody to reply to
  void drop_waiting();                    // the job has failed: nobody waits any more
  std::optional<Time> next_deadline() const;
  void expire(Time now);

 private:
  using WaitKey = std::pair<Time, std::uint64_t>;
  struct Wait {
    Caller caller;
    std::string key;
    std::int64_t timeout_ms = 0;
    bool exchange = false;
  };
  struct Contribution {
    WaitKey wait;
    SharedBlob blob;
  };
  struct Round {
    std::vector<std::int32_t> participants;
    std::map<std::int32_t, Contribution> arrived;
    std::set<std::int32_t> gave_up;  // came, and went when their time was up
    std::string spoilt;              // why it failed; then:
    std::set<std::int32_t> to_tell;  // who will come yet and must hear of it
  };

  WaitKey wait(const Caller& caller, const std::string& key, std::int64_t timeout_ms, bool exchange,
               Time now);
  void store(const std::string& key, SharedBlob value);
  bool has_room(const Caller& caller, std::size_t bytes, std::size_t replaced, bool new_key);
  void refuse(const Caller& caller, ErrorCode code, std::string_view text);
  std::string flaw_of(const Caller& caller, const ExchangeBody& call) const;
  void spoil(const std::string& key, Round& round, const Caller& caller, const ExchangeBody& call);
  void finish(const std::string& key, Round& round);
  void withdraw(const Wait& wait, bool late);
  std::string why_late(const Wait& wait) const;

  Reply reply_;
  Excuse excuse_;
  const Limits limits_;
  std::unordered_map<std::string, SharedBlob> values_;
  std::size_t bytes_ = 0;
  std::map<WaitKey, Wait> waits_;
  std::uint64_t waits_made_ = 0;
  std::unordered_map<std::string, std::vector<WaitKey>> getters_;
  std::unordered_map<std::string, Round> rounds_;
};

}  // namespace weft::comm
