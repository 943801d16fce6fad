// Reads dumps of the flight recorder, and compares those of several ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/trace/recorder.h"

namespace weft::comm::trace {

struct DumpedOperation {
  std::uint64_t serial = 0;
  std::int64_t sequence = 0;
  std::string kind;  // "all_reduce"
  State state = State::queued;
  std::string dtype;      // where there are elements
  std::string op;         // of reductions
  std::string algorithm;  // of collectives
  std::int64_t root = -1;
  std::int64_t peer = -1;
  std::int64_t count = 0;
  std::int64_t bytes = 0;
  std::int64_t start_ns = 0;  // since the epoch, as are all
  std::optional<std::int64_t> end_ns;
  std::int64_t steps_done = 0;
  std::int64_t steps = 0;

  bool is_message() const { return kind == "send" || kind == "recv"; }
  bool is_over() const { return state == State::complete; }
  // "all_reduce #12", "recv #3 from rank 2"
  std::string name() const;
  // What all ranks must agree about: "all_reduce, 10 x f32, sum".
  std::string call() const;
};

struct DumpedCommunicator {
  std::string name;
  int rank = 0;
  int world_size = 1;
  std::string failure;  // "": none
  std::uint64_t operations_begun = 0;
  std::vector<DumpedOperation> operations;  // oldest first
};

struct FlightDump {
  std::string path;
  int rank = 0;
  std::string host;
  std::int64_t pid = 0;
  std::string job;
  std::string reason;  // "SIGUSR2", an error's text
  bool by_signal = false;
  std::int64_t written_ns = 0;
  std::vector<DumpedCommunicator> communicators;
};

// Throws Corrupt naming file and field (or character, where it is no JSON), IoError.
FlightDump read_flight_dump(const std::string& path);

// For people: each communicator's ranks side by side, who is behind or elsewhere, and the last
// `last` operations of each rank. Throws InvalidArgument where two dumps are of the same rank of
// one job.
std::string compare_flight_dumps(const std::vector<FlightDump>& dumps, int last);

}  // namespace weft::comm::trace
