// Bad arguments are told before anything is sent, and leave the communicator usable.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>

#include "comm/environment.h"
#include "tests/comm/world.h"
#include "tests/support/scratch.h"

namespace weft::comm {
namespace {

using ::testing::AllOf;
using testing::Backend;
using ::testing::HasSubstr;

template <class Call>
std::string refusal(Call&& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another error: ") + error.what();
  }
  return "accepted";
}

TEST(Arguments, AreCheckedBeforeAnythingIsSent) {
  testing::expect_world(Backend{"inproc"}, 2, [](Communicator& world) {
    std::vector<float> a(10, 1.0f);
    std::vector<double> d(10);
    const std::span<float> all(a);
    const View two = all.subspan(0, 2);
    const std::string who = fmt::format("rank {}", world.rank());
    EXPECT_THAT(refusal([&] { world.all_reduce(View(nullptr, Elems(3), DType::f32)); }),
                AllOf(HasSubstr(who), HasSubstr("all_reduce"), HasSubstr("null")));
    EXPECT_THAT(refusal([&] { world.all_reduce(View(a.data(), Elems(-1), DType::f32)); }),
                HasSubstr("-1"));
    EXPECT_THAT(refusal([&] { world.all_reduce(View(all), View(std::span<double>(d))); }),
                AllOf(HasSubstr("f32"), HasSubstr("f64")));
    EXPECT_THAT(refusal([&] { world.all_reduce(View(all), two); }),
                AllOf(HasSubstr("is 2"), HasSubstr("expected 10")));
    EXPECT_THAT(refusal([&] { world.all_reduce(all, static_cast<ReduceOp>(9)); }),
                HasSubstr("ReduceOp"));
    EXPECT_THAT(refusal([&] { world.broadcast(all, 2); }), HasSubstr("root is 2"));
    EXPECT_THAT(refusal([&] { world.broadcast(all, -1); }), HasSubstr("root is -1"));
    EXPECT_THAT(refusal([&] { world.all_gather(View(all), View(all)); }), HasSubstr("expected 20"));
    EXPECT_THAT(refusal([&] { world.reduce_scatter(View(all), View(all)); }),
                HasSubstr("expected 20"));
    EXPECT_THAT(refusal([&] { world.all_to_all(View(all), View(all)); }), HasSubstr("overlap"));
    EXPECT_THAT(refusal([&] { world.send(View(all), world.rank()); }), HasSubstr("itself"));
    EXPECT_THAT(refusal([&] { world.recv(View(all), 7); }), HasSubstr("peer is 7"));
    const Elems counts[] = {Elems(4), Elems(-6)};
    EXPECT_THAT(refusal([&] { world.all_gather_v(View(two), View(all), counts); }),
                HasSubstr("counts[1] is -6"));
    EXPECT_THAT(refusal([&] {
                  world.all_gather_v(View(two), View(all), {counts, 1});
                }),
                HasSubstr("1 entries"));
    EXPECT_THAT(refusal([&] { world.all_reduce(all, ReduceOp::sum, {"quick"}); }),
                AllOf(HasSubstr("'quick'"), HasSubstr("ring")));
    EXPECT_THAT(refusal([&] { world.host_of(5); }), HasSubstr("expected 0 to 1"));
    world.all_reduce(all);  // all of that did no harm
    EXPECT_EQ(a[9], 2.0f);
  });
}

// Sizes derived from counts must not wrap around and pass for small ones.
TEST(Arguments, HugeCountsAreRefused) {
  testing::expect_world(Backend{"inproc"}, 4, [](Communicator& world) {
    std::uint64_t x = 0;
    const std::string who = fmt::format("rank {}: ", world.rank());
    const auto view = [&](int bits) {
      return View(&x, Elems(std::int64_t{1} << bits), DType::i64);
    };
    const View none(&x, Elems(0), DType::i64);
    for (const int bits : {56, 57, 60, 62}) {  // 2^55 x 8 bytes x 4 ranks are 2^60
      const auto refused = AllOf(HasSubstr(who), HasSubstr(fmt::to_string(1ll << bits)),
                                 HasSubstr(fmt::to_string(1ll << 55)));
      EXPECT_THAT(refusal([&] { world.all_reduce(view(bits)); }), refused);
      EXPECT_THAT(refusal([&] { world.all_gather(view(bits), none); }), refused);
      EXPECT_THAT(refusal([&] { world.reduce_scatter(none, view(bits)); }), refused);
      EXPECT_THAT(refusal([&] { world.gather(view(bits), none, 1); }), refused);
      EXPECT_THAT(refusal([&] { world.scatter(none, view(bits), 1); }), refused);
      EXPECT_THAT(refusal([&] { world.send(view(bits), (world.rank() + 1) % 4); }), refused);
      const Elems counts[] = {Elems(0), Elems(0), Elems(0), Elems(1ll << bits)};
      EXPECT_THAT(refusal([&] { world.gather_v(none, none, counts, 0); }), refused);
      EXPECT_THAT(refusal([&] { world.scatter_v(none, none, counts, 0); }), refused);
      EXPECT_THAT(refusal([&] { world.all_to_all_v(none, counts, none, counts); }), refused);
    }
    EXPECT_THAT(refusal([&] { world.all_gather(view(55), none); }),
                HasSubstr(fmt::format("is 0, expected {}", 1ll << 57)));
  });
}

TEST(Arguments, AWorldOfOneNeedsNothing) {
  Communicator self = Communicator::self();
  float x = 3;
  self.all_reduce(View(&x, Elems(1), DType::f32), ReduceOp::avg);
  EXPECT_EQ(x, 3);
  EXPECT_EQ(self.size(), 1);
  Communicator same = Communicator::connect(ConnectOptions{});
  same.barrier();
}

class Environment : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const std::string& name : set_) ::unsetenv(name.c_str());
  }
  void set(const char* name, const std::string& value) {
    ::setenv(name, value.c_str(), 1);
    set_.emplace_back(name);
  }
  std::string refusal_of(const char* name, const std::string& value) {
    set(name, value);
    std::string text = refusal([] { ConnectOptions::from_environment(); });
    ::unsetenv(name);
    return text;
  }

 private:
  std::vector<std::string> set_;
};

TEST_F(Environment, IsRead) {
  set(env::kWorldSize, "4");
  set(env::kTorchRank, "1");
  set(env::kRank, "3");
  set(env::kMasterAddress, "10.1.2.3");
  set(env::kMasterPort, "29400");
  set(env::kLanes, "2");
  set(env::kAlgorithm, "ring");
  set(env::kOperationTimeout, "1500");
  const ConnectOptions options = ConnectOptions::from_environment();
  EXPECT_EQ(options.rank, 3);
  EXPECT_EQ(options.world_size, 4);
  EXPECT_EQ(options.store_host, "10.1.2.3");
  EXPECT_EQ(options.store_port, 29400);
  EXPECT_EQ(options.lanes, 2);
  EXPECT_EQ(options.algorithm, "ring");
  EXPECT_EQ(options.operation_timeout.count(), 1500);
}

TEST_F(Environment, BadValuesNameTheirVariable) {
  EXPECT_THAT(refusal_of(env::kWorldSize, "two"), HasSubstr("WORLD_SIZE='two'"));
  EXPECT_THAT(refusal_of(env::kWorldSize, "3"), HasSubstr("which rank"));
  EXPECT_THAT(refusal_of(env::kRank, "1"), HasSubstr("WEFT_RANK='1'"));
  EXPECT_THAT(refusal_of(env::kStorePort, "70000"), HasSubstr("WEFT_STORE_PORT"));
  EXPECT_THAT(refusal_of(env::kLanes, "0"), HasSubstr("WEFT_LANES"));
  EXPECT_THAT(refusal_of(env::kLanes, "2x"), HasSubstr("WEFT_LANES"));
  EXPECT_THAT(refusal_of(env::kTransport, "carrier pigeon"), HasSubstr("WEFT_TRANSPORT"));
  EXPECT_THAT(refusal_of(env::kAlgorithm, "magic"), HasSubstr("WEFT_ALGORITHM"));
  EXPECT_THAT(refusal_of(env::kSecretFd, "999"), HasSubstr("WEFT_SECRET_FD"));
  EXPECT_THAT(refusal_of(env::kSecretFile, "/nonexistent/secret"), HasSubstr("WEFT_SECRET_FILE"));
  const auto pipe = tests::scratch("secret.pipe");  // nobody writes to it
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(refusal_of(env::kSecretFile, pipe), HasSubstr("expected a regular file"));
  EXPECT_THAT(refusal_of(env::kJobId, std::string(65, 'x')), HasSubstr("WEFT_JOB_ID"));
}

}  // namespace
}  // namespace weft::comm
