// Communicators among threads of one process.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>

#include "comm/environment.h"
#include "comm/impl.h"
#include "comm/rendezvous/wire.h"
#include "comm/tracing.h"
#include "comm/transport/inproc/mesh.h"
#include "comm/tuning_source.h"

namespace weft::comm {

namespace {

class SharedHome final : public Home {
 public:
  explicit SharedHome(std::shared_ptr<SharedGroup> group) : group_(std::move(group)) {}

  std::unique_ptr<Communicator::Impl> make_child(Communicator::Impl& parent, const std::string& key,
                                                 const std::vector<int>& members,
                                                 int rank) override {
    std::vector<Member> chosen;
    for (const int member : members) {
      chosen.push_back(parent.supervisor->members()[static_cast<std::size_t>(member)]);
    }
    Settings settings = parent.settings;
    if (settings.hosts) {
      settings.hosts = std::make_shared<const HostMap>(host_map_of_group(*settings.hosts, members));
    }
    return make(group_->child(key, static_cast<int>(members.size())), std::move(chosen), rank,
                settings, key);
  }

  static std::unique_ptr<Communicator::Impl> make(const std::shared_ptr<SharedGroup>& group,
                                                  std::vector<Member> members, int rank,
                                                  const Settings& settings,
                                                  const std::string& name) {
    auto impl = std::make_unique<Communicator::Impl>(
        inproc::make_mesh(group->world(), rank),
        make_shared_supervisor(group, std::move(members), rank),
        std::make_shared<SharedHome>(group), settings);
    impl->name = name;
    open_trace(*impl, fmt::format("process {}", getpid()));
    return impl;
  }

 private:
  std::shared_ptr<SharedGroup> group_;
};

}  // namespace

std::vector<Communicator> make_in_process(int world_size, const trace::Options& trace,
                                          std::shared_ptr<const HostMap> hosts) {
  if (world_size < 1 || world_size > 1024) {
    fail<InvalidArgument>("in_process: world_size is {}, expected 1 to 1024", world_size);
  }
  if (hosts && std::ssize(hosts->host_of) != world_size) {
    fail<InvalidArgument>("in_process: the host map is of {} ranks, expected world_size, {}",
                          hosts->host_of.size(), world_size);
  }
  const auto group = std::make_shared<SharedGroup>(world_size);
  std::vector<Member> members;
  for (int r = 0; r < world_size; ++r) members.push_back({r, this_host(), getpid()});
  Settings settings;
  settings.medium = Medium::memory;
  const char* tuning_file = std::getenv(env::kTuning);
  if (tuning_file != nullptr) settings.tuning = make_tuning(find_tuning(tuning_file));
  settings.hosts = std::move(hosts);
  settings.trace = trace;
  settings.engine.crowded =
      static_cast<unsigned>(world_size) > std::max(1u, std::thread::hardware_concurrency());
  static std::atomic<int> worlds{0};  // names keep them apart in traces
  const int number = ++worlds;
  const std::string name = number == 1 ? "world" : fmt::format("world-{}", number);
  std::vector<Communicator> world;
  for (int r = 0; r < world_size; ++r) {
    world.emplace_back(SharedHome::make(group, members, r, settings, name));
  }
  return world;
}

std::vector<Communicator> Communicator::in_process(int world_size,
                                                   std::shared_ptr<const HostMap> hosts) {
  return make_in_process(world_size, trace::Options::from_environment(), std::move(hosts));
}

Communicator Communicator::self() { return std::move(in_process(1).front()); }

}  // namespace weft::comm
