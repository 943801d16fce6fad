// The rules of the store's keys and exchanges, without sockets and with a clock of our own.
#include "comm/rendezvous/key_table.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/rendezvous/bytes.h"
#include "tests/rendezvous/store_world.h"

namespace weft::comm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class KeyTableTest : public testing::Test {
 protected:
  struct Answer {
    std::uint8_t code = 255;  // none yet
    Blob body;
  };
  // Rank r has connection r + 1.
  KeyTable::Caller caller(std::int32_t rank) {
    return {static_cast<std::uint64_t>(rank) + 1, ++requests_, rank};
  }
  std::uint64_t get(std::int32_t rank, std::string key, std::int64_t timeout_ms) {
    const auto who = caller(rank);
    table_.get(who, {std::move(key), timeout_ms, {}}, now_);
    return who.request;
  }
  std::uint64_t exchange(std::int32_t rank, std::vector<std::int32_t> participants,
                         std::string_view mine, std::int64_t timeout_ms = 1000) {
    const auto who = caller(rank);
    const Blob bytes = blob(mine);
    table_.exchange(who, {"x", timeout_ms, std::move(participants), bytes}, now_);
    return who.request;
  }
  std::uint64_t set(std::int32_t rank, std::string key, std::string_view value) {
    const auto who = caller(rank);
    const Blob bytes = blob(value);
    table_.set(who, {std::move(key), 0, bytes});
    return who.request;
  }
  std::string gathered(std::uint64_t request) {
    std::string all;
    for (const Blob& one : decode_exchanged(answers_[request].body)) all += text(one) + "|";
    return all;
  }
  void pass(std::chrono::milliseconds time) { table_.expire(now_ += time); }
  bool refused(std::uint64_t request, ErrorCode code) {
    return answers_[request].code == code_byte(code);
  }

  std::map<std::uint64_t, Answer> answers_;
  KeyTable table_{[this](const KeyTable::Caller& to, std::uint8_t code, const SharedBlob& body) {
                    EXPECT_EQ(answers_[to.request].code, 255) << "answered twice";
                    answers_[to.request] = {code, body ? *body : Blob()};
                  },
                  [](std::span<const std::int32_t>) { return std::string("an excuse"); },
                  {20, 1000}};
  KeyTable::Time now_{};
  std::uint64_t requests_ = 0;
};

TEST_F(KeyTableTest, TheEarliestDeadlineComesFirst) {
  const auto slow = get(0, "a", 500);
  const auto fast = get(1, "a", 100);
  EXPECT_EQ(table_.next_deadline(), now_ + 100ms);
  pass(99ms);
  EXPECT_EQ(answers_.size(), 0u);
  pass(1ms);
  EXPECT_TRUE(refused(fast, ErrorCode::timeout));
  EXPECT_THAT(text(answers_[fast].body), HasSubstr("'a' was not set within 100 ms"));
  set(2, "a", "v");
  EXPECT_EQ(text(answers_[slow].body), "v");
  EXPECT_FALSE(table_.next_deadline());
}

TEST_F(KeyTableTest, NegativeAndEndlessTimeoutsAreBounded) {
  const auto negative = get(0, "a", -5);
  get(0, "b", std::numeric_limits<std::int64_t>::max());
  pass(0ms);
  EXPECT_TRUE(refused(negative, ErrorCode::timeout));
  EXPECT_EQ(table_.next_deadline(), now_ + kTimeoutMax);
}

TEST_F(KeyTableTest, ACounterIsNoText) {
  set(0, "n", "12");
  const auto who = caller(0);
  table_.add(who, {"n", 1, {}});
  EXPECT_TRUE(refused(who.request, ErrorCode::mismatch));
  const auto wrap = caller(0);
  table_.add(caller(0), {"w", std::numeric_limits<std::int64_t>::max(), {}});
  table_.add(wrap, {"w", 1, {}});
  EXPECT_EQ(decode_number(answers_[wrap.request].body), std::numeric_limits<std::int64_t>::min());
}

TEST_F(KeyTableTest, ExchangeNamesWhoIsMissing) {
  const std::vector<std::int32_t> all{0, 1, 2, 3, 4, 5};
  const auto first = exchange(0, all, "0", 100);
  const auto second = exchange(2, all, "2", 150);
  pass(100ms);
  EXPECT_TRUE(refused(first, ErrorCode::timeout));
  EXPECT_THAT(text(answers_[first].body), HasSubstr("missing: ranks 1, 3-5"));
  EXPECT_THAT(text(answers_[first].body), HasSubstr("an excuse"));
  pass(50ms);
  EXPECT_THAT(text(answers_[second].body),
              HasSubstr("missing: ranks 1, 3-5; came and gave up: rank 0"));
}

TEST_F(KeyTableTest, WhoGaveUpMayComeAgain) {
  const auto late = exchange(0, {0, 1}, "early", 100);
  const auto patient = exchange(1,
                                {
                                    0,
                                    1,
                                },
                                "b", 1);
  EXPECT_EQ(gathered(late), "early|b|");
  EXPECT_EQ(gathered(patient), "early|b|");
  const auto gave_up = exchange(0, {0, 1}, "old", 10);
  pass(10ms);
  EXPECT_TRUE(refused(gave_up, ErrorCode::timeout));
  const auto waits = exchange(1, {0, 1}, "b");
  const auto again = exchange(0, {0, 1}, "new");
  EXPECT_EQ(gathered(waits), "new|b|");
  EXPECT_EQ(gathered(again), "new|b|");
}

TEST_F(KeyTableTest, DifferentListsAreAMismatchForEveryone) {
  const auto a = exchange(0, {0, 1, 2}, "a");
  const auto b = exchange(1, {1, 0, 2}, "b");
  const auto c = exchange(2, {0, 1, 2}, "c");
  for (const auto request : {a, b, c}) {
    EXPECT_TRUE(refused(request, ErrorCode::mismatch));
    EXPECT_THAT(text(answers_[request].body), HasSubstr("[0, 1, 2]"));
    EXPECT_THAT(text(answers_[request].body), HasSubstr("[1, 0, 2]"));
  }
  // All have been told: the key is good for another try.
  exchange(0, {0, 1}, "x");
  EXPECT_EQ(gathered(exchange(1, {0, 1}, "y")), "x|y|");
}

TEST_F(KeyTableTest, BadListsAreTheCallersMistake) {
  EXPECT_TRUE(refused(exchange(0, {0, 1, 0}, ""), ErrorCode::invalid_argument));
  EXPECT_TRUE(refused(exchange(0, {1, 2}, ""), ErrorCode::invalid_argument));
  EXPECT_TRUE(refused(exchange(0, {}, ""), ErrorCode::invalid_argument));
  exchange(0, {0, 1}, "");
  EXPECT_TRUE(refused(exchange(0, {0, 1}, ""), ErrorCode::invalid_argument));
}

TEST_F(KeyTableTest, AForgottenConnectionLeavesNothingBehind) {
  get(0, "a", 1000);
  exchange(0, {0, 1}, "0");
  const auto other = exchange(1, {0, 1}, "1");
  EXPECT_EQ(gathered(other), "0|1|");
  exchange(0, {0, 1}, "gone");
  table_.forget(1);
  EXPECT_FALSE(table_.next_deadline());
  const auto waits = exchange(1, {0, 1}, "1");
  EXPECT_EQ(answers_.count(waits), 0u);
  exchange(0, {0, 1}, "back");
  EXPECT_EQ(gathered(waits), "back|1|");
}

TEST_F(KeyTableTest, TheStoreHasABound) {
  for (int i = 0; i < 10; ++i) set(0, fmt::format("k{}", i), std::string(100, 'v'));
  const auto bytes = set(0, "one more", "v");
  EXPECT_TRUE(refused(bytes, ErrorCode::invalid_argument));
  EXPECT_THAT(text(answers_[bytes].body), HasSubstr("full: 10 keys, 1000 bytes"));
  EXPECT_TRUE(refused(exchange(0, {0, 1}, "v"), ErrorCode::invalid_argument));
  for (int i = 0; i < 10; ++i) set(0, fmt::format("k{}", i), "small");
  for (int i = 10; i < 20; ++i) set(0, fmt::format("k{}", i), "");
  EXPECT_TRUE(refused(set(0, "one more", ""), ErrorCode::invalid_argument));
  EXPECT_EQ(answers_[set(0, "k3", "known keys go on")].code, 0);
  table_.erase(caller(0), {"k0", 0, {}});
  EXPECT_EQ(answers_[set(0, "one more", "")].code, 0);
}

}  // namespace
}  // namespace weft::comm
