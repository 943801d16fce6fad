// Sharded checkpoints: what some ranks write, any number reads, in any layout.
#include "tensor/parallel/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tensor/checkpoint/safetensors.h"
#include "tests/parallel/expect_on_all.h"
#include "tests/parallel/in_process_world.h"
#include "tests/parallel/shards.h"
#include "tests/support/scratch.h"

namespace weft::parallel::tests {
namespace {

using checkpoint::Source;
using testing::HasSubstr;
using weft::tests::expect_on_all;
using weft::tests::run_world;
using weft::tests::run_world_catching;
using weft::tests::ScratchDirectory;

std::uintmax_t bytes_in(const fs::path& directory) {
  std::uintmax_t sum = 0;
  for (const auto& entry : fs::directory_iterator(directory)) sum += entry.file_size();
  return sum;
}

struct Case {
  int writers, readers;
  Layout written, read;
  DType model;  // that the readers wish for
};

class CheckpointOfRanksTest : public testing::TestWithParam<Case> {};

TEST_P(CheckpointOfRanksTest, GivesEveryValueBack) {
  const auto& c = GetParam();
  const ScratchDirectory dir;
  run_world(c.writers, [&](Communicator& comm) {
    save_sharded(dir / "step-3", example_state(comm, c.written), comm);
  });
  run_world(c.readers, [&](Communicator& comm) {
    auto state = example_state(comm, c.read, c.model);
    const auto expected = example_state(comm, c.read, c.model);
    for (auto& part : state.parts) clear(part.shards);
    const auto source = open_verified(dir / "step-3", comm);
    EXPECT_EQ(source.manifest().world_size, c.writers);
    load_sharded(source, state.parts, comm);
    for (std::size_t p = 0; p < state.parts.size(); ++p) {
      expect_equal(state.parts[p].shards, expected.parts[p].shards);
    }
    EXPECT_EQ(source.manifest().rank_states.size(), static_cast<std::size_t>(c.writers));
    EXPECT_EQ(source.manifest().rank_states[0], R"({"rank":0})");
  });
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, CheckpointOfRanksTest,
    testing::Values(Case{1, 1, Layout::replicated, Layout::replicated, DType::f32},
                    Case{2, 1, Layout::replicated, Layout::replicated, DType::f32},
                    Case{3, 2, Layout::replicated, Layout::flat, DType::f32},
                    Case{2, 3, Layout::flat, Layout::replicated, DType::f32},
                    Case{4, 3, Layout::flat, Layout::flat, DType::bf16},
                    Case{3, 4, Layout::flat, Layout::overlapping, DType::f64},
                    Case{4, 2, Layout::overlapping, Layout::flat, DType::f16},
                    Case{5, 5, Layout::by_tensor, Layout::flat, DType::f32},
                    Case{1, 5, Layout::by_tensor, Layout::by_tensor, DType::f32}));

TEST(ShardedCheckpointTest, WhatAllHoldIsWrittenOnceAndByAll) {
  const ScratchDirectory dir;
  constexpr int kRanks = 4;
  run_world(kRanks, [&](Communicator& comm) {
    save_sharded(dir / "replicated", example_state(comm, Layout::replicated), comm);
  });
  run_world(1, [&](Communicator& comm) {
    save_sharded(dir / "alone", example_state(comm, Layout::replicated), comm);
  });
  const auto source = Source::open(dir / "replicated");
  std::uint64_t model = 0;
  std::uint64_t largest = 0;
  for (const auto& file : source.manifest().files) {
    if (file.part != "model") continue;
    model += file.bytes;
    largest = std::max(largest, file.bytes);
  }
  EXPECT_LT(static_cast<double>(largest), 1.1 * static_cast<double>(model) / kRanks);
  EXPECT_LT(static_cast<double>(bytes_in(dir / "replicated")),
            1.05 * static_cast<double>(bytes_in(dir / "alone")));
  for (const auto& file : source.manifest().files) {  // ordinary files that say what they are
    const checkpoint::SafeTensors shard(dir / "replicated" / file.name);
    EXPECT_EQ(shard.metadata().at("weft.part"), file.part);
    EXPECT_TRUE(shard.metadata().contains("weft.shards"));
  }
}

TEST(ShardedCheckpointTest, MastersFillParametersAndParametersMasters) {
  const ScratchDirectory dir;
  const auto values = Tensor::from(std::vector<float>{1.001F, 2.002F, 3.003F, 4.004F}, {4});
  const auto half = values.to(DType::bf16);
  const auto master = Shard{"w.master", {4}, Elems(0), values};
  run_world(2, [&](Communicator& comm) {
    save_sharded(dir / "half",
                 {.parts = {{"model", {{"w", {4}, Elems(0), half}}}, {"optimizer", {master}}}},
                 comm);
    save_sharded(dir / "full",
                 {.parts = {{"model", {{"w", {4}, Elems(0), values}}}, {"optimizer", {}}}}, comm);
    // To f32: the master's values, not the rounded ones.
    const auto full = Tensor::zeros({4});
    load_sharded(open_verified(dir / "half", comm),
                 {{"model", {{"w", {4}, Elems(0), full}}}, {"optimizer", {}}}, comm);
    EXPECT_EQ(full.to_vector<float>(), values.to_vector<float>());
  });
  run_world(2, [&](Communicator& comm) {
    const auto into_half = Tensor::zeros({4}, {DType::bf16});
    const auto into_master = Tensor::zeros({4});
    load_sharded(open_verified(dir / "full", comm),
                 {{"model", {{"w", {4}, Elems(0), into_half}}},
                  {"optimizer", {{"w.master", {4}, Elems(0), into_master}}}},
                 comm);
    EXPECT_EQ(into_half.to_vector<float>(), half.to_vector<float>());
    EXPECT_EQ(into_master.to_vector<float>(), values.to_vector<float>());
  });
}

// Every rank throws E with `parts` in its message.
TEST(ShardedCheckpointTest, ShardsThatMakeNoWholeAreRefused) {
  const ScratchDirectory dir;
  const auto save = [&](Shape shape, std::int64_t begin, std::int64_t count, DType dtype) {
    return [=, &dir](Communicator& comm) {
      auto mine = Shard{"w", {10}, Elems(0), Tensor::zeros({6})};
      if (comm.rank() == 1) {
        mine = {"w", shape, Elems(begin), Tensor::zeros({count}, {dtype})};
      }
      save_sharded(dir / "s", {.parts = {{"model", {mine}}}}, comm);
    };
  };
  expect_on_all<Mismatch>(2, save({10}, 7, 3, DType::f32), {"'w'", "no rank holds", "[6, 7)"});
  expect_on_all<Mismatch>(2, save({10}, 6, 3, DType::f32), {"'w'", "[9, 10)"});
  expect_on_all<Mismatch>(2, save({5, 2}, 6, 4, DType::f32), {"'w'", "rank 0", "(5, 2)", "(10,)"});
  expect_on_all<Mismatch>(2, save({10}, 6, 4, DType::bf16), {"'w'", "rank 1 as bf16"});
  expect_on_all<InvalidArgument>(2, save({10}, 6, 5, DType::f32), {"rank 1", "'w'", "inside"});
  EXPECT_FALSE(fs::exists(dir / "s"));
  expect_on_all<InvalidArgument>(2,
                                 [&](Communicator& comm) {
                                   save_sharded(dir / "s", {.parts = {{"../up", {}}}}, comm);
                                 },
                                 {"'../up'"});
  expect_on_all<InvalidArgument>(
      2,
      [&](Communicator& comm) { save_sharded(dir / "s", {.parts = {}, .state = "no json"}, comm); },
      {"no JSON object"});
}

TEST(ShardedCheckpointTest, WishesThatDoNotFitAreRefused) {
  const ScratchDirectory dir;
  run_world(2, [&](Communicator& comm) {
    save_sharded(dir / "s",
                 {.parts = {{"model",
                             {{"a", {4}, Elems(0), Tensor::zeros({4})},
                              {"n", {}, Elems(0), Tensor::zeros({}, {DType::i64})}}}}},
                 comm);
  });
  const auto touched = Tensor::full({4}, 7.0);
  const auto load = [&](std::vector<Shard> wishes, const char* part = "model") {
    return [&dir, wishes, part](Communicator& comm) {
      load_sharded(open_verified(dir / "s", comm), {{part, wishes}}, comm);
    };
  };
  const Shard n{"n", {}, Elems(0), {}};
  expect_on_all<Mismatch>(2, load({{"a", {4}, Elems(0), touched}}), {"Unexpected: n"});
  expect_on_all<Mismatch>(2, load({{"a", {4}, Elems(0), touched}, n, {"b", {2}, Elems(0), {}}}),
                          {"Missing: b"});
  expect_on_all<Mismatch>(2, load({{"a", {2, 2}, Elems(0), touched}, n}),
                          {"a: expected shape (2, 2), found (4,)"});
  expect_on_all<Mismatch>(
      2, load({{"a", {4}, Elems(0), touched}, {"n", {}, Elems(0), Tensor::zeros({})}}),
      {"n: expected f32, found i64"});
  expect_on_all<Mismatch>(2, load({{"a", {4}, Elems(2), touched}, n}), {"[2, 6)"});
  expect_on_all<Mismatch>(2, load({}, "optimizer"), {"without a part 'optimizer'", "model"});
  EXPECT_EQ(touched.to_vector<float>(), std::vector<float>(4, 7.0F));
  // What one rank alone wishes for is wished for.
  run_world(2, [&](Communicator& comm) {
    std::vector<Shard> wishes{n};
    if (comm.rank() == 0) wishes.push_back({"a", {4}, Elems(0), touched});
    load(wishes)(comm);
  });
  EXPECT_EQ(touched.to_vector<float>(), std::vector<float>(4, 0.0F));
}

TEST(ShardedCheckpointTest, KeepsTheNewest) {
  const ScratchDirectory dir;
  run_world(2, [&](Communicator& comm) {
    for (const int step : {8, 9, 10, 11}) {
      save_sharded(dir / fmt::format("step-{}", step), example_state(comm, Layout::flat), comm,
                   {.keep_last = 2});
    }
  });
  EXPECT_EQ(checkpoint::training_steps(dir.path()),
            (std::vector<fs::path>{dir / "step-10", dir / "step-11"}));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 2);
  expect_on_all<InvalidArgument>(2,
                                 [&](Communicator& comm) {
                                   save_sharded(dir / "last", example_state(comm, Layout::flat),
                                                comm, {.keep_last = 2});
                                 },
                                 {"NAME-N"});
}

}  // namespace
}  // namespace weft::parallel::tests
