// Writes the flight recorder of a rank as JSON: DIR/flight.RANK.PID.json, all its communicators of
// this process. The file is written beside its place and renamed, so that there is always a whole
// one; a later dump replaces it. Format: docs/trace.md.
//
// Async-signal-safe: no allocation, no lock that could be held by the interrupted thread (a dump
// that is under way on the same thread is left alone, on another thread it is waited for, for two
// seconds at most).
#pragma once

#include <string_view>

namespace weft::comm::trace {

struct Reason {
  std::string_view kind;  // "error" or "signal"
  std::string_view text;  // JSON, in quotes: "\"SIGUSR2\""
  int signal = 0;         // 0: none
};

// Of one rank of this process, or of all of them (rank < 0). Trouble with the file is told on
// standard error, once a process.
void dump(int job_rank, const Reason& reason);

// Makes SIGUSR2 dump and go on, and SIGSEGV, SIGABRT, SIGBUS, SIGFPE and SIGTERM dump, after which
// what they did before happens. Once a process; a signal whose handler is replaced later is the
// replacer's.
void install_signal_handlers();

}  // namespace weft::comm::trace
