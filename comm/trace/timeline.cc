#include "comm/trace/timeline.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <new>
#include <utility>

#include "comm/trace/track.h"

namespace weft::comm::trace {

namespace {
std::atomic<std::uint64_t> g_timelines{0};
}

// One thread's last track: what push() needs nearly always.
struct LastTrack {
  std::uint64_t timeline = 0;
  void* track = nullptr;
};
static thread_local LastTrack t_last;

Timeline::Timeline(Identity identity, std::string directory, std::size_t events_max,
                   std::vector<int> names)
    : identity_(std::move(identity)),
      directory_(std::move(directory)),
      events_max_(events_max),
      names_(std::move(names)),
      number_(g_timelines.fetch_add(1) + 1),
      base_(ticks()) {}

Timeline::~Timeline() = default;

Timeline::Track* Timeline::track() {
  if (t_last.timeline != number_) t_last = {number_, find_track()};
  return static_cast<Track*>(t_last.track);
}

Timeline::Track* Timeline::find_track() {
  const long self = ::syscall(SYS_gettid);
  const std::lock_guard lock(mutex_);
  for (const auto& track : tracks_) {
    if (track->thread == self) return track.get();
  }
  if (tracks_.size() == kTracksMax) return nullptr;
  try {
    auto track = std::make_unique<Track>();
    track->thread = self;
    track->name = "caller";
    track->memory.reset(new (std::nothrow) std::byte[events_max_ * sizeof(Event)]);
    tracks_.push_back(std::move(track));
    return tracks_.back().get();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void Timeline::push(const Event& event) {
  Track* const mine = track();
  if (mine == nullptr) {
    homeless_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const std::size_t used = mine->used.load(std::memory_order_relaxed);
  if (used == events_max_ || !mine->memory) {
    mine->dropped.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  new (mine->memory.get() + used * sizeof(Event)) Event(event);
  mine->used.store(used + 1, std::memory_order_release);
}

void Timeline::name_thread(const char* name) {
  Track* const mine = track();
  if (mine == nullptr) return;
  const std::lock_guard lock(mutex_);
  mine->name = name;
}

void Timeline::add_clock_point(const ClockPoint& point) {
  const std::lock_guard lock(mutex_);
  clock_points_.push_back(point);
}

std::uint64_t Timeline::dropped() {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = homeless_.load(std::memory_order_relaxed);
  for (const auto& track : tracks_) sum += track->dropped.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace weft::comm::trace
