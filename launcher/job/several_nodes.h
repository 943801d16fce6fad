// A job of several nodes: see session.h.
#pragma once

#include "launcher/job/session.h"

namespace weft::launcher {

std::unique_ptr<Session> open_session_of_several(const SessionOptions& options);

}  // namespace weft::launcher
