#include "bench/collectives/report.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/collectives/kinds.h"
#include "bench/output_file.h"
#include "kernels/base/error.h"

namespace weft::bench {
namespace {

std::string columns(const std::optional<Timing>& timing) {
  if (!timing) return fmt::format("{:>9} {:>7} {:>7} {:>6}", "-", "-", "-", "-");
  const auto wrong = timing->wrong < 0 ? std::string("N/A") : fmt::format("{}", timing->wrong);
  return fmt::format("{:>9.2f} {:>7.3f} {:>7.3f} {:>6}", timing->microseconds,
                     timing->algorithm_gbps, timing->bus_gbps, wrong);
}

double average_bus(const std::vector<Row>& rows) {
  double sum = 0;
  int count = 0;
  for (const auto& row : rows) {
    for (const auto& timing : {row.out_of_place, row.in_place}) {
      if (!timing) continue;
      sum += timing->bus_gbps;
      ++count;
    }
  }
  return count ? sum / count : 0.0;
}

nlohmann::json to_json(const std::optional<Timing>& timing) {
  if (!timing) return nullptr;
  return {{"time_us", timing->microseconds},
          {"algbw_gbps", timing->algorithm_gbps},
          {"busbw_gbps", timing->bus_gbps},
          {"wrong", timing->wrong < 0 ? nlohmann::json(nullptr) : nlohmann::json(timing->wrong)}};
}

}  // namespace

void print_header(const Options& options, const Communicator& communicator,
                  const std::string& where) {
  fmt::print("# weft bench {}: {} ranks, transport {}, {} buffers, algorithm {}{}{}\n",
             options.collective, communicator.size(), options.transport,
             options.registered ? "registered" : "ordinary", options.algorithm,
             options.on_cuda ? std::string() : fmt::format(", lanes {}", options.lanes),
             options.wire ? fmt::format(", wire {}", name_of(*options.wire)) : std::string());
  fmt::print(
      "# buffers in {}\n# minBytes {} maxBytes {} step: {} warmup iters: {} iters: {} validation: "
      "{} blocking: "
      "{}{}\n#\n",
      where, options.min_bytes.value, options.max_bytes.value,
      options.step_bytes.value > 0 ? fmt::format("{}(bytes)", options.step_bytes.value)
                                   : fmt::format("{}(factor)", options.factor),
      options.warmup, options.iterations, options.check ? 1 : 0, options.blocking ? 1 : 0,
      options.graph_launches > 0 ? fmt::format(" graph launches: {}", options.graph_launches) : "");
  fmt::print("# {:>11} {:>12} {:>8} {:>6} {:>6} {:>32} {:>32}\n", "", "", "", "", "",
             "out-of-place", "in-place");
  fmt::print("# {:>11} {:>12} {:>8} {:>6} {:>6} {:>9} {:>7} {:>7} {:>6} {:>9} {:>7} {:>7} {:>6}\n",
             "size", "count", "type", "redop", "root", "time", "algbw", "busbw", "#wrong", "time",
             "algbw", "busbw", "#wrong");
  fmt::print("# {:>11} {:>12} {:>8} {:>6} {:>6} {:>9} {:>7} {:>7} {:>6} {:>9} {:>7} {:>7} {:>6}\n",
             "(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)", "", "(us)", "(GB/s)",
             "(GB/s)", "");
  std::fflush(stdout);
}

void print_row(const Options& options, const Row& row) {
  const auto& kind = find_kind(options.collective);
  const auto op = kind.reducing ? std::string(name_of(options.op)) : std::string("none");
  const int root = kind.rooted ? options.root : -1;
  fmt::print("  {:>11} {:>12} {:>8} {:>6} {:>6} {} {}\n", row.size.value, row.count.value,
             name_of(options.dtype), op, root, columns(row.out_of_place), columns(row.in_place));
  std::fflush(stdout);
}

std::int64_t total_wrong(const std::vector<Row>& rows) {
  std::int64_t total = 0;
  for (const auto& row : rows) {
    for (const auto& timing : {row.out_of_place, row.in_place}) {
      if (timing && timing->wrong > 0) total += timing->wrong;
    }
  }
  return total;
}

void print_footer(const std::vector<Row>& rows) {
  const auto wrong = total_wrong(rows);
  fmt::print("# Out of bounds values : {} {}\n", wrong, wrong == 0 ? "OK" : "FAILED");
  fmt::print("# Avg bus bandwidth    : {:.6g}\n#\n", average_bus(rows));
  std::fflush(stdout);
}

void write_json(const Options& options, const Communicator& communicator, const std::string& where,
                const std::vector<Row>& rows) {
  nlohmann::json document = {{"collective", options.collective},
                             {"ranks", communicator.size()},
                             {"transport", options.transport},
                             {"algorithm", options.algorithm},
                             {"lanes", options.lanes},
                             {"dtype", name_of(options.dtype)},
                             {"op", name_of(options.op)},
                             {"iterations", options.iterations},
                             {"wire", name_of(options.wire.value_or(options.dtype))},
                             {"blocking", options.blocking},
                             {"graph_launches", options.graph_launches},
                             {"registered", options.registered},
                             {"accelerator", options.on_cuda ? "cuda" : "cpu"},
                             {"buffers_in", where},
                             {"average_busbw_gbps", average_bus(rows)},
                             {"wrong", total_wrong(rows)},
                             {"rows", nlohmann::json::array()}};
  for (const auto& row : rows) {
    document["rows"].push_back({{"bytes", row.size.value},
                                {"count", row.count.value},
                                {"out_of_place", to_json(row.out_of_place)},
                                {"in_place", to_json(row.in_place)}});
  }
  write_text("--json", options.json_file, document.dump(2) + "\n");
}

}  // namespace weft::bench
