// One rank that does collectives on CUDA memory, as a process: gpu_member_main DEED, told of its
// job by its environment. Says on stdout what it found.
//
//   work: all kinds of buffers and ways; forever: all_reduces; kill: the same, until it kills
//   itself
#include <csignal>
#include <cstdio>
#include <numeric>
#include <string>

#include "comm/environment.h"
#include "tests/gpu/cuda_world.h"

namespace {

using namespace weft;        // NOLINT: a program
using namespace weft::comm;  // NOLINT
namespace cuda = kernels::cuda;
using comm::testing::CudaRank;
using comm::testing::TwinBuffer;

void tell(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

// Through shared scratch, through symmetric memory, by flags beside the data, and messages.
void work(CudaRank& rank) {
  tell("means " + rank.cuda.means());
  for (const std::int64_t count : {3, 5'000, 100'003}) {
    TwinBuffer data(DType::bf16, count, count % 2 == 1);
    for (const char* algorithm : {"", "ring", "two_shot", "tree"}) {
      data.fill(static_cast<std::uint64_t>(count + rank.rank()), rank.stream, true);
      rank.cuda.all_reduce(data.device(), ReduceOp::sum, rank.stream, {algorithm});
      rank.host.all_reduce(data.host(), ReduceOp::sum, {algorithm});
      if (data.download(rank.stream) != data.host_bytes()) tell("wrong " + std::string(algorithm));
    }
  }
  for (int k = 0; k < 3; ++k) {
    const std::int64_t count = 30'000;
    SymmetricMemory memory = rank.cuda.allocate_symmetric(Bytes(count * 4));
    std::vector<std::int32_t> values(count);
    std::iota(values.begin(), values.end(), rank.rank());
    cuda::copy_async(memory.data(), values.data(), memory.size(), rank.stream);
    rank.cuda.all_reduce({memory.data(), Elems(count), DType::i32}, ReduceOp::sum, rank.stream);
    cuda::copy_async(values.data(), memory.data(), memory.size(), rank.stream);
    rank.wait();
    const int n = rank.size();
    for (std::int32_t i = 0; i < count; ++i) {
      if (values[static_cast<std::size_t>(i)] == n * i + n * (n - 1) / 2) continue;
      tell("wrong sum in symmetric memory");
      break;
    }
  }
  TwinBuffer message(DType::u8, 200'001, false);
  message.fill(static_cast<std::uint64_t>(rank.rank()), rank.stream);
  const cuda::OwnedStream receiving(rank.cuda.device());
  TwinBuffer got(DType::u8, 200'001, true);
  rank.cuda.send(message.device(), (rank.rank() + 1) % rank.size(), rank.stream);
  const int from = (rank.rank() + rank.size() - 1) % rank.size();
  rank.cuda.recv(got.device(), from, receiving.get()).wait();
  message.fill(static_cast<std::uint64_t>(from), rank.stream);
  if (got.download(rank.stream) != message.host_bytes()) tell("wrong message");
}

void all_reduce_forever(CudaRank& rank, bool ends) {
  TwinBuffer data(DType::f32, 20'000, false);
  data.fill(1, rank.stream);
  for (int k = 0;; ++k) {
    rank.cuda.all_reduce(data.device(), ReduceOp::max, rank.stream).wait();
    if (k == 3) tell("ready");
    if (k == 3 && ends) std::raise(SIGKILL);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string deed = argc > 1 ? argv[1] : "work";
  try {
    Communicator world = Communicator::connect(ConnectOptions::from_environment());
    const cuda::OwnedStream stream(0);
    CudaRank rank{world, world.cuda(0, 2), stream.get()};
    if (deed == "work") {
      work(rank);
    } else {
      all_reduce_forever(rank, deed == "kill");
    }
    rank.cuda.barrier(stream.get()).wait();
    tell("done");
  } catch (const std::exception& error) {
    tell(std::string("thrown: ") + error.what());
  }
  comm::testing::WorldMemory::free_all();
  return 0;
}
