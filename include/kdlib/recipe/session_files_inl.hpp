// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: the files of the student, and the end of a run.
#ifndef KDLIB_RECIPE_SESSION_FILES_INL_HPP
#define KDLIB_RECIPE_SESSION_FILES_INL_HPP

#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/session.hpp"
#include "kdlib/text/tokenizer_writer.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
void Session<D, T>::write_tokenizer(const char* name) {
  const std::string& model = s_.models.student_path();
  write_tokenizer_files(model, find_model_tokenizer(model), student_->config().context_length, path(name));
}

/// The student's codes as they are; answers the form.
template <class D, class T>
std::string Session<D, T>::write_codes(const char* name, bool base) {
  const PackedSaveReport report = save_packed(*student_, path(name), {.without_adapter = base});
  write_tokenizer(name);
  return concat("in the form of ", packed_form_name(report.form), ", ", detail::mebibytes_text(report.bytes), " MiB, ",
                report.stored > 0 ? "tables in the blocks of their file, " : "", "the rest in ", report.dtype);
}

/// The rounded student without its adapter: frozen, so it is there from the first step on, also for the adapters of
/// checkpoints. A model that no directory can describe (a GGUF file with frequencies of its own) is trained all the
/// same; programs then refuse the folder of the run by name.
template <class D, class T>
void Session<D, T>::write_base() {
  if (s_.student.trains != RecipeTrains::lora || !s_.student.rounded) return;
  try {
    packed_ = write_codes("base", true);
    folder_.outputs().record({"base"});
  } catch (const ConfigError& error) {
    remove_tree(path("base"));
    note(concat("base/ is not written, adapter/ alone will be: ", error.what()));
  }
}

template <class D, class T>
void Session<D, T>::write_student(const std::string& folder) {
  if (s_.student.trains == RecipeTrains::lora)
    save_adapter(*student_, join_path(folder, "adapter"),
                 {.base_model_name_or_path = packed_.empty() ? s_.models.student_path() : path("base")});
  else
    student_->save_pretrained(join_path(folder, "model"),
                              {.dtype = s_.student.rounded ? "float32" : ""});  // 16 bits would round the codes' values
}

/// Rounds the adapter into the codes: not the function that was trained, so its loss is measured and told.
template <class D, class T>
void Session<D, T>::write_merged(RecipeResult& result) {
  const double trained = result.rows.back().forward_kl;
  const QuantizeReport report = merge_into_codes(*student_);
  const EvaluationRow row = measure("merged", *student_);
  student_->save_pretrained(path("model"), {.dtype = "float32"});
  const std::string text =
      concat("held-out forward KL ", detail::number_text("%.4f", trained), " -> ",
             detail::number_text("%.4f", row.forward_kl), ", top-1 agreement ",
             detail::number_text("%.3f", result.rows.back().top1), " -> ", detail::number_text("%.3f", row.top1),
             ", relative error of the sum ", detail::number_text("%.4f", report.relative_error));
  note(concat("warning: model/ holds weights and adapter rounded together, which is not what was trained: ", text,
              "; --train qat_lora trains what is exported"));
  result.facts.emplace_back("model/, adapter rounded into the codes", text);
}

/// What was trained as one file: codes and adapter become values, which the file holds in 16 bits. Answers notes.
template <class D, class T>
std::vector<std::string> Session<D, T>::write_gguf() {
  const bool lora = s_.student.trains == RecipeTrains::lora;
  const std::string weights = !lora ? path("model") : s_.student.rounded ? path("base") : s_.models.student_path();
  if (lora && s_.student.rounded && packed_.empty())
    return {"model.gguf is not written: its weights would come from base/, which is not there"};
  Model merged = Model::from_pretrained(weights, {.trainable = false});
  std::vector<std::string> notes;
  if (lora) {
    decode_linear(merged);
    notes = apply_adapter(merged, path("adapter"));
  }
  std::optional<Tokenizer> tokenizer = find_model_tokenizer(s_.models.student_path());
  if (tokenizer && !has_gguf_form(*tokenizer)) {
    notes.emplace_back(
        "model.gguf has no tokenizer: the format wants the scores of SentencePiece's BPE, which tokenizer.json lacks");
    tokenizer.reset();
  }
  const std::vector<std::string> more = save_gguf(merged, tokenizer ? &*tokenizer : nullptr, path("model.gguf"));
  notes.insert(notes.end(), more.begin(), more.end());
  return notes;
}

template <class D, class T>
RecipeResult Session<D, T>::finish(const RunResult& run) {
  enter(SessionPhase::finishing);
  RecipeResult result = before_;
  result.steps = run.step;
  result.seconds = run.seconds;
  result.best_step = run.best_step;
  result.rows.push_back(last_ && last_step_ == run.student_step ? *last_ : measure("distilled", *student_));
  result.rows.back().model = "distilled";
  add_answers(result, "distilled", *student_);
  add_token_maps(result, "distilled");
  add_facts(result, run);
  const bool lora = s_.student.trains == RecipeTrains::lora, codes = s_.student.rounded;
  const std::vector<std::string> exports = exported_names(s_);
  folder_.outputs().claim(exports);
  write_student(folder_.path());
  if (!lora) write_tokenizer("model");
  if (!lora && codes) packed_ = write_codes("packed", false);
  if (codes)
    result.facts.emplace_back(lora ? "base/, the student's codes" : "packed/, the student's codes",
                              packed_.empty() ? "not written" : packed_);
  if (s_.student.merge) write_merged(result);
  if (s_.output.gguf)
    for (const std::string& text : write_gguf()) note(text);
  folder_.outputs().record(exports);
  folder_.outputs().claim({"result.json"});
  write_file_atomically(path("result.json"), result_json(result));
  note(concat("wrote ", path(lora ? "adapter" : "model"), ", ",
              packed_.empty() ? "" : path(lora ? "base" : "packed") + ", ", path("metrics.jsonl"), ", ",
              path("result.json")));
  events_.on_result(result);
  return result;
}

KDLIB_NAMESPACE_END

#endif
