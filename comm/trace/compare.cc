// Several ranks' flight recorders side by side.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "comm/trace/flight_file.h"
#include "comm/trace/names.h"
#include "kernels/base/error.h"

namespace weft::comm::trace {

namespace {

// One rank's part in a communicator.
struct Seat {
  const FlightDump* dump = nullptr;
  const DumpedCommunicator* communicator = nullptr;
  const DumpedOperation* now = nullptr;   // the first collective that is not complete
  const DumpedOperation* last = nullptr;  // the last one that is
};

std::string list(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

std::string seconds(std::int64_t ns) {
  return fmt::format("{:.3f} s", static_cast<double>(ns) / 1e9);
}

std::string progress(const DumpedOperation& operation, std::int64_t now_ns) {
  std::string text(state_name(operation.state));
  if (operation.state != State::queued && operation.steps > 0) {
    text += fmt::format(", {} of {} steps", operation.steps_done, operation.steps);
  }
  if (operation.end_ns) return text + ", " + seconds(*operation.end_ns - operation.start_ns);
  return text + ", for " + seconds(now_ns - operation.start_ns);
}

std::string line_of(const DumpedOperation& operation, std::int64_t now_ns) {
  std::string text = operation.name();
  const std::string call = operation.call();
  if (const auto comma = call.find(','); comma != std::string::npos) text += call.substr(comma);
  if (!operation.algorithm.empty()) text += ", " + operation.algorithm;
  return text + ": " + progress(operation, now_ns);
}

void find_position(Seat& seat) {
  for (const DumpedOperation& operation : seat.communicator->operations) {
    if (operation.is_message()) continue;
    if (operation.is_over()) {
      seat.last = &operation;
    } else if (seat.now == nullptr) {
      seat.now = &operation;
    }
  }
}

// Where a rank is: the collective it is in, or else after the last one: as a number to compare.
std::int64_t position(const Seat& seat) {
  if (seat.now != nullptr) return 2 * seat.now->sequence;
  return seat.last != nullptr ? 2 * seat.last->sequence + 1 : 0;
}

std::string place(const Seat& seat) {
  if (seat.now != nullptr) return "in " + seat.now->name();
  if (seat.last != nullptr) return "after " + seat.last->name() + ", in no collective";
  return "in no collective yet";
}

// "rank 2 is in all_reduce #41; ranks 0, 1 and 3 are in all_reduce #43".
void say_who_is_where(std::string& text, const std::vector<Seat>& seats) {
  std::map<std::int64_t, std::vector<int>> at;
  std::map<std::int64_t, std::string> places;
  for (const Seat& seat : seats) {
    at[position(seat)].push_back(seat.dump->rank);
    places.emplace(position(seat), place(seat));
  }
  if (at.size() == 1) {
    text += fmt::format("  all of them are {}\n", places.begin()->second);
    return;
  }
  const char* mark = "  behind: ";
  for (const auto& [where, ranks] : at) {
    text += fmt::format("{}{} {} {}\n", mark, list(ranks), ranks.size() == 1 ? "is" : "are",
                        places.at(where));
    mark = "          ";
  }
}

void say_who_disagrees(std::string& text, const std::vector<Seat>& seats) {
  std::map<std::int64_t, std::map<std::string, std::vector<int>>> calls;
  for (const Seat& seat : seats) {
    for (const DumpedOperation& operation : seat.communicator->operations) {
      if (!operation.is_message()) {
        calls[operation.sequence][operation.call()].push_back(seat.dump->rank);
      }
    }
  }
  for (const auto& [sequence, kinds] : calls) {
    if (kinds.size() < 2) continue;
    text += fmt::format("  they disagree about #{}:\n", sequence);
    for (const auto& [call, ranks] : kinds) {
      text += fmt::format("    {}: {}\n", list(ranks), call);
    }
    return;  // what follows is the consequence
  }
}

void say_who_is_missing(std::string& text, const std::vector<Seat>& seats) {
  const int size = seats.front().communicator->world_size;
  std::set<int> there;
  for (const Seat& seat : seats) there.insert(seat.communicator->rank);
  std::vector<int> missing;
  constexpr int kNamed = 16;
  for (int r = 0; r < size && missing.size() <= kNamed; ++r) {
    if (there.count(r) == 0) missing.push_back(r);
  }
  if (missing.empty()) return;
  const int all = size - static_cast<int>(there.size());
  if (all > kNamed) {
    text += fmt::format("  no dump of {} of its {} ranks\n", all, size);
  } else {
    text += fmt::format("  no dump of its {}\n", list(missing));
  }
}

void describe(std::string& text, const std::string& name, std::vector<Seat> seats, int last) {
  std::sort(seats.begin(), seats.end(),
            [](const Seat& a, const Seat& b) { return a.dump->rank < b.dump->rank; });
  for (Seat& seat : seats) find_position(seat);
  text += fmt::format("communicator {} of {} ranks, {} dumped\n", name,
                      seats.front().communicator->world_size, seats.size());
  say_who_is_where(text, seats);
  say_who_disagrees(text, seats);
  say_who_is_missing(text, seats);
  for (const Seat& seat : seats) {
    const FlightDump& dump = *seat.dump;
    text += fmt::format("  rank {} ({}, pid {}): {}\n", dump.rank, dump.host, dump.pid,
                        dump.by_signal ? dump.reason : "failed");
    if (!seat.communicator->failure.empty()) {
      text += fmt::format("    failure: {}\n", seat.communicator->failure);
    }
    const auto& operations = seat.communicator->operations;
    const auto shown = std::min<std::ptrdiff_t>(last, std::ssize(operations));
    for (auto it = operations.end() - shown; it != operations.end(); ++it) {
      text += fmt::format("    {}\n", line_of(*it, dump.written_ns));
    }
  }
}

}  // namespace

std::string compare_flight_dumps(const std::vector<FlightDump>& dumps, int last) {
  std::map<std::pair<std::string, std::string>, std::vector<Seat>> communicators;
  std::set<std::string> jobs;
  std::map<std::tuple<std::string, int, std::int64_t>, const FlightDump*> seen;
  for (const FlightDump& dump : dumps) {
    jobs.insert(dump.job);
    const auto [it, added] = seen.emplace(std::make_tuple(dump.job, dump.rank, dump.pid), &dump);
    if (!added) {
      fail<InvalidArgument>("{} and {} are both of rank {} (pid {}); give one of them",
                            it->second->path, dump.path, dump.rank, dump.pid);
    }
    for (const DumpedCommunicator& communicator : dump.communicators) {
      communicators[{dump.job, communicator.name}].push_back({&dump, &communicator});
    }
  }
  std::string text;
  std::string job;
  for (auto& [key, seats] : communicators) {
    if (jobs.size() > 1 && key.first != job) {
      job = key.first;
      text += fmt::format("job {}\n", job);
    }
    describe(text, key.second, std::move(seats), last);
  }
  if (text.empty()) text = "no communicator was open when these were written\n";
  return text;
}

}  // namespace weft::comm::trace
