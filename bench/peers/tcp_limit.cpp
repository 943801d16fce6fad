// What this machine's TCP loopback can do at best: a bare ring all-reduce of float32 over plain sockets between N forked
// processes, with no library, no frames and no checksums around it. The limit to hold the tcp transport against.
// Usage: tcp_limit N [min_bytes max_bytes]      Prints: bytes  median_us  busbw_GBps
#include <arpa/inet.h>
#include <cerrno>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

static bool g_crowded = false;
static int g_listener = -1, g_next = -1, g_previous = -1;
static const size_t kPiece = 1 << 20;  // received at once; smaller and larger ones were slower

static void prepare(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(socket, F_SETFL, O_NONBLOCK);
}

static int listen_on_loopback() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(socket, 8) != 0) abort();
  return socket;
}

// Sends `send` and receives as much as `into` (add: adds it there), both at once.
static void exchange(const char* send, size_t send_bytes, char* into, size_t into_bytes, bool add, std::vector<char>& piece) {
  size_t sent = 0, got = 0, in_piece = 0;
  while (sent < send_bytes || got < into_bytes) {
    bool moved = false;
    if (sent < send_bytes) {
      const ssize_t n = ::send(g_next, send + sent, std::min(send_bytes - sent, kPiece), MSG_NOSIGNAL);
      if (n > 0) sent += size_t(n), moved = true;
      else if (n < 0 && errno != EAGAIN) abort();
    }
    if (got < into_bytes) {
      const size_t want = std::min(into_bytes - got, kPiece);
      const ssize_t n = add ? recv(g_previous, piece.data() + in_piece, want - in_piece, 0) : recv(g_previous, into + got, want, 0);
      if (n > 0) {
        moved = true;
        if (!add) got += size_t(n);
        else if ((in_piece += size_t(n)) == want) {
          float* to = reinterpret_cast<float*>(into + got);
          const float* from = reinterpret_cast<const float*>(piece.data());
          for (size_t i = 0; i < want / 4; ++i) to[i] += from[i];
          got += want, in_piece = 0;
        }
      } else if (n == 0 || (n < 0 && errno != EAGAIN)) abort();
    }
    if (!moved && g_crowded) sched_yield();
  }
}

int main(int argc, char** argv) {
  const int n = argc > 1 ? atoi(argv[1]) : 2;
  const size_t lo = argc > 2 ? atoll(argv[2]) : 8, hi = argc > 3 ? atoll(argv[3]) : (32u << 20);
  struct Shared { std::atomic<int> port[64]; std::atomic<long> epoch[64]; double slowest[64]; };
  auto* shared = static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  int rank = 0;
  for (int r = 1; r < n; ++r) if (fork() == 0) { rank = r; break; }
  const int cores = int(std::thread::hardware_concurrency());
  g_crowded = n > cores;
  if (!g_crowded) { cpu_set_t one; CPU_ZERO(&one); CPU_SET(rank, &one); sched_setaffinity(0, sizeof one, &one); }
  long epoch = 0;
  auto barrier = [&] {
    shared->epoch[rank].store(++epoch);
    for (int r = 0; r < n; ++r) while (shared->epoch[r].load() < epoch) sched_yield();
  };
  g_listener = listen_on_loopback();
  sockaddr_in address{};
  socklen_t length = sizeof address;
  getsockname(g_listener, reinterpret_cast<sockaddr*>(&address), &length);
  shared->port[rank] = ntohs(address.sin_port);
  barrier();
  g_next = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(g_next, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
  address.sin_port = htons(uint16_t(shared->port[(rank + 1) % n].load()));
  if (connect(g_next, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) abort();
  g_previous = accept(g_listener, nullptr, nullptr);
  prepare(g_next), prepare(g_previous);
  std::vector<float> data(hi / 4, 1.f);
  std::vector<char> piece(kPiece);
  for (size_t bytes = lo; bytes <= hi; bytes *= 4) {
    auto part = [&](int k) { return bytes / 4 * size_t(((k % n) + n) % n) / size_t(n) * 4; };
    auto part_end = [&](int k) { return bytes / 4 * size_t(((k % n) + n) % n + 1) / size_t(n) * 4; };
    char* base = reinterpret_cast<char*>(data.data());
    std::vector<double> times;
    const int iterations = bytes <= (1u << 20) ? 300 : 40;
    for (int i = 0; i < iterations; ++i) {
      barrier();
      const auto start = std::chrono::steady_clock::now();
      for (int round = 0; round < 2 * (n - 1); ++round) {
        const int out = rank - round, in = rank - round - 1;
        exchange(base + part(out), part_end(out) - part(out), base + part(in), part_end(in) - part(in), round < n - 1, piece);
      }
      shared->slowest[rank] = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
      barrier();
      times.push_back(*std::max_element(shared->slowest, shared->slowest + n));
      barrier();
      if (i % 8 == 0) std::fill(data.begin(), data.begin() + long(bytes / 4), 1.f);
    }
    std::nth_element(times.begin(), times.begin() + long(times.size() / 2), times.end());
    const double us = times[times.size() / 2];
    if (rank == 0) printf("%10zu  %10.2f  %8.2f\n", bytes, us, double(bytes) / us / 1e3 * 2 * (n - 1) / n), fflush(stdout);
  }
  if (rank != 0) _exit(0);
  while (wait(nullptr) > 0) {}
}
