// Who started this process, and as which rank: one table of launchers, read from the environment.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::launcher {

struct ClusterEnvironment {
  std::string name = "none";  // weft torchrun mpi lsf slurm kubeflow plain; none: started by hand
  int rank = 0;
  int local_rank = 0;
  int world_size = 1;
  int local_world_size = 1;  // 0: not told
  int node_rank = 0;
  int num_nodes = 1;  // 0: not told
  std::string main_address = "127.0.0.1";
  int main_port = 0;  // 0: not told
};

// The value of a variable; nothing where it is unset or empty.
using Lookup = std::function<std::optional<std::string>(const char* name)>;
std::optional<std::string> lookup_environment(const char* name);

// The first that recognises its variables, in this order: weft, torchrun, MPI (Open MPI; MPICH and
// others with Hydra), LSF, Slurm, Kubeflow, plain (LOCAL_RANK set by whoever started us). MPI comes
// before Slurm, whose variables mpirun passes on unchanged within an allocation. InvalidArgument
// names a variable that makes no sense. Only weft's own launcher hands out the job's secret; under
// the others WEFT_SECRET_FILE must name a file that holds it (see weft secret --help).
ClusterEnvironment detect(const Lookup& lookup = lookup_environment);

// "node[01-03,7],gpu5" -> node01 node02 node03 node7 gpu5, as Slurm writes lists of hosts.
std::vector<std::string> expand_host_list(std::string_view list);

}  // namespace weft::launcher
