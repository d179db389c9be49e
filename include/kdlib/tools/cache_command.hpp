// SPDX-License-Identifier: Apache-2.0
// The command line of the program `cache_logits`, and the summary that the program prints at the end.
#ifndef KDLIB_TOOLS_CACHE_COMMAND_HPP
#define KDLIB_TOOLS_CACHE_COMMAND_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/teacher/write_cache.hpp"
#include "kdlib/tools/options.hpp"
#include "kdlib/tools/remote_options.hpp"

KDLIB_NAMESPACE_BEGIN

/// The values of one command line.
struct CacheCommand {
  std::string teacher, data, out, chat_template, too_long = "refuse";
  std::int64_t max_length = 2048, max_samples = 0;
  std::int64_t workspace = 256;  // MiB
  std::int64_t verify = 0;       // documents that are compared with the teacher at the end; 0: none
  int threads = 0;
  std::uint64_t seed = 1;
  CacheSettings settings{};
  std::int64_t worker = 0;   // number of this worker, from 0
  std::string distillkit{};  // configuration file of data that hold rows of DistillKit
  std::string tokenizer{};   // folder or file with the tokenizer of these rows or of the servers' model
  RemoteOptions remote{};    // for a teacher on servers
  std::string seed_cache{}, seed_order = "contiguous";  // folder of MoE_Factorize_Compress's files of the data
  std::vector<std::string> merge{};                     // caches that are merged into one in `out`
  std::int64_t merge_segment = 0;  // documents in each file of the merged cache; 0: as in the first cache

  /// UsageError and HelpRequested as in Options::parse. ConfigError: settings do not fit each other, or the program was
  /// built without a part that they need.
  void parse(int argc, const char* const* argv);
  /// True if the teacher is on servers.
  bool is_remote() const { return names_servers(teacher); }
  /// True if no cache is made and only the checksums of the cache in --out are checked.
  bool check_alone() const { return teacher.empty() && data.empty() && merge.empty(); }
};

/// Returns documents, rows, bytes and rates, each in a separate line.
std::string cache_summary(const CacheMeta& meta, const std::string& folder, const CacheProgress& done);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/cache_command_inl.hpp"
#endif

#endif
