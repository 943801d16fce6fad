// The other collectives over MPI, sizes counted as `weft bench` does (bytes of the larger side).
// Usage: mpirun -np N ./mpi_collectives [min_bytes max_bytes factor]
// Prints: collective  bytes  median_us   (rank 0; float32, sum, out of place, slowest rank)
#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank, n;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &n);
  const size_t lo = argc > 1 ? atoll(argv[1]) : 8, hi = argc > 2 ? atoll(argv[2]) : (32u << 20);
  const size_t factor = argc > 3 ? atoll(argv[3]) : 4;
  std::vector<float> a(hi / 4 + 1, 1.0f), b(hi / 4 + 1);
  const MPI_Comm w = MPI_COMM_WORLD;
  const MPI_Datatype f = MPI_FLOAT;
  using Run = std::function<void(int)>;  // by elements of a block (of all, where there is one)
  const std::vector<std::tuple<std::string, bool, Run>> kinds = {
      {"broadcast", false, [&](int c) { MPI_Bcast(a.data(), c, f, 0, w); }},
      {"reduce", false, [&](int c) { MPI_Reduce(a.data(), b.data(), c, f, MPI_SUM, 0, w); }},
      {"all_gather", true, [&](int c) { MPI_Allgather(a.data(), c, f, b.data(), c, f, w); }},
      {"reduce_scatter", true,
       [&](int c) { MPI_Reduce_scatter_block(a.data(), b.data(), c, f, MPI_SUM, w); }},
      {"gather", true, [&](int c) { MPI_Gather(a.data(), c, f, b.data(), c, f, 0, w); }},
      {"scatter", true, [&](int c) { MPI_Scatter(a.data(), c, f, b.data(), c, f, 0, w); }},
      {"all_to_all", true, [&](int c) { MPI_Alltoall(a.data(), c, f, b.data(), c, f, w); }},
      {"barrier", false, [&](int) { MPI_Barrier(w); }},
  };
  for (const auto& [name, blocks, run] : kinds) {
    for (size_t bytes = lo; bytes <= hi; bytes *= factor) {
      const int count = static_cast<int>(bytes / 4 / (blocks ? n : 1));
      const int iters = bytes <= 65536 ? 400 : bytes <= (4u << 20) ? 60 : 15;
      std::vector<double> times;
      for (int i = -std::max(3, iters / 10); i < iters; ++i) {
        MPI_Barrier(w);
        const double start = MPI_Wtime();
        run(count);
        double mine = MPI_Wtime() - start, slowest;
        MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, w);
        if (i >= 0) times.push_back(slowest);
      }
      std::sort(times.begin(), times.end());
      if (!rank) {
        printf("%s %zu %.2f\n", name.c_str(), bytes, times[times.size() / 2] * 1e6);
        fflush(stdout);
      }
      if (name == "barrier") break;
    }
  }
  MPI_Finalize();
}
