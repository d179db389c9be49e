// SPDX-License-Identifier: Apache-2.0
// Counts the rows of a Parquet file and the bytes of their questions in a project of its own. Arguments: the file, both
// numbers as they must be.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <kdlib/arrow.hpp>

namespace kd = kdlib;

int main(int argc, char** argv) try {
  if (argc != 4) return std::fprintf(stderr, "usage: rows FILE ROWS BYTES\n"), 2;
  const kd::NextRow next = kd::parquet_rows(argv[1]);
  long rows = 0, bytes = 0;
  for (kd::ReasoningRow row; next(row); ++rows) bytes += static_cast<long>(row.query.size());
  std::printf("%ld rows, %ld bytes of questions\n", rows, bytes);
  return rows == std::atol(argv[2]) && bytes == std::atol(argv[3]) ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
