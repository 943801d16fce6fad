#include "comm/trace/log.h"

#include <sched.h>

#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

namespace weft::comm::trace {

namespace {

// Nodes are reused, never freed: a handler may stand on any of them.
struct Node {
  std::atomic<const Log*> log{nullptr};
  Node* next = nullptr;
};

std::mutex g_mutex;  // of those who change the list
std::atomic<Node*> g_first{nullptr};
std::atomic<int> g_readers{0};

}  // namespace

std::string json_text(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Log::Log(const Recorder& recorder, const Identity& identity, std::string directory)
    : recorder_(recorder),
      rank_(identity.rank),
      world_size_(identity.world_size),
      job_rank_(identity.job_rank),
      communicator_(json_text(identity.communicator)),
      host_(json_text(identity.host)),
      job_(json_text(identity.job)),
      directory_(std::move(directory)) {}

void Log::set_failure(const std::string& text) {
  if (failure_text_) return;
  failure_text_ = std::make_unique<const std::string>(json_text(text));
  failure_.store(failure_text_.get(), std::memory_order_release);
}

void enlist(const Log& log) {
  const std::lock_guard lock(g_mutex);
  Node* node = g_first.load(std::memory_order_relaxed);
  while (node != nullptr && node->log.load(std::memory_order_relaxed) != nullptr) node = node->next;
  if (node == nullptr) {
    node = new Node;
    node->next = g_first.load(std::memory_order_relaxed);
    node->log.store(&log, std::memory_order_seq_cst);
    g_first.store(node, std::memory_order_release);
    return;
  }
  node->log.store(&log, std::memory_order_seq_cst);
}

void dismiss(const Log& log) {
  const std::lock_guard lock(g_mutex);
  for (Node* node = g_first.load(std::memory_order_relaxed); node != nullptr; node = node->next) {
    if (node->log.load(std::memory_order_relaxed) != &log) continue;
    node->log.store(nullptr, std::memory_order_seq_cst);
    break;
  }
  // Whoever counts from here on finds no log there; who counted before may be reading it.
  while (g_readers.load(std::memory_order_seq_cst) != 0) ::sched_yield();
}

LogReader::LogReader() {
  g_readers.fetch_add(1, std::memory_order_seq_cst);
  rewind();
}

LogReader::~LogReader() { g_readers.fetch_sub(1, std::memory_order_seq_cst); }

void LogReader::rewind() { at_ = g_first.load(std::memory_order_acquire); }

const Log* LogReader::next() {
  while (at_ != nullptr) {
    const Node& node = *static_cast<const Node*>(at_);
    at_ = node.next;
    if (const Log* log = node.log.load(std::memory_order_seq_cst)) return log;
  }
  return nullptr;
}

}  // namespace weft::comm::trace
