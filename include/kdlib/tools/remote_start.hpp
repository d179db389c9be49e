// SPDX-License-Identifier: Apache-2.0
// How programs that do not train connect to a teacher on servers. These functions are compiled in the program, which
// knows whether it has libcurl.
#ifndef KDLIB_TOOLS_REMOTE_START_HPP
#define KDLIB_TOOLS_REMOTE_START_HPP

#include <cstdint>
#include <optional>
#include <string>

#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/teacher/remote.hpp"
#include "kdlib/teacher/remote_probes.hpp"
#include "kdlib/tools/remote_options.hpp"
#include "kdlib/tools/report.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the settings for the servers at `urls` and finds their dialect. The vocabulary is that of the tokenizer;
/// without a tokenizer only `serve --teacher` tells the size of the vocabulary.
inline RemoteTeacherSettings remote_settings(const RemoteOptions& options, const std::string& urls,
                                             const std::optional<Tokenizer>& tokenizer, std::uint64_t seed) {
  RemoteTeacherSettings settings = options.settings;
  settings.urls = split_urls(urls);
  settings.dialect = enum_value<Dialect>(options.api).value();
  settings.vocabulary = tokenizer ? tokenizer->vocab_size() : 0;
  settings.seed = seed;
  if (settings.dialect == Dialect::automatic) settings.dialect = find_dialect(settings);
  return settings;
}

/// Runs probe_remote_teacher() and prints its notes on stderr.
inline void probe_for_program(RemoteClient& client, const std::optional<Tokenizer>& tokenizer) {
  const RemoteProbe probe{tokenizer ? &*tokenizer : nullptr,
                          tokenizer ? client.needs().vocabulary : client.facts().vocabulary, client.facts().end_ids};
  show_notes(probe_remote_teacher(client, probe));
}

/// Reads the tokenizer that the option --tokenizer names: a model's folder, a GGUF file or a tokenizer file. Returns
/// nothing if the option is not given. ConfigError: there is no tokenizer at this place.
inline std::optional<Tokenizer> named_tokenizer(const std::string& place) {
  if (place.empty()) return std::nullopt;
  const bool model = is_directory(place) || place.ends_with(".gguf");
  std::optional<Tokenizer> found = model ? find_model_tokenizer(place) : Tokenizer::from_pretrained(place);
  require<ConfigError>(found.has_value(), "--tokenizer ", place, " has none");
  return found;
}

KDLIB_NAMESPACE_END

#endif
