#include "launcher/job/several_nodes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <asio.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "kernels/base/json_whole.h"
#include "launcher/job/launch_error.h"
#include "launcher/job/node_roll.h"

namespace weft::launcher {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;
using std::chrono::milliseconds;

// The meeting place of the agents is a job of its own, whose members are known before the ranks
// are.
constexpr const char* kMeetingJob = "weft-nodes";
// Not the number of nodes: one that was told another number must get in, to hear so.
constexpr std::int32_t kMeetingSize = 65536;
constexpr auto kForever = std::chrono::hours(24 * 365);
constexpr auto kLastWord = std::chrono::seconds(5);
constexpr auto kAgentSilence = std::chrono::seconds(10);

comm::Blob bytes_of_json(const json& value) {
  const std::string text = value.dump();
  return {text.begin(), text.end()};
}

// What another node said, as `read` takes it from the JSON. Throws Corrupt if that is not there.
template <class Read>
auto read_word(const std::string& whose, const comm::Blob& blob, Read read) {
  try {
    return read(json::parse(blob.begin(), blob.end()));
  } catch (const json::exception& error) {
    fail<Corrupt>("what {} said cannot be read ({}); do all nodes run the same version of weft?",
                  whose, error.what());
  }
}

// A numeric address of `name` to listen on, IPv4 where there is one.
std::string resolve(const std::string& name) {
  asio::error_code error;
  asio::ip::make_address(name, error);
  if (!error) return name;
  asio::io_context io;
  asio::ip::tcp::resolver resolver(io);
  const auto found = resolver.resolve(name, "", error);
  if (error || found.empty()) {
    refuse(kExitUsage, "--main-address={}: cannot resolve this name: {}", name, error.message());
  }
  for (const auto& entry : found) {
    if (entry.endpoint().address().is_v4()) return entry.endpoint().address().to_string();
  }
  return found.begin()->endpoint().address().to_string();
}

milliseconds until(Clock::time_point deadline) {
  return std::max(milliseconds(1),
                  std::chrono::duration_cast<milliseconds>(deadline - Clock::now()));
}

comm::StoreClientOptions meeting_client(const SessionOptions& options, const std::string& host) {
  comm::StoreClientOptions client;
  client.job.job_id = kMeetingJob;
  client.job.secret = options.secret;
  client.self.rank = -1 - options.node_rank;
  client.self.world_size = kMeetingSize;
  client.host = host;
  client.port = static_cast<std::uint16_t>(options.main_port);
  client.connect_timeout = options.rendezvous_timeout;
  return client;
}

NodeEntry own_entry(const SessionOptions& options) {
  return {options.node_rank, options.num_nodes, options.local_ranks, options.host,
          options.settings};
}

void announce(comm::StoreClient& meeting, const NodeEntry& entry) {
  const auto arrival = meeting.add("arrivals", 1);
  const json value = {{"node", entry.node},
                      {"num_nodes", entry.num_nodes},
                      {"ranks", entry.ranks},
                      {"host", entry.host},
                      {"settings", entry.settings}};
  meeting.set(fmt::format("arrival/{}", arrival), bytes_of_json(value));
}

NodeEntry entry_of(const json& value) {
  return {value.at("node"), value.at("num_nodes"), value.at("ranks"), value.at("host"),
          value.at("settings")};
}

// --- Node 0: the meeting place, the store of the ranks, and the last word.
class MainNode : public Session {
 public:
  explicit MainNode(const SessionOptions& options)
      : options_(options), address_to_listen_(resolve(options.main_address)) {
    warn_of_loopback();
    open_meeting();
    NodeRoll roll(options_.num_nodes);
    try {
      call_the_roll(roll);
    } catch (const LaunchError& error) {
      tell_all(roll, {{"error", error.what()}, {"exit_code", error.exit_code()}});
      throw;
    }
    world_size_ = roll.world_size();
    comm::StoreServerOptions store;
    store.job.job_id = new_job_id();
    store.job.secret = options_.secret;
    store.world_size = world_size_;
    store.listen_addresses = {address_to_listen_};
    server_.emplace(store);
    control_.emplace(*server_);
    address_ = {options_.main_address, options_.main_port, address_to_listen_,
                server_->port(),       store.job.job_id,   0};
    json first_ranks = json::array();
    for (int node = 0; node < options_.num_nodes; ++node) {
      first_ranks.push_back(roll.first_rank(node));
    }
    meeting_->set("verdict", bytes_of_json({{"world_size", world_size_},
                                            {"first_ranks", first_ranks},
                                            {"store_address", address_to_listen_},
                                            {"store_port", server_->port()},
                                            {"job_id", store.job.job_id}}));
  }

  JobControl& control() override { return *control_; }

  int finish(const Outcome& outcome) override {
    JobEnd end;
    end.add(0, outcome);
    for (int node = 1; node < options_.num_nodes; ++node) {
      try {
        const comm::Blob blob = meeting_->get(fmt::format("end/{}", node), kForever);
        read_word(fmt::format("node {}", node), blob, [&](const json& other) {
          end.add(node, other.at("exit_code"), other.at("guilty"));
        });
      } catch (const Error&) {
        end.add(node, 1, false);  // its agent is gone, or another version
      }
    }
    tell_last(end.exit_code());
    return end.exit_code();
  }

 private:
  // Debian's /etc/hosts gives a machine's own name such an address.
  void warn_of_loopback() const {
    const bool by_name = options_.main_address != address_to_listen_;
    if (!by_name || options_.main_address == "localhost") return;
    if (!asio::ip::make_address(address_to_listen_).is_loopback()) return;
    fmt::print(stderr,
               "weft: --main-address={} is {} here, which other machines cannot reach; give its "
               "address on the network\n",
               options_.main_address, address_to_listen_);
  }

  void open_meeting() {
    comm::StoreServerOptions meeting;
    meeting.job.job_id = kMeetingJob;
    meeting.job.secret = options_.secret;
    meeting.world_size = kMeetingSize;
    meeting.listen_addresses = {address_to_listen_};
    meeting.port = static_cast<std::uint16_t>(options_.main_port);
    meeting.heartbeat_timeout = kAgentSilence;
    try {
      meeting_server_.emplace(meeting);
    } catch (const Error& error) {
      refuse(kExitUsage, "node 0 cannot listen for the other nodes: {}", error.what());
    }
    meeting_.emplace(meeting_client(options_, address_to_listen_));
    announce(*meeting_, own_entry(options_));
  }

  void call_the_roll(NodeRoll& roll) {
    const auto deadline = Clock::now() + options_.rendezvous_timeout;
    for (int arrival = 1; arrival <= options_.num_nodes; ++arrival) {
      try {
        const comm::Blob blob = meeting_->get(fmt::format("arrival/{}", arrival), until(deadline));
        roll.add(read_word("a node that came", blob, entry_of), own_entry(options_));
      } catch (const Corrupt& error) {
        refuse(1, "{}", error.what());
      } catch (const Timeout&) {
        refuse(1,
               "{} not come to {}:{} within {:.3g} s. Run the same command with its --node-rank "
               "there, with the same --secret-file, and let TCP through.",
               roll.missing(), options_.main_address, options_.main_port,
               static_cast<double>(options_.rendezvous_timeout.count()) / 1000);
      } catch (const Error& error) {
        refuse(1, "a node left before all had come: {}", error.what());
      }
    }
  }

  // Gives those who came the time to hear it.
  void tell_all(const NodeRoll& roll, const json& verdict) {
    try {
      meeting_->set("verdict", bytes_of_json(verdict));
      const auto deadline = Clock::now() + kLastWord;
      for (const int node : roll.present()) {
        if (node != 0) meeting_->get(fmt::format("heard/{}", node), until(deadline));
      }
    } catch (const Error&) {  // they are gone already
    }
  }

  void tell_last(int exit_code) {
    try {
      meeting_->set("result", bytes_of_json(exit_code));
      const auto deadline = Clock::now() + kLastWord;
      for (int node = 1; node < options_.num_nodes; ++node) {
        meeting_->get(fmt::format("bye/{}", node), until(deadline));
      }
    } catch (const Error&) {
    }
  }

  SessionOptions options_;
  std::string address_to_listen_;
  std::optional<comm::StoreServer> meeting_server_;
  std::optional<comm::StoreClient> meeting_;
  std::optional<comm::StoreServer> server_;
  std::optional<ServerControl> control_;
};

// --- The others.
class OtherNode : public Session {
 public:
  explicit OtherNode(const SessionOptions& options) : options_(options) {
    join();
    comm::StoreClientOptions client = meeting_client(options_, address_.store_address);
    client.job.job_id = address_.job_id;
    client.self.world_size = world_size_;
    client.port = static_cast<std::uint16_t>(address_.store_port);
    job_.emplace(client);
    control_.emplace(*job_);
  }

  JobControl& control() override { return *control_; }

  int finish(const Outcome& outcome) override {
    const int own = outcome.exit_code();
    try {
      const json end = {{"exit_code", own}, {"guilty", holds_guilty(outcome)}};
      meeting_->set(fmt::format("end/{}", options_.node_rank), bytes_of_json(end));
      const int result = read_word("node 0", meeting_->get("result", kForever),
                                   [](const json& value) { return whole<int>(value); });
      say("bye");
      return result;
    } catch (const Error&) {  // node 0 is gone
      return own != 0 ? own : 1;
    }
  }

 private:
  // Node 0 may hear this and be gone before its answer gets here.
  void say(const char* word) {
    try {
      meeting_->set(fmt::format("{}/{}", word, options_.node_rank), {});
    } catch (const Error&) {
    }
  }

  void join() {
    try {
      meeting_.emplace(meeting_client(options_, options_.main_address));
      announce(*meeting_, own_entry(options_));
      const auto patience = options_.rendezvous_timeout + kLastWord;
      read_word("node 0", meeting_->get("verdict", patience),
                [this](const json& verdict) { obey(verdict); });
    } catch (const Timeout& error) {
      refuse(1,
             "node {} cannot meet node 0 at {}:{}: {} Is `weft run --node-rank=0` running there, "
             "and does TCP get through?",
             options_.node_rank, options_.main_address, options_.main_port, error.what());
    } catch (const Error& error) {
      refuse(1, "node {} cannot join at {}:{}: {}", options_.node_rank, options_.main_address,
             options_.main_port, error.what());
    }
  }

  void obey(const json& verdict) {
    if (verdict.contains("error")) {
      say("heard");
      throw LaunchError(verdict.at("exit_code"), verdict.at("error"));
    }
    world_size_ = verdict.at("world_size");
    first_rank_ = verdict.at("first_ranks").at(static_cast<std::size_t>(options_.node_rank));
    address_ = {options_.main_address,    options_.main_port,   verdict.at("store_address"),
                verdict.at("store_port"), verdict.at("job_id"), 0};
  }

  SessionOptions options_;
  std::optional<comm::StoreClient> meeting_;
  std::optional<comm::StoreClient> job_;
  std::optional<ClientControl> control_;
};

}  // namespace

std::unique_ptr<Session> open_session_of_several(const SessionOptions& options) {
  if (options.node_rank == 0) return std::make_unique<MainNode>(options);
  return std::make_unique<OtherNode>(options);
}

}  // namespace weft::launcher
