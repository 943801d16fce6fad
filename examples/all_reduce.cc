// The engine in code of your own: sum a vector over all ranks.
//
//   all_reduce --devices 4            starts four ranks itself
//   weft run --devices=4 all_reduce   is started by the launcher
#include <fmt/format.h>

#include <string>
#include <vector>

#include "launcher/fabric.h"

int main(int argc, char** argv) {
  weft::FabricOptions options;
  if (argc == 3 && std::string(argv[1]) == "--devices") {
    options.devices = argv[2];
  } else if (argc != 1) {
    fmt::print(stderr, "usage: all_reduce [--devices N]\n");
    return 2;
  }
  try {
    weft::Fabric fabric(options);
    fabric.launch();

    std::vector<float> gradients(1000, static_cast<float>(fabric.global_rank() + 1));
    fabric.communicator().all_reduce(std::span(gradients), weft::ReduceOp::sum);

    fmt::print("rank {} of {}: every element is {}\n", fabric.global_rank(), fabric.world_size(),
               gradients[0]);
    return 0;
  } catch (const weft::Error& error) {
    fmt::print(stderr, "{}: {}\n", weft::name_of(error.code()), error.what());
    return 1;
  }
}
