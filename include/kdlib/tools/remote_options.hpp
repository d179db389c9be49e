// SPDX-License-Identifier: Apache-2.0
// The options that describe a teacher on other machines for programs that do not train. remote_start.hpp connects to
// this teacher.
#ifndef KDLIB_TOOLS_REMOTE_OPTIONS_HPP
#define KDLIB_TOOLS_REMOTE_OPTIONS_HPP

#include <string>

#include "kdlib/teacher/remote_settings.hpp"
#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

/// The values of --teacher-api, --teacher-model, --teacher-key and --teacher-in-flight.
struct RemoteOptions {
  std::string api = "auto";
  RemoteTeacherSettings settings{};

  void add_to(Options& options) {
    options.group("Teacher on another machine")
        .add("teacher-api", api, "NAME", "what the servers speak; auto asks them")
        .choices({"auto", "vllm", "sglang", "llama_cpp", "kdlib"})
        .add("teacher-model", settings.model, "NAME", "what the server calls the teacher (default: its only model)")
        .add("teacher-key", settings.key_environment, "VARIABLE", "environment variable that holds the servers' key")
        .add("teacher-in-flight", settings.in_flight, "N", "requests at once to each server")
        .at_least(1);
  }
  /// Returns under which condition the options have an effect. `asks` is true if servers are named; `otherwise` is the
  /// reason why they have no effect without servers.
  OptionNeeds needs(bool asks, const char* otherwise) const {
    return {{"teacher-api", "teacher-model", "teacher-key", "teacher-in-flight"}, asks, otherwise};
  }
};

KDLIB_NAMESPACE_END

#endif
