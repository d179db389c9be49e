// SPDX-License-Identifier: Apache-2.0
// Bodies of distil.hpp.
#ifndef KDLIB_TOOLS_DISTIL_INL_HPP
#define KDLIB_TOOLS_DISTIL_INL_HPP

#include <algorithm>
#include <cstdio>

#include "kdlib/io/paths.hpp"
#include "kdlib/tools/distil.hpp"
#include "kdlib/tools/task_evaluation.hpp"

KDLIB_NAMESPACE_BEGIN

/// Scores the tasks of --evaluate-tasks wherever the session measures.
template <class D, class T>
void add_tasks(Session<D, T>& session, const DistilCommand& command) {
  if (command.tasks().empty()) return;
  const std::string& model = session.settings().models.student_path();
  const std::optional<Tokenizer> tokenizer = find_model_tokenizer(model);
  require<SettingsError>(tokenizer.has_value(), "[distil] --evaluate-tasks needs a tokenizer; ", model, " has none");
  session.measure_also([tasks = TaskEvaluation(command.tasks(), command.task_data(), command.task_limit(),
                                               scoring_tokens(tokenizer, DecoderConfig{}, model))](
                           Decoder<D, T>& subject) { return tasks(subject); });
}

namespace detail {
template <class D, class T, class Before, class After>
int run_shown_session(RecipeSettings settings, StatusFile* status, Before&& before, After&& after,
                      const AnyCommunicator& ranks) {
  fill_bundled_text(settings.text);
  settle_ranks(settings.training, ranks.size());
  DistilConsole console(status);
  std::optional<ScratchFolder> scratch;
  if (!ranks.leads()) settings.output.folder = scratch.emplace().path();
  Session<D, T> session(std::move(settings), ranks.leads() ? &console : nullptr);
  session.share_with(ranks);
  before(session);
  const StopSignals signals(&session.stop_flag());
  const SessionOutcome outcome = session.run();
  if (ranks.leads()) console.finish();
  if (outcome.low_memory) return low_memory_status;
  if (outcome.stopped) return 128 + std::max(1, signals.signal());  // another rank's, perhaps
  if (!ranks.leads()) return 0;
  const std::string& folder = session.settings().output.folder;
  const std::string report = join_path(folder, "report.html");
  if (!outcome.was_finished || !path_exists(report)) {
    RunFolder run(folder);
    run.open();
    run.outputs().claim({"report.html"});
    write_file_atomically(report, render_html(distil_report(outcome.result, session.settings())));
    console.on_note(concat("wrote ", report));
  }
  std::fputs(result_table(outcome.result).c_str(), stdout);
  after(session);
  return 0;
}
}  // namespace detail

template <class D, class T, class Before, class After>
int run_session(RecipeSettings settings, const std::string& status_file, Before&& before, After&& after,
                const AnyCommunicator& ranks) {
  std::optional<StatusFile> status;
  if (!status_file.empty() && ranks.leads()) status.emplace(status_file);
  try {
    const int ended =
        detail::run_shown_session<D, T>(std::move(settings), status ? &*status : nullptr, before, after, ranks);
    if (status) status->ended(ended);
    return ended;
  } catch (const std::exception& error) {
    if (status) status->failed(error);
    throw;
  }
}

template <class D, class T>
void print_plan(DistilCommand& command) {
  RecipeSettings settings = command.settings();
  fill_bundled_text(settings.text);
  DistilConsole console;
  Session<D, T> session(std::move(settings), &console);
  const std::string& device = command.device();
  const Accelerator* sheet = nullptr;
  if (device != D::name) sheet = &find_accelerator(device);
  const RecipePlan plan = session.plan(sheet);
  command.print(plan);
  if (!command.json()) std::printf("  %s\n", Session<D, T>::environment_text().c_str());
}

namespace detail {
/// One of the ranks that hold the teacher. A signal that asks the run to stop is for the students: they finish their
/// step with this rank's answers.
template <class D, class T>
int run_teacher_rank(const RecipeSettings& settings, const TeacherRanks& roles) {
  std::atomic<bool> ignored{false};
  const StopSignals signals(&ignored);
  serve_teacher_rank<D, T>(settings.models, roles, [](const std::string& text) { show_notes({text}); });
  return 0;
}

/// This process as the rank that it is: a student, or one that holds the teacher.
template <class D, class T>
int run_role(DistilCommand& command, const AnyCommunicator& ranks) {
  TeacherRanks roles{ranks, command.teacher_ranks()};
  checking_settings([&roles] { roles.check(); });
  const AnyCommunicator role = roles.role();
  if (roles.teaches()) return run_teacher_rank<D, T>(command.settings(), roles);
  const auto link = std::make_shared<TeacherLink>(ranks, roles.own_teacher());
  const int status = run_session<D, T>(
      command.settings(), command.status_file(),
      [&](auto& session) {
        add_tasks(session, command);
        session.ask_ranks(link);
      },
      [](auto&) {}, role);
  link->end();
  return status;
}
}  // namespace detail

template <class... Types>
int run_distil(int argc, const char* const* argv) {
  start_process();
  DistilCommand command;
  command.parse(argc, argv);
  if (command.threads() > 0) set_thread_count(command.threads());
  return with_session_type<Types...>(
      "distil", command.session_device(), command.session_dtype(),
      [&](auto type) {
        using D = typename decltype(type)::device_type;
        using T = typename decltype(type)::scalar_type;
        if (command.dry_run()) return print_plan<D, T>(command), 0;
        command.settle_dtype(type.dtype());
        return run_as_rank(command.comm_timeout(), [&](const AnyCommunicator& ranks) {
          if (command.teacher_ranks() > 0) return detail::run_role<D, T>(command, ranks);
          return run_session<D, T>(
              command.settings(), command.status_file(), [&command](auto& session) { add_tasks(session, command); },
              [](auto&) {}, ranks);
        });
      },
      command.dry_run());
}

KDLIB_NAMESPACE_END

#endif
