// What the executor calls: a recorder that is always there, and a timeline that mostly is not. Each
// call costs one predictable branch where its part is off.
//
// begin, run, steps and end follow recorder.h. What belongs to the timeline is measured from a
// stamp(): 0 while the timeline is off, and everything that is given a 0 does nothing.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/trace/log.h"
#include "comm/trace/recorder.h"
#include "comm/trace/timeline.h"

namespace weft::comm::trace {

struct Options {
  std::string flight_recorder;  // directory for dumps; "off": nothing is recorded at all; "": on,
                                // but never written
  std::string timeline;         // directory; "": off
  std::size_t timeline_events = Timeline::kEventsDefault;  // a thread
  bool speaks = true;  // says what is wrong with the directories (one rank of a host should)

  // WEFT_FLIGHT_RECORDER, WEFT_TIMELINE, WEFT_TIMELINE_EVENTS. Throws InvalidArgument.
  static Options from_environment();
};

class Trace {
 public:
  Trace() = default;
  ~Trace() { close(); }
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Before the first operation: who this is. Directories are made; where that fails a warning says
  // so, once a process, and that part stays off. names[r]: rank r's rank in the job.
  void open(const Identity& identity, const Options& options, std::vector<int> names);
  // Why the communicator failed. The operations given up were end()ed already. Writes the dump and
  // the timeline.
  void failed(const std::string& reason);
  // Writes the timeline, and ends dumps. What is recorded afterwards is seen by nobody.
  void close();

  // --- Operations.
  Slot begin(const CallFields& call, State state) {
    return records_ ? recorder_.begin(call, state) : Slot{};
  }
  Slot begin(const CallFields& call, State state, Ticks now) {
    return records_ ? recorder_.begin(call, state, now) : Slot{};
  }
  void run(Slot slot) { recorder_.run(slot); }
  void steps(Slot slot, std::int64_t done) {
    recorder_.steps(slot, static_cast<std::uint32_t>(done));
  }
  void end(Slot slot, State state) {
    if (recorder_.end(slot, state) && timeline_) add_operation(slot, EventKind::operation, 0);
  }

  // --- The timeline.
  bool has_timeline() const { return timeline_ != nullptr; }
  Ticks stamp() const { return timeline_ ? ticks() : 0; }
  void name_thread(const char* name) {
    if (timeline_) timeline_->name_thread(name);
  }
  // From `since` until now; `what` says the rest.
  void message(Ticks since, EventKind kind, const Event& what) {
    if (since != 0) add(since, ticks(), kind, what);
  }
  // A reduction or copy.
  void work(Ticks since, EventKind kind, std::uint8_t collective, std::uint32_t sequence,
            std::uint64_t bytes) {
    if (since != 0) add_work(since, kind, collective, sequence, bytes);
  }
  void waited(Ticks since, EventKind kind = EventKind::wait) {
    if (since != 0) add(since, ticks(), kind, {});
  }
  void waited(Ticks since, Ticks until) {
    if (since != 0) add(since, until, EventKind::wait, {});
  }
  // A blocking call, over.
  void called(Ticks since, Slot slot) {
    if (since != 0) add_operation(slot, EventKind::call, since);
  }

  const Recorder& recorder() const { return recorder_; }
  Timeline* timeline() { return timeline_.get(); }

 private:
  void add(Ticks since, Ticks until, EventKind kind, const Event& what);
  void add_work(Ticks since, EventKind kind, std::uint8_t collective, std::uint32_t sequence,
                std::uint64_t bytes);
  void add_operation(Slot slot, EventKind kind, Ticks since);
  void write_timeline();

  Recorder recorder_;
  bool records_ = true;
  std::unique_ptr<Timeline> timeline_;
  std::unique_ptr<Log> log_;
  bool failed_ = false;
  bool closed_ = false;
  bool speaks_ = true;
};

// A thread that drives, while nothing moves: from the first look in vain until the one that finds
// something, polling and blocked alike, is one `wait`. Call look() before each look, and over() or
// idle() after it.
class Waiting {
 public:
  explicit Waiting(Trace& trace) : trace_(trace) {}
  ~Waiting() { over(); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  void look() {
    if (since_ != 0) looked_ = ticks();
  }
  void idle() {
    if (since_ == 0) since_ = looked_ = trace_.stamp();
  }
  void over() {
    if (since_ == 0) return;
    trace_.waited(since_, looked_);
    since_ = 0;
  }

 private:
  Trace& trace_;
  Ticks since_ = 0;
  Ticks looked_ = 0;
};

}  // namespace weft::comm::trace
