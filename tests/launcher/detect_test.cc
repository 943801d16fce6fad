#include "launcher/environment/detect.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>
#include <map>

#include "kernels/base/error.h"
#include "tests/support/scratch.h"

namespace weft::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

ClusterEnvironment detect_in(const Variables& variables) {
  return detect([&](const char* name) -> std::optional<std::string> {
    const auto it = variables.find(name);
    if (it == variables.end() || it->second.empty()) return std::nullopt;
    return it->second;
  });
}

TEST(Detect, StartedByHand) {
  const auto e = detect_in({});
  EXPECT_EQ(e.name, "none");
  EXPECT_EQ(e.world_size, 1);
}

TEST(Detect, WeftWinsOverWhateverIsAround) {
  const auto e = detect_in({{"WEFT_RANK", "3"},
                            {"LOCAL_RANK", "1"},
                            {"WORLD_SIZE", "4"},
                            {"NODE_RANK", "1"},
                            {"MASTER_ADDR", "n0"},
                            {"MASTER_PORT", "29400"},
                            {"SLURM_NTASKS", "9"},
                            {"SLURM_PROCID", "5"}});
  EXPECT_EQ(e.name, "weft");
  EXPECT_EQ(e.rank, 3);
  EXPECT_EQ(e.node_rank, 1);
  EXPECT_EQ(e.main_address, "n0");
}

TEST(Detect, Torchrun) {
  const auto e = detect_in({{"TORCHELASTIC_RUN_ID", "x"},
                            {"RANK", "5"},
                            {"LOCAL_RANK", "1"},
                            {"WORLD_SIZE", "8"},
                            {"LOCAL_WORLD_SIZE", "4"},
                            {"GROUP_RANK", "1"},
                            {"GROUP_WORLD_SIZE", "2"},
                            {"MASTER_ADDR", "host"},
                            {"MASTER_PORT", "1234"}});
  EXPECT_EQ(e.name, "torchrun");
  EXPECT_EQ(e.rank, 5);
  EXPECT_EQ(e.num_nodes, 2);
  EXPECT_EQ(e.main_port, 1234);
}

TEST(Detect, Slurm) {
  Variables v{{"SLURM_NTASKS", "4"},
              {"SLURM_PROCID", "2"},
              {"SLURM_LOCALID", "0"},
              {"SLURM_NODEID", "1"},
              {"SLURM_JOB_NODELIST", "gpu[07-08]"},
              {"SLURM_JOB_ID", "123456"}};
  auto e = detect_in(v);
  EXPECT_EQ(e.name, "slurm");
  EXPECT_EQ(e.rank, 2);
  EXPECT_EQ(e.node_rank, 1);
  EXPECT_EQ(e.main_address, "gpu07");
  EXPECT_EQ(e.main_port, 15000 + 3456);
  v["SLURM_STEP_NODELIST"] = "gpu08";
  EXPECT_EQ(detect_in(v).main_address, "gpu08");
  v["SLURM_JOB_NAME"] = "interactive";
  EXPECT_EQ(detect_in(v).name, "none");
}

TEST(Detect, MpiWinsOverSlurm) {
  const auto e = detect_in({{"OMPI_COMM_WORLD_SIZE", "2"},
                            {"OMPI_COMM_WORLD_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                            {"SLURM_NTASKS", "1"},
                            {"SLURM_PROCID", "0"}});
  EXPECT_EQ(e.name, "mpi");
  EXPECT_EQ(e.rank, 1);
  EXPECT_EQ(e.num_nodes, 1);
  EXPECT_EQ(e.main_address, "127.0.0.1");
  const auto hydra = detect_in({{"PMI_SIZE", "4"}, {"PMI_RANK", "3"}, {"MPI_LOCALRANKID", "1"}});
  EXPECT_EQ(hydra.name, "mpi");
  EXPECT_EQ(hydra.local_rank, 1);
}

TEST(Detect, Lsf) {
  const std::string file = tests::scratch("rankfile");
  std::ofstream(file) << "batch\nnode1\nnode1\nnode2\n";
  const auto e = detect_in({{"LSB_JOBID", "54321"},
                            {"LSB_DJOB_RANKFILE", file},
                            {"JSM_NAMESPACE_RANK", "1"},
                            {"JSM_NAMESPACE_LOCAL_RANK", "1"},
                            {"JSM_NAMESPACE_SIZE", "3"}});
  std::remove(file.c_str());
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);  // nobody writes to it
  EXPECT_THROW(detect_in({{"LSB_JOBID", "54321"},
                          {"LSB_DJOB_RANKFILE", file},
                          {"JSM_NAMESPACE_RANK", "1"},
                          {"JSM_NAMESPACE_LOCAL_RANK", "1"},
                          {"JSM_NAMESPACE_SIZE", "3"}}),
               InvalidArgument);
  std::remove(file.c_str());
  EXPECT_EQ(e.name, "lsf");
  EXPECT_EQ(e.main_address, "node1");
  EXPECT_EQ(e.main_port, 10321);
}

TEST(Detect, KubeflowAndPlain) {
  Variables v{{"KUBERNETES_SERVICE_HOST", "10.0.0.1"},
              {"MASTER_ADDR", "pod-0"},
              {"MASTER_PORT", "23456"},
              {"RANK", "2"},
              {"WORLD_SIZE", "3"}};
  EXPECT_EQ(detect_in(v).name, "kubeflow");
  EXPECT_EQ(detect_in(v).node_rank, 2);
  v["LOCAL_RANK"] = "0";
  const auto plain = detect_in(v);
  EXPECT_EQ(plain.name, "plain");
  EXPECT_EQ(plain.rank, 2);
}

TEST(Detect, NonsenseIsNamed) {
  const auto message = [](const Variables& v) -> std::string {
    try {
      detect_in(v);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message({{"WEFT_RANK", "-1"}}), HasSubstr("WEFT_RANK='-1'"));
  EXPECT_THAT(message({{"WEFT_RANK", "4"}, {"WORLD_SIZE", "4"}}), HasSubstr("rank 4 of 4"));
  EXPECT_THAT(message({{"TORCHELASTIC_RUN_ID", "x"}, {"RANK", "0"}}), HasSubstr("LOCAL_RANK"));
  EXPECT_THAT(message({{"WEFT_RANK", "0"}, {"MASTER_PORT", "70000"}}), HasSubstr("70000"));
}

TEST(HostList, Brackets) {
  EXPECT_THAT(expand_host_list("a"), ElementsAre("a"));
  EXPECT_THAT(expand_host_list("node[01-03,7],gpu5"),
              ElementsAre("node01", "node02", "node03", "node7", "gpu5"));
  EXPECT_THAT(expand_host_list("r[1-2]n[3-4]x"), ElementsAre("r1n3x", "r1n4x", "r2n3x", "r2n4x"));
  EXPECT_THAT(expand_host_list("n[099-101]"), ElementsAre("n099", "n100", "n101"));
  EXPECT_THAT(expand_host_list(""), ElementsAre());
}

TEST(HostList, Malformed) {
  for (const char* bad : {"n[1-", "n[", "n]1", "n[3-1]", "n[a-b]", "n[]", ",a", "a,", "a,,b",
                          "n[1,]", "n[0-99999999999]", "n[1-9][0-99999999]", "[[1]]"}) {
    EXPECT_THROW(expand_host_list(bad), InvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace weft::launcher
