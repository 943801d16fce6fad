// The job's secret, between files and processes. Never in argv, the environment or a log.
#pragma once

#include <string>

#include "comm/rendezvous/identity.h"
#include "launcher/job/file_descriptor.h"

namespace weft::launcher {

// From a regular file of ours that nobody else may read (mode 0600 or stricter), 64 hex digits.
// Throws LaunchError (exit code 2) that says what to do.
comm::Secret read_secret_file(const std::string& path);

// An anonymous, sealed file in memory that holds the 64 hex digits, for WEFT_SECRET_FD. High and
// close-on-exec.
FileDescriptor secret_in_memory(const comm::Secret& secret);

}  // namespace weft::launcher
