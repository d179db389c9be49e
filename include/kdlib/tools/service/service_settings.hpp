// SPDX-License-Identifier: Apache-2.0
// Settings of the program `serve`.
#ifndef KDLIB_TOOLS_SERVICE_SERVICE_SETTINGS_HPP
#define KDLIB_TOOLS_SERVICE_SERVICE_SETTINGS_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings for how the service listens, what it may read, and its limits.
struct ServiceSettings {
  std::vector<std::string> roots;        // folders that may be read
  std::string runs = "runs";             // folder of the runs, which may be read, too
  std::string host = "127.0.0.1";        // address to listen on
  int port = 7340;                       // 0: any free port
  std::vector<std::string> allow_hosts;  // further names that the header Host may have
  std::string token;                     // token that a client must send
  std::string programs;                  // folder of distil, generate, score and tokenize
  std::string self;                      // path of this program
  std::string web;                       // folder of the web page during development; empty: the embedded page
  std::vector<std::string> devices{"cpu"};
  int jobs_per_device = 1;
  std::int64_t queue = 32;  // most waiting runs
  double stop_grace = 120;  // seconds from a request to stop until the run is killed
  double patience = 30;     // seconds within which a request must arrive, and within which a client must take an answer
  double memory_floor = 0.04;  // share of free memory, 0 to 1, below which a run is asked to save and stop; 0: never
};

KDLIB_NAMESPACE_END

#endif
