#include "launcher/job/report.h"

#include <fmt/format.h>

#include <algorithm>

namespace weft::launcher {
namespace {

constexpr std::size_t kRanksShown = 8;

std::string plural(std::size_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string seconds(std::chrono::milliseconds time) {
  return fmt::format("{:.1f} s", static_cast<double>(time.count()) / 1000);
}

std::string what_happened(const RankEnd& end, const std::optional<comm::Failure>& verdict) {
  const bool named = verdict && verdict->rank == end.rank;
  if (end.killed_by_us) return fmt::format("had to be stopped after {}", seconds(end.after));
  std::string text = fmt::format("{} after {}", describe(end.status), seconds(end.after));
  if (end.status.ok() && named) text += ", while the others still needed it";
  return text;
}

std::string fate_of_others(const Outcome& outcome, int guilty) {
  std::size_t stopped = 0;
  std::size_t ended = 0;
  for (const auto& end : outcome.ends) {
    if (end.rank != guilty) ++(end.killed_by_us ? stopped : ended);
  }
  const std::size_t others = stopped + ended;
  if (others == 0) return {};
  const std::string who =
      others == 1 ? "the other rank" : fmt::format("the other {} ranks", others);
  if (stopped == 0) {
    return fmt::format("weft:   {} here ended by {}\n", who, others == 1 ? "itself" : "themselves");
  }
  if (ended == 0) return fmt::format("weft:   {} here had to be stopped\n", who);
  return fmt::format("weft:   of {} here {} had to be stopped\n", who, stopped);
}

}  // namespace

std::string placement_report(const Machine& machine, const Devices& devices,
                             const std::vector<Share>& shares, const RankPlace& first,
                             const JobAddress& address) {
  std::string text = fmt::format(
      "weft: {} on {}{}; {}{}; store at {}:{}\n",
      plural(static_cast<std::size_t>(first.world_size), "rank"),
      plural(static_cast<std::size_t>(first.num_nodes), "node"),
      first.num_nodes > 1
          ? fmt::format(" (this is node {} with {} of them)", first.node_rank, shares.size())
          : "",
      devices.accelerator == "cuda" ? "CUDA, " : "", machine.summary(), address.store_address,
      address.store_port);
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (i == kRanksShown) {
      text += fmt::format("weft:   ... and {} more, placed alike\n", shares.size() - i);
      break;
    }
    const Share& share = shares[i];
    text += fmt::format("weft:   rank {}: ", first.rank + static_cast<int>(i));
    if (!devices.indices.empty()) text += fmt::format("device {}, ", devices.indices[i]);
    text += fmt::format("cpus {}, {}, {}\n", format_cpus(share.cpus),
                        plural(static_cast<std::size_t>(share.threads), "thread"),
                        share.bound_cpus.empty()
                            ? "not bound"
                            : fmt::format("bound to {}", format_cpus(share.bound_cpus)));
  }
  return text;
}

std::string failure_report(const Outcome& outcome, const std::string& host) {
  const auto& verdict = outcome.verdict;
  if (outcome.signal != 0) return fmt::format("weft: stopped by {}\n", signal_name(outcome.signal));
  if (outcome.output_closed) return {};
  const RankEnd* end = verdict ? outcome.end_of(verdict->rank) : nullptr;
  if (outcome.exit_code() == 0) return {};
  if (end == nullptr && !verdict) end = outcome.first_failure();
  if (end == nullptr) {
    if (!verdict) return {};
    return fmt::format("weft: the job failed: {}\n", comm::describe(*verdict)) +
           fate_of_others(outcome, -1);
  }
  std::string text = fmt::format("weft: rank {} (host {}, pid {}) {}\n", end->rank, host, end->pid,
                                 what_happened(*end, verdict));
  if (verdict && verdict->rank == end->rank) {
    if (verdict->source != comm::Failure::Source::agent) {
      text += fmt::format("weft:   cause: {}\n", verdict->what);
    }
    if (!verdict->operation.empty())
      text += fmt::format("weft:   during: {}\n", verdict->operation);
  }
  if (!end->last_lines.empty()) {
    text += fmt::format("weft:   the last {} of its standard error:\n",
                        plural(end->last_lines.size(), "line"));
    for (const auto& line : end->last_lines) text += fmt::format("weft:   | {}\n", line);
  }
  return text + fate_of_others(outcome, end->rank);
}

}  // namespace weft::launcher
