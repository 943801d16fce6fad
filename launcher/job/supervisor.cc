#include "launcher/job/supervisor.h"

#include <signal.h>

#include <asio.hpp>
#include <utility>

#include "launcher/job/guard.h"
#include "launcher/job/rank_child.h"
#include "launcher/job/terminal_input.h"

namespace weft::launcher {

const RankEnd* Outcome::end_of(int rank) const {
  for (const auto& end : ends) {
    if (end.rank == rank) return &end;
  }
  return nullptr;
}

const RankEnd* Outcome::first_failure() const {
  for (const auto& end : ends) {
    if (!end.status.ok() && !end.killed_by_us) return &end;
  }
  return nullptr;
}

int Outcome::exit_code() const {
  if (signal != 0) return 128 + signal;
  if (output_closed) return 128 + SIGPIPE;
  const RankEnd* guilty = verdict ? end_of(verdict->rank) : nullptr;
  if (guilty != nullptr && !guilty->status.ok() && !guilty->killed_by_us) {
    return guilty->status.exit_code();
  }
  if (const RankEnd* first = first_failure()) return first->status.exit_code();
  for (const auto& end : ends) {
    if (!end.status.ok()) return 1;
  }
  return 0;
}

struct Supervisor::Impl : std::enable_shared_from_this<Supervisor::Impl> {
  Impl(SupervisorOptions opts, JobControl& job_control, Output& out)
      : options(std::move(opts)), control(job_control), output(out), signals(io), timer(io) {}

  void start();
  void listen();
  void on_signal(int number);
  void on_exit(RankChild& child);
  void on_end(RankChild& child);
  void on_verdict(const comm::Failure& failure);
  void on_output_closed();
  void stop_after_grace(int number);
  void kill_all(int number);
  void refresh_status();
  RankChild::Hooks hooks();

  SupervisorOptions options;
  JobControl& control;
  Output& output;
  Guard guard;
  FileDescriptor null_input;
  asio::io_context io;
  asio::signal_set signals;
  asio::steady_timer timer;
  std::optional<TerminalInput> terminal;
  std::vector<std::unique_ptr<RankChild>> children;
  std::size_t running = 0;
  std::vector<RankChild*> exits;  // in the order they came
  bool stopping = false;
  Outcome outcome;
};

Supervisor::Supervisor(SupervisorOptions options, JobControl& control, Output& output)
    : impl_(std::make_shared<Impl>(std::move(options), control, output)) {
  if (impl_->options.handle_signals) impl_->listen();
  impl_->start();
}

Supervisor::~Supervisor() {
  impl_->children.clear();
  impl_->output.set_status({});
}

RankChild::Hooks Supervisor::Impl::hooks() {
  return {
      [this](RankChild& child) { on_exit(child); },
      [this](RankChild& child) { on_end(child); },
      [this] { refresh_status(); },
      [this](std::function<void()> resume) {
        output.when_room([weak = weak_from_this(), resume = std::move(resume)] {
          if (const auto self = weak.lock()) asio::post(self->io, resume);
        });
      },
  };
}

void Supervisor::Impl::start() {
  null_input = open_null(O_RDONLY);
  for (std::size_t i = 0; i < options.ranks.size(); ++i) {
    RankStart start = options.ranks[i];
    start.process.guard_fd = guard.fd();
    start.process.stdin_fd = null_input.get();
    FileDescriptor typed;
    if (i == 0 && options.standard_input == StdinFor::first) {
      start.process.stdin_fd = -1;
      // A process group in the background may not read from the terminal, so we do it for it.
      if (isatty(STDIN_FILENO) == 1) {
        Pipe pipe = make_pipe();
        typed = std::move(pipe.read);
        start.process.stdin_fd = typed.get();
        terminal.emplace(io, STDIN_FILENO, std::move(pipe.write));
      }
    }
    children.push_back(
        std::make_unique<RankChild>(io, std::move(start), options.relay_output, output, hooks()));
    ++running;
  }
  control.on_failure([weak = weak_from_this()](const comm::Failure& failure) {
    if (const auto self = weak.lock()) {
      asio::post(self->io, [raw = self.get(), failure] { raw->on_verdict(failure); });
    }
  });
  output.on_closed([weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      asio::post(self->io, [raw = self.get()] { raw->on_output_closed(); });
    }
  });
}

void Supervisor::Impl::listen() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) {
    struct sigaction current {};
    sigaction(number, nullptr, &current);
    // Ignored by whoever started us: nohup, or a shell that runs us in the background.
    if (current.sa_handler != SIG_IGN) signals.add(number);
  }
  signals.async_wait([this](std::error_code error, int number) {
    if (!error) on_signal(number);
  });
}

void Supervisor::Impl::on_signal(int number) {
  signals.async_wait([this](std::error_code error, int next) {
    if (!error) on_signal(next);
  });
  if (number == SIGUSR1 || number == SIGUSR2) {
    for (auto& child : children) child->signal(number);
    return;
  }
  if (outcome.signal != 0) return kill_all(SIGKILL);
  outcome.signal = number;
  output.write(
      Stream::error,
      fmt::format("weft: {}: passed on to {} rank{}; those still there after {} ms are "
                  "killed (a second signal kills them at once)\n",
                  signal_name(number), running, running == 1 ? "" : "s", options.grace.count()));
  stopping = true;
  kill_all(number);
  stop_after_grace(SIGKILL);
}

void Supervisor::Impl::on_exit(RankChild& child) {
  exits.push_back(&child);
  if (child.status()->ok()) return;
  const RankEnd end = child.end();
  if (outcome.signal == 0 && !end.killed_by_us) {
    comm::Failure failure;
    failure.source = comm::Failure::Source::agent;
    failure.code = ErrorCode::peer_lost;
    failure.rank = child.rank();
    failure.host = options.host;
    failure.pid = child.pid();
    failure.what = describe(*child.status());
    control.report(failure);
  }
  if (!stopping) {
    stopping = true;
    stop_after_grace(SIGTERM);
  }
}

void Supervisor::Impl::on_end(RankChild&) {
  if (--running > 0) return;
  timer.cancel();
  io.stop();
}

void Supervisor::Impl::on_verdict(const comm::Failure& failure) {
  outcome.verdict = failure;
  if (stopping) return;
  stopping = true;
  stop_after_grace(SIGTERM);
}

void Supervisor::Impl::on_output_closed() {
  if (stopping) return;
  outcome.output_closed = true;
  stopping = true;
  kill_all(SIGTERM);
  stop_after_grace(SIGKILL);
}

// SIGTERM is followed by SIGKILL, after as long again.
void Supervisor::Impl::stop_after_grace(int number) {
  timer.expires_after(options.grace);
  timer.async_wait([this, number](std::error_code cancelled) {
    if (cancelled) return;
    kill_all(number);
    if (number != SIGKILL) stop_after_grace(SIGKILL);
  });
}

void Supervisor::Impl::kill_all(int number) {
  for (auto& child : children) child->kill_by_us(number);
}

void Supervisor::Impl::refresh_status() {
  for (const auto& child : children) {
    const std::string text = child->visible();
    if (!text.empty()) return output.set_status(text);
  }
  output.set_status({});
}

Outcome Supervisor::run() {
  Impl& impl = *impl_;
  if (impl.running > 0) impl.io.run();
  if (!impl.outcome.verdict) impl.outcome.verdict = impl.control.failure();
  for (const RankChild* child : impl.exits) impl.outcome.ends.push_back(child->end());
  impl.exits.clear();
  impl.output.set_status({});
  return impl.outcome;
}

void Supervisor::stop() {
  asio::post(impl_->io, [raw = impl_.get()] {
    if (raw->stopping) return;
    raw->stopping = true;
    raw->kill_all(SIGTERM);
    raw->stop_after_grace(SIGKILL);
  });
}

}  // namespace weft::launcher
