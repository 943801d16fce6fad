#include "launcher/job/rank_child.h"

#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <utility>

#include "launcher/job/guard.h"

namespace weft::launcher {
namespace {

constexpr std::size_t kLastLines = 20;
constexpr std::size_t kLastLineBytesMax = 2000;
// How long what a rank started itself (a tee, say) may go on writing after it has exited.
constexpr auto kLinger = std::chrono::milliseconds(500);

}  // namespace

RankChild::RankChild(asio::io_context& io, RankStart start, bool relay_output, Output& output,
                     Hooks hooks)
    : start_(std::move(start)),
      output_(output),
      hooks_(std::move(hooks)),
      started_(std::chrono::steady_clock::now()),
      linger_(io) {
  Pipe pipes[2];
  if (relay_output) {
    pipes[0] = make_pipe();
    pipes[1] = make_pipe();
    start_.process.stdout_fd = pipes[0].write.get();
    start_.process.stderr_fd = pipes[1].write.get();
  }
  process_ = start_process(start_.process);
  exit_.emplace(io, process_.pidfd.release());
  for (int i = 0; i < 2; ++i) {
    channels_[static_cast<std::size_t>(i)].stream = i == 0 ? Stream::out : Stream::error;
    if (!relay_output) continue;
    channels_[static_cast<std::size_t>(i)].pipe.emplace(io, pipes[i].read.release());
    read(channels_[static_cast<std::size_t>(i)]);
  }
  wait_for_exit();
}

RankChild::~RankChild() {
  if (ended_) return;
  kill(start_.process.own_group ? -process_.pid : process_.pid, SIGKILL);
  if (start_.process.guard_fd >= 0) {
    tell_guard_gone(start_.process.guard_fd,
                    start_.process.own_group ? -process_.pid : process_.pid);
  }
  while (waitpid(process_.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

RankEnd RankChild::end() const {
  RankEnd end;
  end.rank = rank();
  end.pid = pid();
  end.status = status_.value_or(ExitStatus{});
  end.after = std::chrono::duration_cast<std::chrono::milliseconds>(exited_at_ - started_);
  end.last_lines.assign(last_lines_.begin(), last_lines_.end());
  end.killed_by_us = killed_by_us_;
  return end;
}

std::string RankChild::visible() const {
  for (const auto& channel : channels_) {
    const auto text = channel.splitter.visible();
    if (!text.empty()) return start_.prefix + std::string(text);
  }
  return {};
}

void RankChild::signal(int number) {
  if (exited()) return;
  kill(start_.process.own_group ? -process_.pid : process_.pid, number);
}

void RankChild::kill_by_us(int number) {
  if (exited()) return;
  killed_by_us_ = true;
  signal(number);
  signal(SIGCONT);  // a stopped process takes no notice of SIGTERM
}

void RankChild::wait_for_exit() {
  exit_->async_wait(asio::posix::stream_descriptor::wait_read, [this](std::error_code error) {
    if (error) return;
    siginfo_t info{};
    // Left unreaped until the end: its number must not be reused while its group may be signalled.
    const int result =
        waitid(P_PID, static_cast<id_t>(process_.pid), &info, WEXITED | WNOHANG | WNOWAIT);
    if (result == 0 && info.si_pid == 0) return wait_for_exit();
    if (result != 0) {  // a waitpid(-1) elsewhere in this process took its status
      info.si_code = CLD_EXITED;
      info.si_status = 1;
    }
    ExitStatus status;
    if (info.si_code == CLD_EXITED) {
      status.code = info.si_status;
    } else {
      status.signal = info.si_status;
      status.dumped = info.si_code == CLD_DUMPED;
    }
    exited_at_ = std::chrono::steady_clock::now();
    status_ = status;
    hooks_.exited(*this);
    linger_.expires_after(kLinger);
    linger_.async_wait([this](std::error_code cancelled) {
      if (!cancelled) settle();
    });
    settle_if_quiet();
  });
}

void RankChild::read(Channel& channel) {
  channel.pipe->async_read_some(asio::buffer(channel.buffer),
                                [this, &channel](std::error_code error, std::size_t size) {
                                  if (error == asio::error::operation_aborted) return;
                                  if (error) {
                                    close(channel);
                                    return settle_if_quiet();
                                  }
                                  take(channel, {channel.buffer.data(), size});
                                  if (!output_.full()) return read(channel);
                                  hooks_.when_room([this, &channel] {
                                    if (channel.pipe) read(channel);
                                  });
                                });
}

void RankChild::take(Channel& channel, std::string_view bytes) {
  std::string batch;
  batch.reserve(bytes.size() + bytes.size() / 4);
  channel.splitter.feed(bytes, [&](std::string_view line) { pass_on(channel, line, batch); });
  // First, so that no line is followed by a status that it ended.
  if (output_.has_terminal()) hooks_.status_changed();
  output_.write(channel.stream, batch);
}

void RankChild::pass_on(Channel& channel, std::string_view line, std::string& batch) {
  batch += start_.prefix;
  batch += line;
  batch += '\n';
  if (channel.stream != Stream::error) return;
  if (last_lines_.size() == kLastLines) last_lines_.pop_front();
  last_lines_.emplace_back(line.substr(0, kLastLineBytesMax));
}

void RankChild::close(Channel& channel) {
  if (!channel.pipe) return;
  std::string batch;
  channel.splitter.finish([&](std::string_view line) { pass_on(channel, line, batch); });
  if (output_.has_terminal()) hooks_.status_changed();
  output_.write(channel.stream, batch);
  channel.pipe.reset();
}

void RankChild::drain(Channel& channel) {
  if (!channel.pipe) return;
  channel.pipe->cancel();
  std::error_code error;
  channel.pipe->non_blocking(true, error);
  while (!error) {
    const std::size_t size = channel.pipe->read_some(asio::buffer(channel.buffer), error);
    if (!error) take(channel, {channel.buffer.data(), size});
  }
  close(channel);
}

void RankChild::settle_if_quiet() {
  if (!exited() || ended_ || channels_[0].pipe || channels_[1].pipe) return;
  linger_.cancel();
  settle();
}

void RankChild::settle() {
  if (ended_) return;
  const pid_t target = start_.process.own_group ? -process_.pid : process_.pid;
  if (start_.process.own_group) kill(target, SIGKILL);
  for (auto& channel : channels_) drain(channel);
  if (start_.process.guard_fd >= 0) tell_guard_gone(start_.process.guard_fd, target);
  while (waitpid(process_.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  ended_ = true;
  hooks_.ended(*this);
}

}  // namespace weft::launcher
