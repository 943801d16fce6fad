// Fabric::save and load in ranks that are processes: every form, strategy and precision, on any
// number of ranks.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tensor/checkpoint/safetensors.h"
#include "tensor/checkpoint/source.h"
#include "tensor/nn/gpt.h"
#include "tensor/random.h"
#include "tests/support/scratch.h"
#include "tests/support/shell.h"

namespace weft {
namespace {

namespace fs = std::filesystem;
using testing::Each;
using testing::HasSubstr;
using tests::binary;
using tests::lines_with;
using tests::Ran;
using tests::shell;

struct Job {
  std::string strategy = "ddp";
  int ranks = 2;
  std::string precision = "32-true";
};

std::string without_random(const std::string& result) {
  return result.substr(0, result.find(" random="));
}

class SavingTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return dir_ / name; }

  static Ran run(const Job& job, const std::string& arguments) {
    return shell(
        fmt::format("WEFT_NUM_THREADS=1 {} run --devices={} --strategy={} --precision={} "
                    "--accelerator=cpu {} {}",
                    binary("weft"), job.ranks, job.strategy, job.precision,
                    binary("saving_rank_main"), arguments));
  }
  // What rank 0 has in the end; the others have the same but for their random numbers.
  static std::string result(const Job& job, const std::string& arguments) {
    const auto ran = run(job, arguments);
    EXPECT_EQ(ran.exit_code, 0) << ran.output;
    const auto lines = lines_with(ran, "result");
    EXPECT_EQ(lines.size(), static_cast<std::size_t>(job.ranks)) << ran.output;
    if (lines.empty()) return "";
    for (const auto& line : lines) EXPECT_EQ(without_random(line), without_random(lines[0]));
    return lines[0];
  }
  // Every rank says the same, of the kind.
  static void expect_refused(const Job& job, const std::string& arguments, const std::string& kind,
                             const std::vector<std::string>& parts) {
    const auto ran = run(job, arguments);
    EXPECT_NE(ran.exit_code, 0) << ran.output;
    const auto lines = lines_with(ran, "\\] refused");
    ASSERT_EQ(lines.size(), static_cast<std::size_t>(job.ranks)) << ran.output;
    EXPECT_THAT(lines, Each(lines[0]));
    EXPECT_THAT(lines[0], testing::StartsWith(kind + ": "));
    for (const auto& part : parts) EXPECT_THAT(lines[0], HasSubstr(part));
  }

  const tests::ScratchDirectory dir_;
};

TEST_F(SavingTest, EveryFormContinuesBitByBit) {
  for (const std::string strategy : {"ddp", "deepspeed_stage_1", "deepspeed_stage_2", "fsdp"}) {
    const Job job{strategy, 2};
    for (const std::string form : {"single", "sharded", "async"}) {
      SCOPED_TRACE(strategy + ", " + form);
      // One file has no place for every rank's own generator.
      const std::string more = form == "single" ? " " : " dropout=0.1 ";
      const auto place = path(strategy + "-" + form + "-1");
      const auto whole = result(job, "steps=16" + more);
      const auto first = result(job, "steps=7 form=" + form + " save=" + place + more);
      EXPECT_NE(first, whole);
      EXPECT_EQ(result(job, "load=" + place + more), first) << "what was saved is what is loaded";
      EXPECT_EQ(result(job, "steps=9 load=" + place + more), whole)
          << "13 steps make an epoch: it goes on into the next";
      EXPECT_EQ(fs::is_directory(place), form != "single");
    }
  }
}

// Once around: each loads what the one before saved, on another number of ranks.
TEST_F(SavingTest, GoesFromStrategyToStrategyWithoutLosingABit) {
  const auto first = without_random(result({"ddp", 2}, "steps=5 form=sharded save=" + path("a")));
  const auto hop = [&](const Job& job, const std::string& from, const std::string& to,
                       const std::string& form) {
    const auto arguments = fmt::format("load={} save={} form={}", path(from), path(to), form);
    return without_random(result(job, arguments));
  };
  EXPECT_EQ(hop({"fsdp", 3}, "a", "b", "single"), first);
  EXPECT_EQ(hop({"deepspeed_stage_2", 2}, "b", "c", "async"), first);
  EXPECT_EQ(hop({"ddp", 1}, "c", "d", "single"), first);
  EXPECT_EQ(hop({"deepspeed_stage_1", 4}, "d", "e", "sharded"), first);
  // In bf16 the values are others; their f32 masters come from what was saved, and go back.
  EXPECT_NE(hop({"fsdp", 2, "bf16-true"}, "e", "f", "single"), first);
  EXPECT_NE(hop({"ddp", 3, "bf16-true"}, "f", "g", "sharded"), first);
  // So they are where f32 shares are gathered in bf16.
  EXPECT_NE(hop({"deepspeed_stage_3", 3, "bf16-mixed"}, "g", "h", "sharded"), first);
  EXPECT_EQ(without_random(result({"ddp", 2}, "load=" + path("h"))), first);
  // And what comes of it is the same within the order of sums.
  const auto on_two = result({"ddp", 2}, "steps=4 load=" + path("h"));
  EXPECT_EQ(without_random(result({"fsdp", 2}, "steps=4 load=" + path("a"))),
            without_random(on_two));
}

// A file of the parameters alone, as Hugging Face has them for a GPT-2: without "transformer.",
// with masks, with a head that is the embedding.
TEST_F(SavingTest, AFileWithHuggingFacesNamesGoesIntoShards) {
  const nn::GPTConfig config{
      .block_size = 8, .vocab_size = 37, .n_layer = 2, .n_head = 2, .n_embd = 12};
  tensor::Generator generator(21);
  const nn::GPT model(config, &generator);
  nn::StateDict plain = model.state_dict(), theirs;
  for (const auto& [name, tensor] : plain) {
    theirs.push_back({name.substr(std::string("transformer.").size()), tensor});
  }
  theirs.push_back({"h.0.attn.bias", Tensor::zeros({1, 1, 8, 8})});
  theirs.push_back({"h.1.attn.masked_bias", Tensor::full({}, -1e4)});
  checkpoint::save_safetensors(path("plain.safetensors"), plain);
  checkpoint::save_safetensors(path("theirs.safetensors"), theirs, {{"format", "pt"}});
  const auto load = [&](const std::string& name) { return "strict=0 load=" + path(name); };
  const auto expected = result({"ddp", 1}, load("plain.safetensors"));
  EXPECT_NE(expected, result({"ddp", 1}, ""));
  for (const std::string strategy : {"ddp", "deepspeed_stage_2", "fsdp"}) {
    for (const std::string name : {"plain.safetensors", "theirs.safetensors"}) {
      EXPECT_EQ(without_random(result({strategy, 3}, load(name))), without_random(expected))
          << strategy << ", " << name;
    }
  }
  // A head of its own is no GPT-2 of weft's.
  theirs.push_back({"lm_head.weight", Tensor::zeros({37, 12})});
  checkpoint::save_safetensors(path("untied.safetensors"), theirs);
  expect_refused({"fsdp", 2}, load("untied.safetensors"), "mismatch",
                 {"untied.safetensors", "lm_head.weight"});
}

TEST_F(SavingTest, TheLossScaleGoesAlong) {
  const Job job{"deepspeed_stage_2", 2, "16-mixed"};
  const auto saved = result(job, "steps=4 poison=2 scale=1024 form=sharded save=" + path("s"));
  EXPECT_THAT(saved, HasSubstr("scale=512 "));
  const auto load = "scale=64 load=" + path("s");
  EXPECT_EQ(without_random(result({"fsdp", 3, "16-mixed"}, load)), without_random(saved));
  // DDP has f32 parameters, of which the shares are gathered in f16.
  const auto model_of = [](const std::string& text) { return text.substr(0, text.find(' ')); };
  const auto mixed = result({"ddp", 3, "16-mixed"}, load);
  EXPECT_THAT(mixed, HasSubstr("scale=512 "));
  const auto whole = result({"ddp", 2}, "load=" + path("s"));
  EXPECT_THAT(whole, HasSubstr("scale=0 "));
  EXPECT_EQ(model_of(mixed), model_of(whole));
}

TEST_F(SavingTest, KeepsTheLastOnes) {
  for (int step = 8; step <= 11; ++step) {
    const auto place = path("run/step-" + std::to_string(step));
    result({"fsdp", 2}, "form=async keep=2 save=" + place);
  }
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(path("run"))) {
    left.push_back(entry.path().filename());
  }
  EXPECT_THAT(left, testing::UnorderedElementsAre("step-10", "step-11"));
}

TEST_F(SavingTest, WhatDoesNotFitIsRefusedByEveryRank) {
  const Job job{"fsdp", 2};
  result(job, "steps=1 form=sharded save=" + path("s"));
  result(job, "steps=1 form=single save=" + path("f"));
  for (const std::string name : {"s", "f"}) {
    expect_refused(job, "wide=1 load=" + path(name), "mismatch",
                   {path(name), "transformer.wte.weight", "expected shape (37, 16)",
                    "found (37, 12)", "Nothing was loaded"});
    expect_refused(job, "part=net load=" + path(name), "mismatch",
                   {path(name), "without a part 'net'", "adamw, model"});
  }
  expect_refused(job, "load=" + path("nowhere"), "io", {path("nowhere")});
  const auto shard = path("s/model-00001-of-00002.safetensors");
  fs::resize_file(shard, fs::file_size(shard) - 4);
  expect_refused(job, "load=" + path("s"), "corrupt", {shard, "truncated", "tensor '"});
  fs::resize_file(path("f"), fs::file_size(path("f")) - 4);
  expect_refused(job, "load=" + path("f"), "corrupt", {path("f")});
}

TEST_F(SavingTest, SavesThatCannotBeAreRefusedByEveryRank) {
  for (const std::string strategy : {"ddp", "fsdp"}) {
    for (const std::string form : {"single", "sharded", "async"}) {
      expect_refused({strategy, 2}, "form=" + form + " save=/proc/nowhere/step-1", "io",
                     {"/proc/nowhere"});
    }
    expect_refused({strategy, 2}, "save=" + path("x") + " keep=1", "invalid_argument",
                   {"keep_last", "SaveOptions::sharded"});
  }
}

}  // namespace
}  // namespace weft
