// How processes become a communicator: meet at the store, exchange addresses, form the mesh.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#include "comm/greeting.h"
#include "comm/impl.h"
#include "comm/introduction.h"
#include "comm/job.h"
#include "comm/join_memory.h"
#include "comm/rendezvous/wire.h"
#include "comm/tracing.h"
#include "comm/transport/shm/host.h"
#include "comm/transport/tcp/form.h"
#include "comm/transport/tcp/interface.h"
#include "kernels/base/system_error.h"

namespace weft::comm {

namespace {

using std::chrono::milliseconds;

void check(const ConnectOptions& options) {
  const auto demand = [&](bool holds, const char* what, const auto& found, const char* expected) {
    if (holds) return;
    fail<InvalidArgument>("rank {}: connect: {} is {}, expected {}", options.rank, what, found,
                          expected);
  };
  demand(options.world_size >= 1, "world_size", options.world_size, "1 or more");
  demand(options.rank >= 0 && options.rank < options.world_size, "rank", options.rank,
         "0 to world_size - 1");
  demand(options.lanes >= 1 && options.lanes <= 16, "lanes", options.lanes, "1 to 16");
  demand(options.connections >= 1 && options.connections <= 16, "connections", options.connections,
         "1 to 16");
  demand(options.connect_timeout.count() > 0, "connect_timeout", options.connect_timeout.count(),
         "a positive time");
  demand(options.operation_timeout.count() > 0, "operation_timeout",
         options.operation_timeout.count(), "a positive time");
  parse_wishes(options.algorithm, fmt::format("rank {}: connect", options.rank));
  if (options.world_size == 1) return;
  demand(options.store_port >= 1 && options.store_port <= 65535, "store_port", options.store_port,
         "1 to 65535");
  demand(options.secret.size() == Secret().size(), "the secret's length", options.secret.size(),
         "32 bytes: start the program with `weft run`, or set WEFT_SECRET_FILE on every rank");
  demand(options.transport != TransportKind::inproc, "transport", "inproc",
         "auto, shm or tcp among processes; inproc is for Communicator::in_process()");
}

void check_reachable(const std::vector<Introduction>& all) {
  for (const Introduction& one : all) {
    const auto abroad = std::find_if(all.begin(), all.end(), [&](const Introduction& other) {
      return other.member.host != one.member.host;
    });
    if (abroad == all.end() || !tcp::is_loopback(one.endpoint.address)) continue;
    fail<InvalidArgument>(
        "rank {} ({}) listens on {}, where rank {} ({}) cannot reach it; set the interface "
        "(--interface or WEFT_INTERFACE) to one that both hosts share",
        one.member.job_rank, one.member.host, one.endpoint.address, abroad->member.job_rank,
        abroad->member.host);
  }
}

// Another rank cannot take part; which and why, it says when all are asked whether they are ready.
class TroubleElsewhere final : public std::exception {};

class StoreHome final : public Home {
 public:
  StoreHome(std::shared_ptr<Job> job, const ConnectOptions& options, std::string address,
            std::shared_ptr<const Tuning> tuning = nullptr)
      : job_(std::move(job)),
        options_(options),
        address_(std::move(address)),
        tuning_(std::move(tuning)) {}

  // All members call this with the same key, members and (implied) rank order.
  std::unique_ptr<Communicator::Impl> make(const std::string& name, const std::vector<int>& ranks,
                                           int rank, bool whole_job);

  std::unique_ptr<Communicator::Impl> make_child(Communicator::Impl& parent, const std::string& key,
                                                 const std::vector<int>& members,
                                                 int rank) override {
    std::vector<int> ranks;
    for (const int member : members) ranks.push_back(parent.supervisor->name_of(member));
    return make(key, ranks, rank, false);
  }

 private:
  std::optional<tcp::Listener> listen(Introduction& mine) const;
  std::vector<Introduction> introduce(const std::string& name, const std::vector<int>& ranks,
                                      Introduction mine);
  void wait_for_readers(const std::string& name, const std::vector<int>& ranks);
  std::shared_ptr<shm::Host> share_memory(const std::string& name, const std::vector<int>& ranks,
                                          int rank, const std::vector<Introduction>& all);
  std::unique_ptr<Mesh> form_mesh(const std::string& name, const std::vector<int>& ranks, int rank,
                                  const std::vector<Introduction>& all, tcp::Listener listener,
                                  const std::shared_ptr<shm::Host>& host);
  std::function<void()> trouble_watch(const std::string& name, std::size_t ranks);
  std::vector<Blob> all_ready(const std::string& name, const std::vector<int>& ranks,
                              const std::exception_ptr& error);
  Settings settings_for(const std::vector<Introduction>& all, int rank, const Mesh& mesh) const;

  std::shared_ptr<Job> job_;
  ConnectOptions options_;
  std::string address_;
  std::shared_ptr<const Tuning> tuning_;  // null: not yet agreed
};

// Where others find this rank; if it cannot listen, `mine` says why, and everybody will know.
std::optional<tcp::Listener> StoreHome::listen(Introduction& mine) const {
  try {
    tcp::Listener listener(address_);
    mine.endpoint = listener.endpoint();
    return listener;
  } catch (const Error& error) {
    mine.trouble = error.what();
    return std::nullopt;
  }
}

std::vector<Introduction> StoreHome::introduce(const std::string& name,
                                               const std::vector<int>& ranks, Introduction mine) {
  mine.member = {job_->self().rank, this_host(), getpid()};
  mine.lanes = options_.lanes;
  mine.connections = options_.connections;
  mine.transport = static_cast<int>(options_.transport);
  mine.locality = this_locality();
  const bool first = !tuning_;  // splits have it from the world
  if (first && options_.rank == 0) mine.tuning = find_tuning(options_.tuning_file);
  std::vector<Introduction> all;
  for (const Blob& blob : job_->store().exchange("comm/" + name + "/introduction", ranks,
                                                 encode(mine), options_.connect_timeout)) {
    all.push_back(decode_introduction(blob));
  }
  for (const Introduction& one : all) {
    if (one.trouble.empty()) continue;
    fail<IoError>("connect: rank {} ({}, pid {}): {}", one.member.job_rank, one.member.host,
                  one.member.pid, one.trouble);
  }
  for (const Introduction& one : all) {
    const auto demand_same = [&](const char* what, int ours, int theirs) {
      if (ours == theirs) return;
      fail<Mismatch>("connect: rank {} has {} {}, rank {} has {}; set the same on all ranks",
                     mine.member.job_rank, ours, what, one.member.job_rank, theirs);
    };
    demand_same("lanes", mine.lanes, one.lanes);
    demand_same("connections a lane", mine.connections, one.connections);
    if (one.transport != mine.transport) {
      fail<Mismatch>(
          "connect: rank {} and rank {} were told different transports (WEFT_TRANSPORT "
          "or --transport); set the same on all ranks",
          mine.member.job_rank, one.member.job_rank);
    }
  }
  if (first) tuning_ = make_tuning(all.front().tuning);
  return all;
}

// After a refusal that all ranks come to by themselves, from the same introductions: whoever ends
// at once would be news of a lost rank to those who have not read theirs, and hide the reason.
void StoreHome::wait_for_readers(const std::string& name, const std::vector<int>& ranks) {
  constexpr milliseconds kPatience{500};
  try {
    job_->store().exchange("comm/" + name + "/refused", ranks, Blob{},
                           std::min(kPatience, options_.connect_timeout));
  } catch (const Error&) {  // not all refuse, or one is gone: the reason stands
  }
}

// The ranks of this host, if there are others on it and they may share memory.
std::shared_ptr<shm::Host> StoreHome::share_memory(const std::string& name,
                                                   const std::vector<int>& ranks, int rank,
                                                   const std::vector<Introduction>& all) {
  if (options_.transport == TransportKind::tcp) return nullptr;
  MemoryCandidates candidates;
  candidates.lanes = options_.lanes;
  candidates.names = ranks;
  candidates.required = options_.transport == TransportKind::shm;
  const Introduction& mine = all[static_cast<std::size_t>(rank)];
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r].locality.key == mine.locality.key) {
      if (static_cast<int>(r) == rank) candidates.self = static_cast<int>(candidates.ranks.size());
      candidates.ranks.push_back(static_cast<int>(r));
    } else if (candidates.required) {
      fail<InvalidArgument>(
          "rank {} ({}): connect: transport shm is for the ranks of one host, and rank {} ({}) "
          "shares no memory with this one; use auto",
          mine.member.job_rank, mine.member.host, all[r].member.job_rank, all[r].member.host);
    }
  }
  return join_memory(candidates, [&](const std::string& what, const Blob& blob) {
    return job_->store().exchange("comm/" + name + "/" + what, ranks, blob,
                                  options_.connect_timeout);
  });
}

// Shared memory to the ranks of this host, where there is `host`; TCP to the others.
std::unique_ptr<Mesh> StoreHome::form_mesh(const std::string& name, const std::vector<int>& ranks,
                                           int rank, const std::vector<Introduction>& all,
                                           tcp::Listener listener,
                                           const std::shared_ptr<shm::Host>& host) {
  const auto size = static_cast<int>(ranks.size());
  if (host && host->group()->size() == size) return shm::make_mesh(host, size, options_.lanes);
  tcp::FormOptions form;
  form.rank = rank;
  form.size = size;
  form.lanes = options_.lanes;
  form.connections = options_.connections;
  form.names = ranks;
  form.timeout = options_.connect_timeout;
  form.check = trouble_watch(name, ranks.size());
  for (const Introduction& one : all) form.endpoints.push_back(one.endpoint);
  form.apart.resize(ranks.size());
  for (int m = 0; host && m < host->group()->size(); ++m) {
    form.apart[static_cast<std::size_t>(host->group()->rank_of(m))] = true;
  }
  const auto greeter = make_greeter(job_->identity(), job_->self(), name, ranks);
  auto mesh = std::move(listener).form(form, *greeter);
  return host ? shm::make_mixed_mesh(host, std::move(mesh)) : std::move(mesh);
}

// What ends the forming elsewhere ends it here: the job's failure, or another rank's trouble. That
// stands in the store, where all ranks together look up to a thousand times a second.
std::function<void()> StoreHome::trouble_watch(const std::string& name, std::size_t ranks) {
  using std::chrono::steady_clock;
  const milliseconds pause{std::max<std::size_t>(200, ranks)};
  return [this, pause, key = "comm/" + name + "/trouble",
          next = steady_clock::now() + pause]() mutable {
    if (const auto failure = job_->store().failure()) {
      const Verdict verdict = verdict_of(*failure, "connect");
      throw_error(verdict.code, verdict.message);
    }
    if (steady_clock::now() < next) return;
    next = steady_clock::now() + pause;
    if (job_->store().add(key, 0) > 0) throw TroubleElsewhere();
  };
}

// Nobody goes on before everybody stands: whoever cannot join, for `error`, fails all. Gives what
// each rank shows of its clock.
std::vector<Blob> StoreHome::all_ready(const std::string& name, const std::vector<int>& ranks,
                                       const std::exception_ptr& error) {
  constexpr milliseconds kPatience{5000};  // of a rank that has nothing to gain from the others
  const std::string trouble_key = "comm/" + name + "/trouble";
  const Blob clock = clock_to_show(options_);
  Readiness mine{{clock.begin(), clock.end()}, {}, {}};
  milliseconds patience = options_.connect_timeout;
  try {
    if (error) std::rethrow_exception(error);
  } catch (const TroubleElsewhere&) {
  } catch (const std::exception& trouble) {
    if (job_->store().failure()) throw;
    const auto* const typed = dynamic_cast<const Error*>(&trouble);
    mine.trouble = trouble.what();
    mine.code = typed != nullptr ? typed->code() : ErrorCode::io;
    patience = std::min(patience, kPatience);
  }
  std::vector<Blob> clocks;
  try {
    if (!mine.trouble.empty()) job_->store().add(trouble_key, 1);
    std::optional<Readiness> first;
    for (const Blob& blob :
         job_->store().exchange("comm/" + name + "/ready", ranks, encode(mine), patience)) {
      const Readiness theirs = decode_readiness(blob);
      clocks.emplace_back(theirs.clock.begin(), theirs.clock.end());
      if (!first && !theirs.trouble.empty()) first = theirs;
    }
    // All have come, and nobody looks any more: the next to form links under this name start anew.
    if (ranks.front() == job_->self().rank) job_->store().erase(trouble_key);
    if (first && mine.trouble.empty()) throw_error(first->code, first->trouble);
    if (error && mine.trouble.empty()) {
      fail<Timeout>(
          "connect: rank {}: links were given up for the trouble of a rank that has none now; "
          "connect again",
          job_->self().rank);
    }
  } catch (const Error&) {
    if (mine.trouble.empty()) throw;
  }
  if (!mine.trouble.empty()) std::rethrow_exception(error);
  return clocks;
}

Settings StoreHome::settings_for(const std::vector<Introduction>& all, int rank,
                                 const Mesh& mesh) const {
  Settings settings;
  settings.lanes = options_.lanes;
  settings.algorithm = options_.algorithm;
  settings.tuning = tuning_;
  if (mesh.memory() != nullptr) settings.medium = Medium::memory;
  settings.engine.operation_timeout = options_.operation_timeout;
  settings.trace = trace_options(options_);
  std::vector<Locality> localities;
  int on_this_machine = 0;
  for (const Introduction& one : all) {
    localities.push_back(one.locality);
    on_this_machine += one.member.host == this_host() ? 1 : 0;
  }
  const int allowed = all[static_cast<std::size_t>(rank)].locality.cpus;
  const long cores = allowed > 0 ? allowed : sysconf(_SC_NPROCESSORS_ONLN);
  settings.engine.crowded = on_this_machine > std::max(1L, cores);
  settings.hosts = std::make_shared<const HostMap>(make_host_map(localities));
  if (settings.hosts->hosts.size() > 1) settings.medium = Medium::network;
  return settings;
}

std::unique_ptr<Communicator::Impl> StoreHome::make(const std::string& name,
                                                    const std::vector<int>& ranks, int rank,
                                                    bool whole_job) {
  Introduction mine;
  std::optional<tcp::Listener> listener = listen(mine);
  std::vector<Introduction> all;
  std::shared_ptr<shm::Host> host;
  try {
    all = introduce(name, ranks, std::move(mine));
    check_reachable(all);
    host = share_memory(name, ranks, rank, all);
  } catch (const Error& error) {
    // These all ranks come to; what is lost, late or aborted, they may not.
    const bool all_refuse = error.code() == ErrorCode::invalid_argument ||
                            error.code() == ErrorCode::mismatch ||
                            error.code() == ErrorCode::corrupt || error.code() == ErrorCode::io;
    if (all_refuse) wait_for_readers(name, ranks);
    throw;
  }
  std::unique_ptr<Mesh> mesh;
  std::exception_ptr trouble;
  try {
    mesh = form_mesh(name, ranks, rank, all, std::move(*listener), host);
  } catch (const std::exception&) {
    trouble = std::current_exception();
  }
  const std::vector<Blob> clocks = all_ready(name, ranks, trouble);

  std::vector<Member> members;
  for (const Introduction& one : all) members.push_back(one.member);
  const Settings settings = settings_for(all, rank, *mesh);
  auto impl = std::make_unique<Communicator::Impl>(
      std::move(mesh), make_store_supervisor(job_, name, whole_job, std::move(members), rank),
      std::make_shared<StoreHome>(job_, options_, address_, tuning_), settings);
  impl->name = name;
  impl->host = host;
  open_trace(*impl, job_->identity().job_id);
  job_->enlist(impl->engine.get());
  impl->before_close = [job = job_, engine = impl->engine.get()] { job->dismiss(engine); };
  if (whole_job) align_clocks(*impl, job_, clocks);
  return impl;
}

}  // namespace

Communicator Communicator::connect(const ConnectOptions& options) {
  check(options);
  if (options.world_size == 1 && options.store_port == 0) {
    return std::move(make_in_process(1, trace_options(options)).front());
  }
  JobIdentity identity;
  identity.job_id = options.job_id;
  identity.epoch = options.epoch;
  std::copy_n(options.secret.begin(), std::min(options.secret.size(), identity.secret.size()),
              identity.secret.begin());
  const auto job =
      std::make_shared<Job>(identity, PeerIdentity{options.rank, options.world_size}, options);
  const std::string address = tcp::choose_address(options.interface, job->store().local_address());
  std::vector<int> ranks(static_cast<std::size_t>(options.world_size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return Communicator(StoreHome(job, options, address).make("world", ranks, options.rank, true));
}

}  // namespace weft::comm
