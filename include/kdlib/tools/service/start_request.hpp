// SPDX-License-Identifier: Apache-2.0
// From the body of a request to a run: the fields of the interface as flags of distil.
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

/// A set of settings that the page offers: settings of distil as JSON.
struct ServicePreset {
  const char *name, *help, *settings;
  bool of_distil;  // distil knows the preset itself
};
const std::vector<ServicePreset>& service_presets();

/// What requests are read with.
struct StartContext {
  const FlagTable& flags;
  const AllowedRoots& roots;
  const ServiceSettings& settings;
  std::string runs;  // real path
};

/// The run that a checked body asks for, without its folder. ServiceProblem 403, 404: a path; 422: fields that do not
/// go together.
RunRecord read_start(const Json& body, const StartContext& context, bool fine_tune);
/// Settings of a request as words `--flag=value`; paths are checked.
std::vector<std::string> setting_words(const Json& settings, const StartContext& context, const std::string& field);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/start_request_inl.hpp"
#endif

#endif
