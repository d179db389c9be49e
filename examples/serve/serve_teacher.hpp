// SPDX-License-Identifier: Apache-2.0
// What serve.cpp asks of serve_teacher.cpp, which alone compiles a model.
#ifndef KDLIB_EXAMPLES_SERVE_TEACHER_HPP
#define KDLIB_EXAMPLES_SERVE_TEACHER_HPP

#include <kdlib/tools/service/service_settings.hpp>

#include <functional>
#include <string>

/// Options of `serve --teacher`.
struct TeacherOptions {
  std::string model, adapter;
  std::string name;  // what clients call it; empty: the name of the model's file or folder
  int threads = 0;
};

/// Serves the model until the process is to end; `ready` gets the port. Answers the exit status.
int serve_teacher(const kdlib::ServiceSettings& settings, const TeacherOptions& options,
                  const std::function<void(int port)>& ready);

#endif
