// SPDX-License-Identifier: Apache-2.0
// serve --teacher: a model that scores text for distillations on other machines.
#include "serve_teacher.hpp"

#include <kdlib/io/content_hash.hpp>
#include <kdlib/io/paths.hpp>
#include <kdlib/io/temporary_folder.hpp>
#include <kdlib/model/decoder.hpp>
#include <kdlib/recipe/model_files.hpp>
#include <kdlib/teacher/vocabulary.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/checkpoint/load.hpp>
#include <kdlib/tools/model_options.hpp>
#include <kdlib/tools/service/child_process.hpp>
#include <kdlib/tools/service/http_server.hpp>
#include <kdlib/tools/service/teacher_engine.hpp>

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cpu, float>;

/// What clients compare: the weights, with the adapter that is merged into them.
std::string hash_of(const kd::ModelOptions& o) {
  const std::string model = kd::content_hash(o.model);
  return o.adapter.empty() ? model : model + " " + kd::content_hash(o.adapter);
}

}  // namespace

int serve_teacher(const kd::ServiceSettings& settings, const TeacherOptions& options,
                  const std::function<void(int port)>& ready) {
  kd::start_threads(options.threads);
  const kd::ModelPlace place = kd::find_model(options.model, options.adapter);
  kd::ModelOptions o;
  o.model = place.model;
  o.adapter = place.adapter;
  o.merge = !o.adapter.empty();
  std::optional<kd::Tokenizer> tokenizer = kd::find_model_tokenizer(o.model);
  Model model = kd::load_model<Model>(o, tokenizer);
  model.fold_cores();
  kd::ServedTeacher facts;
  facts.name = options.name.empty() ? kd::file_name(o.model) : options.name;
  facts.model_hash = hash_of(o);
  facts.context_length = model.config().context_length;
  facts.end_ids = kd::stop_ids_of(o.model, tokenizer, model.config().eos_ids);
  if (tokenizer) facts.tokenizer_hash = kd::tokenizer_hash(*tokenizer);
  const kd::detail::TemporaryFolder folder("[serve] no folder can be made", "kdlib_serve");
  kd::TeacherServer server(settings, std::make_unique<kd::ModelEngine<Model>>(model, std::move(tokenizer), facts),
                           folder.path(), kd::detail::steady_seconds);
  return kd::run_http_server(
      settings, [&server](const kd::ServiceRequest& request) { return server.handle(request); }, ready);
}
