// SPDX-License-Identifier: Apache-2.0
// Settings of the program `serve`.
#ifndef KDLIB_TOOLS_SERVICE_SERVICE_SETTINGS_HPP
#define KDLIB_TOOLS_SERVICE_SERVICE_SETTINGS_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// How the service listens, what it may read, and its limits.
struct ServiceSettings {
  std::vector<std::string> roots;        // folders that may be read
  std::string runs = "runs";             // folder of the runs; it may be read, too
  std::string host = "127.0.0.1";        // address to listen on
  int port = 7340;                       // 0: any free one
  std::vector<std::string> allow_hosts;  // further names that a Host header may have
  std::string token;                     // what a client must know
  std::string programs;                  // folder of distil, generate, score and tokenize
  std::string self;                      // this program
  std::string web;                       // folder of the page while developing; empty: the embedded page
  std::vector<std::string> devices{"cpu"};
  int jobs_per_device = 1;
  std::int64_t queue = 32;     // waiting runs
  double stop_grace = 120;     // seconds from a request to stop to the end by force
  double patience = 30;        // seconds a request may take to come, and an answer may wait to be taken
  double memory_floor = 0.04;  // share of free memory below which a run is asked to save and stop
};

KDLIB_NAMESPACE_END

#endif
