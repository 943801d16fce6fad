// The command line of `weft`: what it takes, refuses and says.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "tests/launcher/child_process.h"
#include "tests/support/scratch.h"

namespace weft::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Answer {
  int code;
  std::string out, err;
};

Answer ask(const Arguments& arguments, const std::map<std::string, std::string>& environment = {}) {
  ChildProcess process(arguments, environment);
  const int code = process.wait();
  return {code, process.out(), process.err()};
}

Answer run(const Arguments& rest) { return ask(weft_run(rest)); }

TEST(Options, BadChoicesExit2AndListTheChoices) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"--accelerator", "gpux", "auto, cpu, gpu, cuda, mps, tpu"},
      {"--strategy", "ddpp", "ddp_find_unused_parameters_true"},
      {"--precision", "8-mixed", "16-mixed, bf16-mixed, 32-true, 64-true, 16-true, bf16-true"},
      {"--transport", "udp", "auto, shm, tcp"},
      {"--algorithm", "rings", "ring"},
      {"--bind", "socket", "auto, none, core, numa"},
  };
  for (const auto& [option, value, choices] : cases) {
    const Answer answer = run({option, value, "true"});
    EXPECT_EQ(answer.code, 2) << option;
    EXPECT_THAT(answer.err, HasSubstr(option));
    EXPECT_THAT(answer.err, HasSubstr(value));
    EXPECT_THAT(answer.err, HasSubstr(choices));
  }
}

TEST(Options, OutOfRangeExits2AndNamesTheOption) {
  const std::vector<Arguments> cases = {
      {"--num-nodes=0"},          {"--node-rank=1"},     {"--node-rank=-1"},
      {"--main-port=0"},          {"--main-port=65536"}, {"--main-port=http"},
      {"--grace-time=-1"},        {"--grace-time=nan"},  {"--rendezvous-timeout=0"},
      {"--interface=no-such-if"}, {"--devices=0"},       {"--devices=-1"},
      {"--devices=0,1"},          {"--accelerator=tpu"}, {"--devices=two"},
  };
  for (const auto& options : cases) {
    Arguments all = options;
    all.push_back("true");
    const Answer answer = run(all);
    EXPECT_EQ(answer.code, 2) << options[0] << answer.err;
    EXPECT_THAT(answer.err, HasSubstr(options[0].substr(0, options[0].find('=')))) << options[0];
    EXPECT_EQ(answer.out, "");
  }
}

TEST(Options, BothSpellings) {
  for (const char* name : {"num_nodes", "num-nodes"}) {
    EXPECT_THAT(run({std::string("--") + name + "=0", "true"}).err, HasSubstr("expected 1 to"));
  }
  for (const char* name : {"node_rank", "node-rank"}) {
    EXPECT_THAT(run({std::string("--") + name + "=7", "true"}).err, HasSubstr("expected 0 to 0"));
  }
  for (const char* name : {"main_port", "main-port"}) {
    EXPECT_THAT(run({std::string("--") + name + "=0", "true"}).err, HasSubstr("expected 1 to"));
  }
  for (const char* name : {"main_address", "main-address"}) {
    EXPECT_THAT(run({std::string("--") + name, "", "true"}).err, HasSubstr("is empty"));
  }
}

TEST(Options, WhatComesAfterTheProgramBelongsToIt) {
  EXPECT_EQ(run({"echo", "--devices", "7", "--bogus", "-x"}).out, "--devices 7 --bogus -x\n");
  EXPECT_EQ(run({"--devices=1", "--", "echo", "--devices"}).out, "--devices\n");
  const Answer unknown = run({"--bogus", "echo"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("--bogus"));
  EXPECT_EQ(run({"--devices", "1", "echo", "[a,b]", "{}", "", "--", "++"}).out,
            "[a,b] {}  -- ++\n");
  EXPECT_EQ(run({"--no-prefix", "--devices=2", "--", "true", "--help"}).code, 0);
  EXPECT_EQ(run({}).code, 2);
  EXPECT_EQ(run({"--"}).code, 2);
  EXPECT_EQ(ask({bin("weft")}).code, 2);
  EXPECT_EQ(ask({bin("weft"), "frobnicate"}).code, 2);
}

TEST(Options, ProgramsThatCannotRun) {
  const Answer missing = run({"--devices=2", "weft-no-such-program"});
  EXPECT_EQ(missing.code, 127);
  EXPECT_THAT(missing.err, HasSubstr("no program weft-no-such-program"));
  EXPECT_EQ(run({"/no/such/program"}).code, 127);
  const Answer folder = run({"/usr"});
  EXPECT_EQ(folder.code, 126);
  EXPECT_THAT(folder.err, HasSubstr("directory"));
  const std::string file = tests::scratch("plain");
  std::ofstream(file) << "echo from a script without a first line\n";
  const Answer plain = run({file});
  EXPECT_EQ(plain.code, 126);
  EXPECT_THAT(plain.err, HasSubstr("not executable"));
  std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  EXPECT_EQ(run({file}).out, "from a script without a first line\n");
  std::filesystem::remove(file);
}

TEST(Options, ChoicesReachTheRanks) {
  const auto print = [](const Arguments& options) {
    Arguments all = options;
    all.insert(all.end(), {"sh", "-c",
                           "echo $WEFT_ACCELERATOR/$WEFT_STRATEGY/$WEFT_PRECISION/$WEFT_DEVICES/"
                           "$WEFT_NUM_NODES/$WEFT_TRANSPORT/$WEFT_INTERFACE/$WEFT_ALGORITHM"});
    return run(all).out;
  };
  EXPECT_EQ(print({}), "///1/1///\n");  // what was not given is left to the program
  EXPECT_EQ(print({"--accelerator=cpu", "--strategy=fsdp", "--precision=bf16", "--transport=tcp",
                   "--interface=lo", "--algorithm=ring"}),
            "cpu/fsdp/bf16-mixed/1/1/tcp/lo/ring\n");
}

TEST(Options, PlacementIsShownAndDryRunStartsNothing) {
  const Answer shown = ask({bin("weft"), "run", "--devices=2", "true"});
  EXPECT_EQ(shown.code, 0);
  EXPECT_THAT(shown.err, HasSubstr("2 ranks on 1 node"));
  EXPECT_THAT(shown.err, HasSubstr("rank 1: cpus"));
  const Answer many = ask({bin("weft"), "run", "--dry-run", "--devices=20", "false"});
  EXPECT_EQ(many.code, 0);
  EXPECT_THAT(many.out, HasSubstr("and 12 more"));
  const Answer shares =
      ask({bin("weft"), "run", "--dry-run", "--devices=2", "--share-devices", "false"});
  EXPECT_EQ(shares.code, 0);
  EXPECT_THAT(shares.err, HasSubstr("warning: --share-devices is for CUDA devices"));
  EXPECT_EQ(run({"true"}).err, "");  // --quiet
}

// hwloc itself plays another machine.
TEST(Options, AutoFollowsTheTopology) {
  const auto plan = [](const std::string& topology, const Arguments& options) {
    Arguments all{bin("weft"), "run", "--dry-run"};
    all.insert(all.end(), options.begin(), options.end());
    all.push_back("true");
    return ask(all, {{"HWLOC_SYNTHETIC", topology}}).out;
  };
  const std::string two_nodes = plan("numa:2 core:4 pu:2", {"--devices=auto"});
  EXPECT_THAT(two_nodes, HasSubstr("2 ranks on 1 node; 8 cores (16 threads), 2 NUMA nodes"));
  EXPECT_THAT(two_nodes, HasSubstr("rank 1: cpus 8-15, 4 threads"));
  const std::string caches = plan("pack:1 l3:4 core:2 pu:1", {"--devices=auto"});
  EXPECT_THAT(caches, HasSubstr("4 ranks"));
  EXPECT_THAT(caches, HasSubstr("rank 3: cpus 6-7, 2 threads"));
  EXPECT_THAT(plan("pack:1 l3:1 core:6 pu:1", {"--devices=auto"}), HasSubstr("2 ranks"));
  EXPECT_THAT(plan("pack:1 l3:1 core:1 pu:1", {"--devices=auto"}), HasSubstr("1 rank on"));
}

TEST(Options, SecretIsNewEachTimeAndItsFilePrivate) {
  const std::string first = ask({bin("weft"), "secret"}).out;
  EXPECT_EQ(first.size(), 65u);
  EXPECT_NE(first, ask({bin("weft"), "secret"}).out);
  const std::string file = tests::scratch("secret");
  EXPECT_EQ(ask({"sh", "-c", "umask 022; " + bin("weft") + " secret > " + file}).code, 0);
  EXPECT_EQ(static_cast<unsigned>(std::filesystem::status(file).permissions()), 0600u);
  std::filesystem::remove(file);
}

TEST(Options, HelpVersionInfoAndSiblings) {
  const Answer help = ask({bin("weft"), "--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* name : {"run", "secret", "info", "bench"}) {
    EXPECT_THAT(help.out, HasSubstr(name));
  }
  const Answer run_help = ask({bin("weft"), "run", "--help"});
  EXPECT_EQ(run_help.code, 0);
  for (const char* name :
       {"--num-nodes", "--num_nodes", "--main-port", "29400", "one rank a NUMA"}) {
    EXPECT_THAT(run_help.out, HasSubstr(name));
  }
  EXPECT_THAT(ask({bin("weft"), "--version"}).out, HasSubstr("weft 0."));
  const Answer info = ask({bin("weft"), "info"});
  EXPECT_EQ(info.code, 0);
  EXPECT_THAT(info.out, HasSubstr("tcp"));
  EXPECT_THAT(info.out, HasSubstr("core"));
}

TEST(Options, SiblingsAreFoundBesideWeft) {
  const auto folder = std::filesystem::path(tests::scratch("sibling"));
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(bin("weft"), folder / "weft");
  const Answer missing = ask({folder / "weft", "bench", "x"});
  EXPECT_EQ(missing.code, 127);
  EXPECT_THAT(missing.err, HasSubstr("weft-bench"));
  std::ofstream(folder / "weft-bench") << "#!/bin/sh\necho bench: $@\nexit 4\n";
  std::filesystem::permissions(folder / "weft-bench", std::filesystem::perms::owner_all);
  const Answer found = ask({folder / "weft", "bench", "--help", "x"});
  EXPECT_EQ(found.code, 4);
  EXPECT_EQ(found.out, "bench: --help x\n");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace weft::test
