// Runs operations over a mesh.
//
// Link queues: when an operation is issued it appends its sends to the send queue of each link and
// its receives to the receive queue, in the order of its plan. Only the head of a queue may be in
// progress, and only once its dependencies are done. All ranks issue operations in the same order,
// so any number of them may be in flight without deadlock.
//
// Memory queue: where all ranks can address each other's memory, collectives need no messages; they
// run one after the other (memory_run.h), beside whatever messages there are.
//
// Driving: exactly one thread at a time moves the mesh. A blocking call drives for itself (or waits
// while another thread does, which then moves its operation along); asynchronous operations are
// started by their caller and driven on by a progress thread, which sleeps while nothing is in
// flight.
//
// Failure: whatever goes wrong on a link is put to the supervisor, and its verdict is what every
// pending and later call throws.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/execute/memory_run.h"
#include "comm/execute/operation.h"
#include "comm/execute/pace.h"
#include "comm/execute/supervisor.h"
#include "comm/trace/trace.h"
#include "comm/transport/transport.h"

namespace weft::comm {

struct EngineOptions {
  std::chrono::milliseconds operation_timeout{30 * 60'000};
  std::chrono::milliseconds stall_notice{1000};
  bool crowded = false;  // more ranks than cores on this machine
};

struct EngineCounters {  // of messages; memory_ counts its own
  std::atomic<std::uint64_t> bytes_sent{0};
  std::atomic<std::uint64_t> bytes_received{0};
  std::atomic<std::uint64_t> operations{0};
};

class Engine {
 public:
  Engine(std::unique_ptr<Mesh> mesh, std::shared_ptr<Supervisor> supervisor,
         const EngineOptions& options);
  ~Engine();  // as close(true)

  // An operation to bind, if possible one that was bound to this plan (a Plan's, or a by_scratch
  // MemoryPlan's address); give it back through run() or start().
  std::unique_ptr<Operation> acquire(const void* plan);
  bool has_memory() const { return memory_.has_value(); }
  void release(std::unique_ptr<Operation> operation);

  // Both throw what the communicator failed with. run() gives the operation back, still bound: to
  // run again, or to release().
  std::unique_ptr<Operation> run(std::unique_ptr<Operation> operation, const Buffers& buffers);
  // A blocking call that repeats what keep() was given last of its kind, where that is short, and
  // nothing else is under way: needs neither planning nor binding nor queues. False: go the long
  // way.
  bool repeat(const Call& call, Elems input_block, Elems output_block, const Buffers& buffers);
  // Back from run(), to be repeated if that pays; else as release().
  void keep(std::unique_ptr<Operation> operation);
  std::shared_ptr<Completion> start(std::unique_ptr<Operation> operation, const Buffers& buffers);

  // Every pending and later call throws `verdict`; the first one counts. Never blocks, any thread.
  // adds_operation: what is in flight here is added to the message.
  void fail(const Verdict& verdict, bool adds_operation = false);
  void throw_if_failed();
  bool failed() const { return failing_.load(std::memory_order_acquire); }

  // What errors name as "in flight": empty if nothing is, or while another thread drives.
  std::string in_flight();

  // Ends: pending operations fail with Aborted. says_goodbye: peers learn that this is no failure.
  void close(bool says_goodbye);

  // Any thread.
  std::uint64_t bytes_sent() const;
  std::uint64_t bytes_received() const;
  std::uint64_t operations() const { return counters_.operations.load(std::memory_order_relaxed); }
  // To be opened before the first operation.
  trace::Trace& trace() { return trace_; }

 private:
  struct Queue {
    Link* link = nullptr;
    int peer = 0;
    bool sends = false;
    bool started = false;
    bool listed = false;
    trace::Ticks since = 0;  // of the message in progress
    Stream* head = nullptr;
    Stream* tail = nullptr;
    Chunk staging;
  };

  // engine.cc: who drives, and submission.
  void enter(Operation& operation);
  void ensure_progress(std::unique_lock<std::mutex>& lock, const Operation& operation);
  void submit(Operation* operation);
  void drive_unlocked(std::unique_lock<std::mutex>& lock, const Operation* target, Operation* first,
                      bool background);
  void leave_driving();
  void progress_main();
  bool something_to_drive() const;
  void set_verdict(const Verdict& verdict);
  std::exception_ptr final_failure();

  // engine_drive.cc: only by the driver.
  void drive_until(const Operation* target, bool background);
  bool step();
  void attend();
  void issue(Operation* operation);
  void enqueue(Operation* operation);
  bool round();
  bool advance_sends(Queue& queue);
  bool advance_receives(Queue& queue);
  void begin_receive(Queue& queue, Operation& operation, const Node& node);
  void take_message(Operation& operation, const Node& node, const void* data);
  void run_ready();
  void run_local(Operation& operation, const Node& node);
  void complete(Operation& operation, std::int32_t node);
  void finish(Operation* operation, std::exception_ptr error);
  void fail_running();
  // engine_memory.cc
  bool try_at_once(Operation& operation);
  bool look(Operation& operation, int looks);
  bool advance_memory();
  void fail_at_once(std::unique_lock<std::mutex>& lock, Operation& operation, const Error& error);
  // engine_watch.cc
  std::chrono::milliseconds watch_interval() const;
  void watch();
  void watch(Operation& operation, bool moved, Clock::time_point now);
  void settle(const Trouble& trouble);
  Trouble trouble_of(const Error& error);
  std::string first_in_flight() const;
  std::string describe(const Operation& operation) const;
  Queue& queue_of(const MessageList& messages);
  // engine_trace.cc
  void begin_record(Operation& operation);
  void trace_message(const Queue& queue, bool cut);
  void trace_work(trace::Ticks since, const Operation& operation, const Node& node);
  MemoryRunner::Progress advance(Operation& operation) {
    return trace_.has_timeline() ? advance_traced(operation) : memory_->advance(operation.run);
  }
  MemoryRunner::Progress advance_traced(Operation& operation);
  bool look_traced(Operation& operation, int looks);
  void trace_failure();

  std::unique_ptr<Mesh> mesh_;
  std::shared_ptr<Supervisor> supervisor_;
  EngineOptions options_;
  EngineCounters counters_;
  trace::Trace trace_;

  std::mutex mutex_;  // guards what follows, up to the driver's own
  std::condition_variable changed_;
  bool driving_ = false;
  bool closed_ = false;
  bool graceful_ = false;  // closed without a failure: peers are told goodbye if nothing is pending
  std::uint32_t next_sequence_ = 1;
  std::array<FrameTag, 64> recent_{};           // collectives entered last, at sequence % size
  std::vector<std::uint32_t> next_message_[2];  // per peer: sent, received
  std::vector<Operation*> submitted_;
  std::vector<std::unique_ptr<Operation>> pool_;
  std::array<std::unique_ptr<Operation>, kScheduledCollectives> kept_;  // by collective
  std::optional<Verdict> verdict_;
  std::exception_ptr failure_;
  bool adds_operation_ = false;
  std::thread progress_;
  std::atomic<bool> failing_{false};
  std::atomic<bool> attention_{false};  // something was submitted, or failed, meanwhile

  // The driver's own.
  std::optional<MemoryRunner> memory_;
  std::deque<Operation*> memory_queue_;
  std::vector<Operation*> running_;  // run()'s callers own theirs, asynchronous ones are owned here
  std::vector<Queue> queues_;        // [peer][lane + 1][send, receive]
  std::vector<Queue*> active_;
  std::vector<Operation*> with_ready_;
  Arena arena_;
  Pace pace_;
  Queue* current_ = nullptr;  // whose link is being moved
  const Operation* target_ = nullptr;
  bool stopped_ = false;  // fail_running() has severed the mesh
  Clock::time_point last_watch_;
  std::uint64_t bytes_seen_ = 0;
};

}  // namespace weft::comm
