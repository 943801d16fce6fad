// Tuning files: JSON that `weft tune` writes and people may edit (docs/tuning.md).
#pragma once

#include <string>

#include "comm/select/tuning.h"

namespace weft::comm {

inline constexpr int kTuningVersion = 1;

// Fields that are left out are as built in. `name` is for messages, and becomes the source. Throws
// InvalidArgument naming it, line and field for anything that is not what it must be.
Tuning parse_tuning(const std::string& text, const std::string& name);
std::string format_tuning(const Tuning& tuning);

// IoError where it cannot be read; InvalidArgument where it is too long to be one.
std::string read_tuning_text(const std::string& path);
// Whole or not at all: written aside, then renamed. Makes the directory if there is none. IoError.
void write_tuning(const Tuning& tuning, const std::string& path);

}  // namespace weft::comm
