// Events, within a process and between processes.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "tests/emulator/capture.h"

namespace weft::emulated {

// One cudaEventRecord.
struct Record {
  std::atomic<bool> done{false};
  std::int64_t ns = 0;  // of the steady clock, once done
};

// An event that other processes see: two counters in shared memory.
class SharedEvent {
 public:
  struct Words {
    std::atomic<std::uint32_t> begun, ended;
  };
  // `unmap` says whether the words are this object's to unmap.
  SharedEvent(Words* words, void* mapping, std::size_t bytes)
      : words_(words), mapping_(mapping), bytes_(bytes) {}
  ~SharedEvent();
  SharedEvent(const SharedEvent&) = delete;
  SharedEvent& operator=(const SharedEvent&) = delete;

  std::uint32_t begin() { return words_->begun.fetch_add(1) + 1; }
  void end(std::uint32_t number);
  std::uint32_t last() const { return words_->begun.load(); }
  bool reached(std::uint32_t number) const {
    return static_cast<std::int32_t>(words_->ended.load() - number) >= 0;
  }
  void wait(std::uint32_t number);
  const Words* words() const { return words_; }

 private:
  Words* words_;
  void* mapping_;
  std::size_t bytes_;
};
std::shared_ptr<SharedEvent> make_shared_event();

struct Event {
  int device = 0;
  bool timed = true;
  std::mutex mutex;
  std::shared_ptr<Record> record;  // the last one
  CapturedPlace captured;          // or where a capture stood
  std::shared_ptr<SharedEvent> shared;
};

Event* new_event(int device, bool timed, std::shared_ptr<SharedEvent> shared);
bool live_event(cudaEvent_t event);

}  // namespace weft::emulated
