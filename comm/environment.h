// The environment variables by which a launcher tells a program how to join its job. `weft run`
// sets them, launcher/environment translates other launchers' variables into them, and
// ConnectOptions::from_environment() reads them. Bad values give InvalidArgument naming the
// variable; an empty value counts as unset.
#pragma once

namespace weft::comm::env {

// Who this process is. WEFT_RANK wins over RANK, so that a program can be started inside another
// launcher's job.
inline constexpr const char* kRank = "WEFT_RANK";        // 0 .. WORLD_SIZE-1
inline constexpr const char* kTorchRank = "RANK";        // the same, torchrun's name
inline constexpr const char* kWorldSize = "WORLD_SIZE";  // >= 1; unset: 1
inline constexpr const char* kLocalRank = "LOCAL_RANK";  // rank on this host; unset: 0

// Where the store listens. WEFT_STORE_* win over MASTER_*.
inline constexpr const char* kStoreAddress = "WEFT_STORE_ADDR";
inline constexpr const char* kMasterAddress = "MASTER_ADDR";
inline constexpr const char* kStorePort = "WEFT_STORE_PORT";  // 1 .. 65535
inline constexpr const char* kMasterPort = "MASTER_PORT";

// Which job, and its secret. The secret itself is never in the environment: it is read from an
// inherited descriptor (with pread, so that several readers and fork()ed children can) or from a
// file that only its owner may read (0600 or stricter). Both hold 64 hex digits.
inline constexpr const char* kJobId = "WEFT_JOB_ID";  // at most 64 bytes
inline constexpr const char* kEpoch = "WEFT_EPOCH";   // counts restarts; unset: 0
inline constexpr const char* kSecretFd = "WEFT_SECRET_FD";
inline constexpr const char* kSecretFile = "WEFT_SECRET_FILE";

// How to talk.
inline constexpr const char* kTransport = "WEFT_TRANSPORT";  // auto, shm, tcp, inproc
inline constexpr const char* kInterface = "WEFT_INTERFACE";  // "eth0" or a literal address
inline constexpr const char* kHostKey = "WEFT_HOST_KEY";     // ranks with the same are on one host
inline constexpr const char* kAlgorithm = "WEFT_ALGORITHM";  // ring, all_reduce=tree, ...
inline constexpr const char* kTuning = "WEFT_TUNING";        // a file's path, or none
inline constexpr const char* kLanes = "WEFT_LANES";          // links a pair of ranks, 1 .. 16
inline constexpr const char* kConnections = "WEFT_CONNECTIONS";  // tcp: of a link, 1 .. 16
inline constexpr const char* kConnectTimeout = "WEFT_CONNECT_TIMEOUT_MS";
inline constexpr const char* kOperationTimeout = "WEFT_OPERATION_TIMEOUT_MS";
inline constexpr const char* kHeartbeat = "WEFT_HEARTBEAT_MS";

// What to write down: comm/trace/trace.h.
inline constexpr const char* kFlightRecorder = "WEFT_FLIGHT_RECORDER";  // a directory, or off
inline constexpr const char* kTimeline = "WEFT_TIMELINE";               // a directory
inline constexpr const char* kTimelineEvents = "WEFT_TIMELINE_EVENTS";  // a thread, 1 .. 2^24

}  // namespace weft::comm::env
