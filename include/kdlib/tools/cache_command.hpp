// SPDX-License-Identifier: Apache-2.0
// The command line of `cache_logits`, and what it prints at the end.
#ifndef KDLIB_TOOLS_CACHE_COMMAND_HPP
#define KDLIB_TOOLS_CACHE_COMMAND_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/teacher/write_cache.hpp"
#include "kdlib/tools/options.hpp"
#include "kdlib/tools/remote_options.hpp"

KDLIB_NAMESPACE_BEGIN

/// One command line.
struct CacheCommand {
  std::string teacher, data, out, chat_template, too_long = "refuse";
  std::int64_t max_length = 2048, max_samples = 0;
  std::int64_t workspace = 256;  // MiB
  std::int64_t verify = 0;       // documents
  int threads = 0;
  std::uint64_t seed = 1;
  CacheSettings settings{};
  std::int64_t worker = 0;                              // from 0
  std::string distillkit{};                             // configuration of the data, which are DistillKit's rows
  std::string tokenizer{};                              // of those rows, or of servers: a model's folder or file
  RemoteOptions remote{};                               // of servers
  std::string seed_cache{}, seed_order = "contiguous";  // folder of MoE_Factorize_Compress's files of the data
  std::vector<std::string> merge{};                     // caches that become one in `out`
  std::int64_t merge_segment = 0;                       // documents of its files; 0: as the first cache has them

  /// UsageError, HelpRequested as Options::parse; ConfigError for settings that do not fit or are not built.
  void parse(int argc, const char* const* argv);
  /// The teacher is on other machines.
  bool is_remote() const { return names_servers(teacher); }
  /// Nothing is made: the checksums of --out are compared.
  bool check_alone() const { return teacher.empty() && data.empty() && merge.empty(); }
};

/// Documents, rows, bytes and rates, a line each.
std::string cache_summary(const CacheMeta& meta, const std::string& folder, const CacheProgress& done);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/cache_command_inl.hpp"
#endif

#endif
