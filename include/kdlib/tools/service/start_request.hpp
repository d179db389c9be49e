// SPDX-License-Identifier: Apache-2.0
// Turns the body of a request into a run: translates the fields of the interface into flags of distil.
#ifndef KDLIB_TOOLS_SERVICE_START_REQUEST_HPP
#define KDLIB_TOOLS_SERVICE_START_REQUEST_HPP

#include <string>
#include <vector>

#include "kdlib/tools/service/fields.hpp"
#include "kdlib/tools/service/flag_table.hpp"
#include "kdlib/tools/service/run_record.hpp"
#include "kdlib/tools/service/safe_path.hpp"
#include "kdlib/tools/service/service_settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// The fields of POST /opd/start.
const std::vector<ApiField>& distil_fields();
/// The fields of POST /opd/fine_tune: cross-entropy on given text, without a teacher.
const std::vector<ApiField>& fine_tune_fields();

/// A preset that the web page offers. `settings` are settings of distil as JSON.
struct ServicePreset {
  const char *name, *help, *settings;
  bool of_distil;  // true: distil itself has this preset
};
const std::vector<ServicePreset>& service_presets();

/// What is needed to read requests.
struct StartContext {
  const FlagTable& flags;
  const AllowedRoots& roots;
  const ServiceSettings& settings;
  std::string runs;  // real path of the folder of runs
};

/// Returns the record of the run that a checked body requests; the run's folder is not made. ServiceProblem 403 or 404:
/// a path is not allowed or does not exist; 422: fields do not fit together.
RunRecord read_start(const Json& body, const StartContext& context, bool fine_tune);
/// Returns the settings of a request as words `--flag=value` of a command line. Paths are checked.
std::vector<std::string> setting_words(const Json& settings, const StartContext& context, const std::string& field);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/start_request_inl.hpp"
#endif

#endif
