#include "launcher/environment/detect.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>

#include "kernels/base/error.h"
#include "kernels/base/regular_file.h"

namespace weft::launcher {
namespace {

// Variables of one environment, with errors that name them.
class Reader {
 public:
  explicit Reader(const Lookup& lookup) : lookup_(lookup) {}

  bool has(const char* name) const { return lookup_(name).has_value(); }
  std::string text(const char* name, const std::string& otherwise = "") const {
    return lookup_(name).value_or(otherwise);
  }
  // The first of the names that is set.
  int number(std::initializer_list<const char*> names, int otherwise) const {
    for (const char* name : names) {
      if (const auto value = lookup_(name)) return parse(name, *value);
    }
    return otherwise;
  }
  int required(const char* name) const {
    const auto value = lookup_(name);
    if (!value)
      fail<InvalidArgument>("{} is not set, but other variables of its launcher are", name);
    return parse(name, *value);
  }
  // MASTER_ADDR and MASTER_PORT, by whomever they were set.
  void given_address(ClusterEnvironment& e) const {
    e.main_address = text("MASTER_ADDR", e.main_address);
    e.main_port = number({"MASTER_PORT"}, e.main_port);
  }

 private:
  static int parse(const char* name, const std::string& value) {
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || number < 0) {
      fail<InvalidArgument>("{}='{}': expected a whole number, at least 0", name, value);
    }
    return number;
  }

  const Lookup& lookup_;
};

bool is_weft(const Reader& r) { return r.has("WEFT_RANK"); }
void read_weft(const Reader& r, ClusterEnvironment& e) {
  e.rank = r.required("WEFT_RANK");
  e.local_rank = r.number({"LOCAL_RANK"}, 0);
  e.world_size = r.number({"WORLD_SIZE"}, 1);
  e.local_world_size = r.number({"LOCAL_WORLD_SIZE"}, 0);
  e.node_rank = r.number({"NODE_RANK", "GROUP_RANK"}, 0);
  e.num_nodes = r.number({"WEFT_NUM_NODES"}, 0);
  r.given_address(e);
}

bool is_torchrun(const Reader& r) { return r.has("TORCHELASTIC_RUN_ID"); }
void read_torchrun(const Reader& r, ClusterEnvironment& e) {
  e.rank = r.required("RANK");
  e.local_rank = r.required("LOCAL_RANK");
  e.world_size = r.required("WORLD_SIZE");
  e.local_world_size = r.number({"LOCAL_WORLD_SIZE"}, 0);
  e.node_rank = r.number({"GROUP_RANK"}, 0);
  e.num_nodes = r.number({"GROUP_WORLD_SIZE"}, 0);
  r.given_address(e);
}

bool is_mpi(const Reader& r) {
  return r.has("OMPI_COMM_WORLD_SIZE") || (r.has("PMI_SIZE") && r.has("PMI_RANK"));
}
void read_mpi(const Reader& r, ClusterEnvironment& e) {
  if (r.has("OMPI_COMM_WORLD_SIZE")) {
    e.rank = r.required("OMPI_COMM_WORLD_RANK");
    e.world_size = r.required("OMPI_COMM_WORLD_SIZE");
    e.local_rank = r.required("OMPI_COMM_WORLD_LOCAL_RANK");
    e.local_world_size = r.number({"OMPI_COMM_WORLD_LOCAL_SIZE"}, 0);
    e.node_rank = r.number({"OMPI_MCA_orte_ess_node_rank"}, 0);
  } else {
    e.rank = r.required("PMI_RANK");
    e.world_size = r.required("PMI_SIZE");
    e.local_rank = r.number({"MPI_LOCALRANKID", "PMI_LOCAL_RANK"}, e.rank);
    e.local_world_size = r.number({"MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"}, 0);
  }
  e.num_nodes = e.local_world_size == e.world_size ? 1 : 0;
  r.given_address(e);
}

bool is_lsf(const Reader& r) { return r.has("LSB_JOBID") && r.has("LSB_DJOB_RANKFILE"); }
void read_lsf(const Reader& r, ClusterEnvironment& e) {
  e.rank = r.required("JSM_NAMESPACE_RANK");
  e.local_rank = r.required("JSM_NAMESPACE_LOCAL_RANK");
  e.world_size = r.required("JSM_NAMESPACE_SIZE");
  e.local_world_size = e.num_nodes = 0;
  // The rank file's first line is the batch host, the second the first that runs ranks.
  const std::string path = r.text("LSB_DJOB_RANKFILE");
  try {
    expect_regular_file(path, "LSB_DJOB_RANKFILE");
  } catch (const IoError& error) {
    fail<InvalidArgument>("LSB_DJOB_RANKFILE='{}': cannot read two hosts from it: {}", path,
                          error.what());
  }
  std::ifstream file(path);
  std::string host;
  if (!(file >> host >> host)) {
    fail<InvalidArgument>("LSB_DJOB_RANKFILE='{}': cannot read two hosts from it", path);
  }
  e.main_address = host;
  e.main_port = 10000 + r.required("LSB_JOBID") % 1000;
  r.given_address(e);
}

bool is_slurm(const Reader& r) {
  const std::string name = r.text("SLURM_JOB_NAME");
  return r.has("SLURM_NTASKS") && r.has("SLURM_PROCID") && name != "bash" && name != "interactive";
}
void read_slurm(const Reader& r, ClusterEnvironment& e) {
  e.rank = r.required("SLURM_PROCID");
  e.local_rank = r.required("SLURM_LOCALID");
  e.world_size = r.number({"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}, 1);
  e.local_world_size = r.number({"SLURM_NTASKS_PER_NODE"}, 0);
  e.node_rank = r.number({"SLURM_NODEID"}, 0);
  e.num_nodes = r.number({"SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES"}, 0);
  const auto hosts = expand_host_list(r.text("SLURM_STEP_NODELIST", r.text("SLURM_JOB_NODELIST")));
  if (!hosts.empty()) e.main_address = hosts.front();
  // Jobs that share a node have different ids; the range is outside the usual ephemeral one.
  e.main_port = 15000 + r.number({"SLURM_JOB_ID", "SLURM_JOBID"}, 0) % 10000;
  r.given_address(e);
}

bool is_kubeflow(const Reader& r) {
  return r.has("KUBERNETES_SERVICE_HOST") && r.has("MASTER_ADDR") && r.has("RANK") &&
         r.has("WORLD_SIZE") && !r.has("LOCAL_RANK");
}
void read_kubeflow(const Reader& r, ClusterEnvironment& e) {
  // One process a pod: RANK counts the nodes.
  e.rank = e.node_rank = r.required("RANK");
  e.world_size = e.num_nodes = r.required("WORLD_SIZE");
  r.given_address(e);
}

bool is_plain(const Reader& r) { return r.has("LOCAL_RANK"); }
void read_plain(const Reader& r, ClusterEnvironment& e) {
  e.local_rank = r.required("LOCAL_RANK");
  e.node_rank = r.number({"NODE_RANK", "GROUP_RANK"}, 0);
  e.local_world_size = r.number({"LOCAL_WORLD_SIZE"}, 0);
  e.world_size = r.number({"WORLD_SIZE"}, 1);
  e.rank = r.number({"RANK"}, e.node_rank * e.local_world_size + e.local_rank);
  e.num_nodes = 0;
  r.given_address(e);
}

struct Known {
  const char* name;
  bool (*recognise)(const Reader&);
  void (*read)(const Reader&, ClusterEnvironment&);
};

constexpr std::array<Known, 7> kKnown = {{
    {"weft", is_weft, read_weft},
    {"torchrun", is_torchrun, read_torchrun},
    {"mpi", is_mpi, read_mpi},
    {"lsf", is_lsf, read_lsf},
    {"slurm", is_slurm, read_slurm},
    {"kubeflow", is_kubeflow, read_kubeflow},
    {"plain", is_plain, read_plain},
}};

void check(const ClusterEnvironment& e) {
  if (e.world_size < 1 || e.rank >= e.world_size) {
    fail<InvalidArgument>("{} says that this is rank {} of {}: ranks are 0 to world size - 1",
                          e.name, e.rank, e.world_size);
  }
  if (e.main_port > 65535) {
    fail<InvalidArgument>("MASTER_PORT={}: expected 1 to 65535", e.main_port);
  }
}

}  // namespace

std::optional<std::string> lookup_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

ClusterEnvironment detect(const Lookup& lookup) {
  const Reader reader(lookup);
  ClusterEnvironment environment;
  for (const auto& known : kKnown) {
    if (!known.recognise(reader)) continue;
    environment.name = known.name;
    known.read(reader, environment);
    check(environment);
    break;
  }
  return environment;
}

}  // namespace weft::launcher
