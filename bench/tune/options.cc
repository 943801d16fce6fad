#include "bench/tune/options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace weft::bench {

TuneOptions parse_tune_options(int argc, char** argv) {
  TuneOptions o;
  CLI::App app("Fits the choice of algorithms to this machine, or explains a choice.", "weft tune");
  app.add_option("--devices", o.devices, "Ranks to start (ignored under weft run)")
      ->check(CLI::Range(2, 1024))
      ->capture_default_str();
  std::string accelerator = "cpu";
  app.add_option("--accelerator", accelerator,
                 "cpu: collectives on host memory; cuda: on devices of one host, which ranks share "
                 "in turn where there are fewer")
      ->check(CLI::IsMember({"cpu", "cuda", "gpu"}))
      ->capture_default_str();
  app.add_option("--transport", o.transport, "What to measure: auto is shm inside a host")
      ->check(CLI::IsMember({"auto", "shm", "tcp"}))
      ->capture_default_str();
  app.add_option("--output", o.output, "The file to write (default: your own)");
  app.add_flag("--quick", o.quick, "all_reduce and broadcast alone, few sizes");
  app.add_flag("--show", o.show, "Measure nothing: explain the choice for the options below");
  app.add_option("--file", o.file, "Tuning file, or none (default: WEFT_TUNING, or your own)");
  std::map<std::string, comm::Collective> collectives;
  std::vector<std::string> names;
  for (int c = 0; c < comm::kScheduledCollectives; ++c) {
    const auto collective = static_cast<comm::Collective>(c);
    names.emplace_back(comm::name_of(collective));
    collectives[names.back()] = collective;
  }
  std::string collective = comm::name_of(o.collective);
  app.add_option("--collective", collective, "Which")
      ->check(CLI::IsMember(names))
      ->capture_default_str();
  std::uint64_t bytes = static_cast<std::uint64_t>(o.bytes.value);
  app.add_option("--bytes", bytes, "Of the larger buffer (8, 64K, 1M ...)")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 40));
  app.add_option("--ranks", o.ranks, "Ranks")->check(CLI::Range(1, 65536))->capture_default_str();
  app.add_option("--ranks-per-host", o.ranks_per_host, "Of these, on a host (default: all)")
      ->check(CLI::Range(1, 65536));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    std::exit(code == 0 ? 0 : 2);
  }
  o.collective = collectives.at(collective);
  o.on_cuda = accelerator != "cpu";
  if (o.on_cuda && o.transport == "tcp") {
    std::cerr << "weft tune: --accelerator=cuda measures memory that ranks share: leave out "
                 "--transport=tcp\n";
    std::exit(2);
  }
  o.bytes = Bytes(static_cast<std::int64_t>(bytes));
  return o;
}

}  // namespace weft::bench
