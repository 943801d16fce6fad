// nccl-tests' table on standard output, and the same as JSON.
#pragma once

#include <string>
#include <vector>

#include "bench/collectives/measure.h"

namespace weft::bench {

// `where`: what the buffers are in.
void print_header(const Options& options, const Communicator& communicator,
                  const std::string& where);
void print_row(const Options& options, const Row& row);
void print_footer(const std::vector<Row>& rows);
// IoError when the file cannot be written.
void write_json(const Options& options, const Communicator& communicator, const std::string& where,
                const std::vector<Row>& rows);
std::int64_t total_wrong(const std::vector<Row>& rows);

}  // namespace weft::bench
