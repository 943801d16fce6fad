#include "bench/collectives/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string_view>

#include "comm/algorithms/algorithms.h"

namespace weft::bench {
namespace {

std::vector<std::string> dtype_names() {
  std::vector<std::string> names;
  for (int i = 0; i < kDTypeCount; ++i) names.emplace_back(name_of(static_cast<DType>(i)));
  return names;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (int i = 0; i < kReduceOpCount; ++i) names.emplace_back(name_of(static_cast<ReduceOp>(i)));
  return names;
}

std::vector<std::string> algorithm_names() {
  std::vector<std::string> names{"auto"};
  for (const auto& algorithm : comm::algorithms()) names.emplace_back(algorithm.name);
  return names;
}

struct Raw {
  std::uint64_t min_bytes, max_bytes, step_bytes = 0;
  std::string dtype = "f32", op = "sum";
  std::string wire = "none";
  std::string accelerator = "cpu";
  int check = 1;
  std::optional<int> blocking;
};

void declare(CLI::App& app, Options& options, Raw& raw) {
  raw.min_bytes = static_cast<std::uint64_t>(options.min_bytes.value);
  raw.max_bytes = static_cast<std::uint64_t>(options.max_bytes.value);
  app.add_option("collective", options.collective, "What to measure")
      ->check(CLI::IsMember(kCollectives))
      ->capture_default_str();
  app.add_option("-b,--minbytes", raw.min_bytes, "Smallest size (8, 64K, 1M ...)")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("-e,--maxbytes", raw.max_bytes, "Largest size")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("-f,--stepfactor", options.factor, "Multiply the size by this from row to row")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  app.add_option("-i,--stepbytes", raw.step_bytes, "Add this instead of multiplying")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("-n,--iters", options.iterations, "Timed iterations a size")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("-w,--warmup_iters", options.warmup, "Iterations before timing")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("-c,--check", raw.check, "Check results: 0 or 1")
      ->check(CLI::Range(0, 1))
      ->capture_default_str();
  app.add_option("-z,--blocking", raw.blocking,
                 "1: wait for each operation and give the median; 0: issue all asynchronously and "
                 "give the mean (default: 1, on cuda 0)")
      ->check(CLI::Range(0, 1));
  app.add_option("-G,--cudagraph", options.graph_launches,
                 "On cuda: capture all iterations in a graph and launch it this many times")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("-d,--datatype", raw.dtype, "Element type")
      ->check(CLI::IsMember(dtype_names()))
      ->capture_default_str();
  app.add_option("-o,--op", raw.op, "Reduction")
      ->check(CLI::IsMember(op_names()))
      ->capture_default_str();
  app.add_option("-r,--root", options.root, "Root of rooted collectives")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--devices", options.devices, "Ranks to start (ignored under weft run)")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--accelerator", raw.accelerator,
                 "cpu: buffers in host memory; cuda: on devices, which ranks share in turn where "
                 "there are fewer")
      ->check(CLI::IsMember({"cpu", "cuda", "gpu"}))
      ->capture_default_str();
  app.add_option(
         "--transport", options.transport,
         "auto: processes, over shared memory where they share a host; shm, tcp: processes, "
         "over nothing else; inproc: threads of one process")
      ->check(CLI::IsMember({"auto", "shm", "tcp", "inproc"}))
      ->capture_default_str();
  app.add_flag("--registered", options.registered,
               "Buffers from allocate_symmetric(), which ranks of one host address directly");
  app.add_option("--algorithm", options.algorithm, "auto, or one for every size")
      ->check(CLI::IsMember(algorithm_names()))
      ->capture_default_str();
  app.add_option("--wire", raw.wire, "What f32 travels as")
      ->check(CLI::IsMember({"none", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--interface", options.interface, "Network interface or address for tcp");
  app.add_option("--lanes", options.lanes, "Connections a pair of ranks")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
  app.add_option("--json", options.json_file, "Write the table to this file as JSON, too");
}

[[noreturn]] void refuse(const std::string& message) {
  std::cerr << "weft bench: " << message << '\n';
  std::exit(2);
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  Raw raw;
  CLI::App app(
      "Times a collective over a range of sizes, with nccl-tests' options, columns and footer.",
      "weft bench");
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  declare(app, options, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    std::exit(code == 0 ? 0 : 2);
  }
  constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 40;
  if (raw.max_bytes > kBytesMax) refuse("-e: at most 1T");
  if (raw.min_bytes > raw.max_bytes) refuse("-b must not be larger than -e");
  options.min_bytes = Bytes(static_cast<std::int64_t>(raw.min_bytes));
  options.max_bytes = Bytes(static_cast<std::int64_t>(raw.max_bytes));
  options.step_bytes = Bytes(static_cast<std::int64_t>(raw.step_bytes));
  options.dtype = *parse_dtype(raw.dtype);
  options.op = *parse_reduce_op(raw.op);
  if (raw.wire != "none") {
    options.wire = parse_dtype(raw.wire);
    if (options.dtype != DType::f32) refuse("--wire compresses f32: leave it or -d out");
    constexpr std::array<std::string_view, 5> kCompress = {"all_reduce", "reduce", "broadcast",
                                                           "all_gather", "reduce_scatter"};
    if (std::find(kCompress.begin(), kCompress.end(), options.collective) == kCompress.end()) {
      refuse("--wire: " + options.collective + " does not compress; leave it out");
    }
  }
  options.check = raw.check != 0;
  options.on_cuda = raw.accelerator != "cpu";
  options.blocking = raw.blocking.value_or(options.on_cuda ? 0 : 1) != 0;
  if (options.graph_launches > 0) {
    if (!options.on_cuda) refuse("-G: graphs are CUDA's: give --accelerator=cuda");
    if (options.collective == "send_recv") {
      refuse("-G: send_recv sends while it receives, and graphs need not do both at a time");
    }
    if (raw.blocking == 1) refuse("-G: a graph is not waited for call by call: leave out -z 1");
    options.blocking = false;
  }
  if (options.on_cuda && options.wire) {
    refuse("--wire: nothing is compressed between devices; leave it out");
  }
  return options;
}

}  // namespace weft::bench
