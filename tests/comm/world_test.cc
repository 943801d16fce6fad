#include "tests/comm/world.h"

#include <gtest/gtest.h>

namespace weft::comm::testing {

TestJob::TestJob(int size, const Backend& backend) : size_(size), backend_(backend) {
  identity_.job_id = "test";
  identity_.secret = make_secret();
  StoreServerOptions server;
  server.job = identity_;
  server.world_size = size;
  server.listen_addresses = {backend.store_address};
  server_ = std::make_unique<StoreServer>(server);
}

ConnectOptions TestJob::options(int rank) const {
  ConnectOptions options;
  options.rank = rank;
  options.world_size = size_;
  options.store_host = backend_.store_address;
  options.store_port = server_->port();
  options.secret.assign(identity_.secret.begin(), identity_.secret.end());
  options.job_id = identity_.job_id;
  options.transport = backend_.transport;
  options.lanes = backend_.lanes;
  options.connections = backend_.connections;
  options.algorithm = backend_.algorithm;
  options.connect_timeout = std::chrono::milliseconds(20'000);
  options.operation_timeout = backend_.operation_timeout;
  return options;
}

HostMap dealt_to_two_hosts(int size) {
  std::vector<std::vector<std::int32_t>> hosts(size > 1 ? 2 : 1);
  for (int r = 0; r < size; ++r) hosts[static_cast<std::size_t>(r % 2)].push_back(r);
  return host_map_of(std::move(hosts));
}

HostMap hosts_of_growing_size(int size) {
  std::vector<std::vector<std::int32_t>> hosts;
  for (int r = 0; r < size; ++r) {
    if (hosts.empty() || hosts.back().size() == hosts.size()) hosts.emplace_back();
    hosts.back().push_back(r);
  }
  return host_map_of(std::move(hosts));
}

std::shared_ptr<const HostMap> hosts_of(const Backend& backend, int size) {
  return backend.hosts ? std::make_shared<const HostMap>(backend.hosts(size)) : nullptr;
}

std::vector<std::exception_ptr> run_world(const Backend& backend, int size, const RankBody& body) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  std::unique_ptr<TestJob> job;
  std::vector<Communicator> shared;
  if (backend.tcp) {
    job = std::make_unique<TestJob>(size, backend);
  } else {
    shared = Communicator::in_process(size, hosts_of(backend, size));
  }
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      const auto index = static_cast<std::size_t>(r);
      try {
        Communicator communicator =
            backend.tcp ? Communicator::connect(job->options(r)) : std::move(shared[index]);
        body(communicator);
      } catch (...) {
        errors[index] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

std::string text_of(const std::exception_ptr& error) {
  if (!error) return {};
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "not a std::exception";
  }
}

void expect_world(const Backend& backend, int size, const RankBody& body) {
  const auto errors = run_world(backend, size, body);
  for (std::size_t r = 0; r < errors.size(); ++r) {
    EXPECT_EQ(text_of(errors[r]), "") << "on rank " << r << " of " << size << ", " << backend.name;
  }
}

}  // namespace weft::comm::testing
