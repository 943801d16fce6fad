// From shards to one file and back: nothing is lost, and nothing wrong gets through.
#include "tensor/checkpoint/consolidate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/parallel/in_process_world.h"
#include "tests/parallel/shards.h"
#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using checkpoint::SafeTensors;
using checkpoint::Source;
using parallel::tests::example_state;
using parallel::tests::Layout;
using testing::HasSubstr;
using weft::tests::binary;
using weft::tests::shell;

class ConsolidateTest : public testing::Test {
 protected:
  void SetUp() override {
    weft::tests::run_world(3, [&](Communicator& comm) {
      auto state = example_state(comm, Layout::flat);
      state.state = R"({"iteration":5,"metadata":{"n_head":"4"}})";
      save_sharded(dir_ / "step-5", state, comm);
    });
  }
  std::string path(const std::string& name) const { return (dir_ / name).string(); }
  std::string consolidate(const std::string& arguments) const {
    return binary("weft") + " consolidate " + arguments;
  }
  // All tensors of both are equal, bit for bit.
  static void expect_same(const Source& a, const Source& b) {
    ASSERT_EQ(a.manifest().parts.size(), b.manifest().parts.size());
    for (std::size_t p = 0; p < a.manifest().parts.size(); ++p) {
      const auto& x = a.manifest().parts[p];
      const auto& y = b.manifest().parts[p];
      EXPECT_EQ(x.name, y.name);
      ASSERT_EQ(x.tensors.size(), y.tensors.size());
      for (std::size_t t = 0; t < x.tensors.size(); ++t) {
        EXPECT_EQ(x.tensors[t].name, y.tensors[t].name);
        EXPECT_EQ(x.tensors[t].dtype, y.tensors[t].dtype);
        EXPECT_EQ(x.tensors[t].shape, y.tensors[t].shape);
        EXPECT_EQ(a.tensor(x.tensors[t]).to_vector<double>(),
                  b.tensor(y.tensors[t]).to_vector<double>());
      }
    }
  }

  const weft::tests::ScratchDirectory dir_;
};

TEST_F(ConsolidateTest, TheModelAloneHasItsOwnNames) {
  const auto ran = shell(consolidate(path("") + " -o " + path("model.safetensors")));
  ASSERT_EQ(ran.exit_code, 0) << ran.output;  // a run's directory: its newest
  EXPECT_THAT(ran.output, HasSubstr("6 files of 3 ranks"));
  const SafeTensors file(path("model.safetensors"));
  EXPECT_EQ(file.tensors().size(), 5u);
  EXPECT_EQ(file.metadata().at("n_head"), "4");
  EXPECT_FALSE(file.metadata().contains("weft.parts"));
  weft::tests::run_world(1, [&](Communicator& comm) {
    const auto expected = example_state(comm, Layout::replicated);
    for (const auto& shard : expected.parts[0].shards) {
      EXPECT_EQ(file.tensor(shard.name).shape(), shard.shape);
      EXPECT_EQ(file.tensor(shard.name).to_vector<float>(), shard.data.to_vector<float>());
    }
  });
}

TEST_F(ConsolidateTest, EverythingAndBackIsTheSame) {
  ASSERT_EQ(
      shell(consolidate(path("step-5") + " --everything -o " + path("all.safetensors"))).exit_code,
      0);
  for (const int shards : {1, 2, 5}) {
    const auto back = path(fmt::format("back-{}", shards));
    const auto ran = shell(
        consolidate(fmt::format("{} --shards {} -o {}/", path("all.safetensors"), shards, back)));
    ASSERT_EQ(ran.exit_code, 0) << ran.output;
    const auto original = Source::open(path("step-5"));
    const auto again = Source::open(back);
    again.verify_all();
    expect_same(original, again);
    EXPECT_EQ(again.manifest().world_size, shards);
    EXPECT_EQ(again.manifest().state, original.manifest().state);
    EXPECT_EQ(again.manifest().rank_states, original.manifest().rank_states);
  }
}

TEST_F(ConsolidateTest, WhatIsDamagedIsRefusedAndTheOldFileStands) {
  const auto target = path("model.safetensors");
  std::ofstream(target) << "old";
  const auto shard = dir_ / "step-5" / checkpoint::shard_file_name("model", 1, 3);
  fs::resize_file(shard, fs::file_size(shard) - 1);
  const auto ran = shell(consolidate(path("step-5") + " -o " + target));
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.output, HasSubstr("model-00001-of-00003.safetensors: truncated"));
  std::ifstream in(target);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "old");
}

TEST_F(ConsolidateTest, WrongUseIsToldApart) {
  EXPECT_EQ(shell(consolidate(path("step-5"))).exit_code, 2);
  EXPECT_EQ(shell(consolidate(path("step-5") + " -o " + path("x") + " --shards 0")).exit_code, 2);
  EXPECT_EQ(shell(consolidate(path("step-5") + " -o " + path("step-5"))).exit_code, 2);
  EXPECT_EQ(shell(consolidate(path("step-5") + " -o " + path(""))).exit_code, 2);
  const auto other = shell(consolidate(path("step-5") + " --shards 2 -o " + path("")));
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.output, HasSubstr("something else"));
  const auto missing = shell(consolidate(path("nothing") + " -o " + path("x")));
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.output, HasSubstr("nothing"));
}

}  // namespace
}  // namespace weft
