#include "launcher/job/session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <random>

#include "launcher/job/several_nodes.h"

namespace weft::launcher {
namespace {

class OneNode : public Session {
 public:
  explicit OneNode(const SessionOptions& options)
      : server_(store_options(options)), control_(server_) {
    world_size_ = options.local_ranks;
    address_.job_id = job_id_;
    address_.main_port = address_.store_port = server_.port();
  }

  JobControl& control() override { return control_; }
  int finish(const Outcome& outcome) override { return outcome.exit_code(); }

 private:
  comm::StoreServerOptions store_options(const SessionOptions& options) const {
    comm::StoreServerOptions store;
    store.job.job_id = job_id_;
    store.job.secret = options.secret;
    store.world_size = options.local_ranks;
    return store;
  }

  std::string job_id_ = new_job_id();
  comm::StoreServer server_;
  ServerControl control_;
};

}  // namespace

std::unique_ptr<Session> open_session(const SessionOptions& options) {
  if (options.num_nodes == 1) return std::make_unique<OneNode>(options);
  return open_session_of_several(options);
}

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

std::string new_job_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

}  // namespace weft::launcher
