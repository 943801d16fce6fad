// kill -9 of a rank, or of all, at random moments of saves: the newest complete checkpoint loads.
// Of replicated, flat and fsdp's shards, written at once or asynchronously.
// WEFT_CHECKPOINT_KILLS=200 makes so many of them, WEFT_CHECKPOINT_SEED chooses other moments.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <cstdlib>
#include <random>

#include "tensor/checkpoint/steps.h"
#include "tests/launcher/child_process.h"
#include "tests/parallel/in_process_world.h"
#include "tests/parallel/shards.h"
#include "tests/support/scratch.h"
#include "tests/support/soon.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using parallel::tests::Layout;

constexpr int kRanks = 3;

int option(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atoi(text) : otherwise;
}

// Lets time go by: the moment of a kill has no event to wait for.
void let_pass(std::int64_t microseconds) {
  const timespec time{microseconds / 1'000'000, microseconds % 1'000'000 * 1000};
  ::ppoll(nullptr, 0, &time, nullptr);
}

// The last number of each line that begins with `word`.
std::vector<int> numbers_after(const std::string& text, const std::string& word) {
  std::vector<int> numbers;
  for (const auto& line : test::ChildProcess::lines(text)) {
    if (!line.starts_with(word + " ")) continue;
    numbers.push_back(std::atoi(line.c_str() + line.rfind(' ')));
  }
  return numbers;
}

// Everything in it is right and is that step's; by two ranks, other than wrote it.
void expect_step(const fs::path& step, int number) {
  weft::tests::run_world(2, [&](Communicator& comm) {
    auto state = parallel::tests::example_state(comm, Layout::flat, DType::f32, number);
    const auto expected = parallel::tests::example_state(comm, Layout::flat, DType::f32, number);
    for (auto& part : state.parts) parallel::tests::clear(part.shards);
    parallel::load_sharded(parallel::open_verified(step, comm), state.parts, comm);
    for (std::size_t p = 0; p < state.parts.size(); ++p) {
      parallel::tests::expect_equal(state.parts[p].shards, expected.parts[p].shards);
    }
  });
}

// Likewise of what fsdp held: every value is the step's number.
void expect_shared_step(const fs::path& step, int number) {
  const auto source = checkpoint::Source::open(step);
  source.verify_all();
  for (const char* part : {"model", "optimizer"}) {
    EXPECT_GT(source.part(part).tensors.size(), 20u);
    for (const auto& [name, tensor] : source.state_dict(part)) {
      const auto values = tensor.to_vector<double>();
      EXPECT_EQ(std::count(values.begin(), values.end(), number), tensor.numel()) << name;
    }
  }
}

int number_of(const fs::path& step) { return std::atoi(step.filename().c_str() + 5); }

class Trial {
 public:
  Trial(const fs::path& directory, int first, bool asynchronous, const std::string& state)
      : directory_(directory),
        writer_({test::bin("checkpoint_writer_main"), directory.string(), std::to_string(first),
                 std::to_string(kRanks), asynchronous ? "async" : "sync", state}) {}

  // Gives the last step that was said to be saved.
  int kill_after(std::int64_t microseconds, const std::vector<bool>& victims) {
    EXPECT_TRUE(writer_.wait_for_lines(kRanks + 2));  // all ranks, and some saves
    let_pass(microseconds);
    const auto pids = numbers_after(writer_.out(), "rank");
    EXPECT_EQ(pids.size(), static_cast<std::size_t>(kRanks)) << writer_.out();
    for (std::size_t i = 0; i < pids.size(); ++i) {
      if (victims[i]) ::kill(pids[i], SIGKILL);
    }
    for (const auto pid : pids) EXPECT_TRUE(test::ends_within(pid, 4 * weft::tests::kSoon));
    EXPECT_NE(writer_.wait(), 0);
    const auto saved = numbers_after(writer_.out(), "saved");
    EXPECT_FALSE(saved.empty()) << writer_.out() << writer_.err();
    return saved.empty() ? 0 : saved.back();
  }

 private:
  fs::path directory_;
  test::ChildProcess writer_;
};

class KilledSaveTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(States, KilledSaveTest, testing::Values("example", "fsdp"),
                         [](const auto& tested) { return tested.param; });

TEST_P(KilledSaveTest, TheNewestCompleteCheckpointAlwaysLoads) {
  const auto expect_saved = GetParam() == "fsdp" ? expect_shared_step : expect_step;
  const auto kills = option("WEFT_CHECKPOINT_KILLS", 20);
  const auto seed = option("WEFT_CHECKPOINT_SEED", 5);
  const weft::tests::ScratchDirectory dir;
  std::mt19937 random(static_cast<unsigned>(seed));
  constexpr std::int64_t kSavesTake = 60'000;  // microseconds: more than one
  int first = 1;
  int unfinished = 0;
  for (int i = 0; i < kills; ++i) {
    SCOPED_TRACE(fmt::format("kill {} of seed {}", i, seed));
    std::vector<bool> victims(kRanks, i % 2 == 0);  // all, or one of them
    if (i % 2 != 0) victims[random() % kRanks] = true;
    const auto moment = static_cast<std::int64_t>(random() % kSavesTake);
    const int saved = Trial(dir.path(), first, i % 4 >= 2, GetParam()).kill_after(moment, victims);
    const auto steps = checkpoint::training_steps(dir.path());
    ASSERT_FALSE(steps.empty());
    const int newest = number_of(steps.back());
    EXPECT_GE(newest, saved) << "what was said to be saved is there";
    EXPECT_LE(newest, saved + 2);
    for (const auto& step : steps) expect_saved(step, number_of(step));
    for (const auto& entry : fs::directory_iterator(dir.path())) {
      unfinished += entry.path().filename().string().starts_with(".weft-writing") ? 1 : 0;
    }
    first = newest + 1;
    if (testing::Test::HasFailure()) return;
  }
  RecordProperty("killed_within_a_save", unfinished);
  EXPECT_GT(unfinished, kills / 10) << "too few of the moments were inside a save";
  // The next save takes away what the dead have left.
  weft::tests::run_world(2, [&](Communicator& comm) {
    parallel::save_sharded(dir.path() / fmt::format("step-{}", first),
                           parallel::tests::example_state(comm, Layout::flat, DType::f32, first),
                           comm, {.keep_last = 1});
  });
  expect_step(dir.path() / fmt::format("step-{}", first), first);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 1);
}

}  // namespace
}  // namespace weft
