// SPDX-License-Identifier: Apache-2.0
// Bodies of choice_tasks.hpp: one reader a task.
#ifndef KDLIB_TOOLS_CHOICE_TASKS_INL_HPP
#define KDLIB_TOOLS_CHOICE_TASKS_INL_HPP

#include <algorithm>
#include <map>

#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/tools/choice_tasks.hpp"
#include "kdlib/tools/task_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A line as its task defines it: what is asked, and what a solved example looks like.
struct ChoiceLine {
  ChoiceDocument document;
  std::string example;      // question and right answer
  std::string description;  // opens the context
};

KDLIB_TOOLS_FUNC void add_choice(ChoiceDocument& d, std::string context, std::string_view choice) {
  d.contexts.push_back(std::move(context));
  d.continuations.push_back(" " + std::string(choice));
  d.key.lengths.push_back(count_characters(choice));
}

/// An index that may be written as a number or as text.
KDLIB_TOOLS_FUNC std::int64_t choice_index(const Json& value, std::int64_t count) {
  std::int64_t index = -1;
  if (value.is_integer()) {
    index = value.as_int();
  } else {
    const std::string_view text = value.as_string();
    if (text.empty()) value.refuse("is empty: this split has no answers, use the validation split");
    if (text.size() == 1 && text[0] >= '0' && text[0] <= '9') index = text[0] - '0';
  }
  if (index < 0 || index >= count) value.refuse(concat("is not the index of one of ", count, " choices"));
  return index;
}

KDLIB_TOOLS_FUNC ChoiceLine hellaswag_line(const Json& json) {
  ChoiceLine line;
  const std::string ctx = concat(json.at("activity_label").as_string(), ": ", json.at("ctx_a").as_string(), " ",
                                 capitalize(json.at("ctx_b").as_string()));
  const std::string query = hellaswag_text(ctx);
  std::vector<std::string> endings;
  for (const Json& ending : json.at("endings")) endings.push_back(hellaswag_text(ending.as_string()));
  for (const std::string& ending : endings) add_choice(line.document, query, ending);
  line.document.key.gold = choice_index(json.at("label"), static_cast<std::int64_t>(endings.size()));
  line.example = query + " " + endings[static_cast<std::size_t>(line.document.key.gold)];
  return line;
}

KDLIB_TOOLS_FUNC ChoiceLine arc_line(const Json& json) {
  ChoiceLine line;
  const std::string query = concat("Question: ", json.at("question").as_string(), "\nAnswer:");
  const Json labels = json.at("choices").at("label"), texts = json.at("choices").at("text"),
             answer = json.at("answerKey");
  if (labels.size() != texts.size())
    labels.refuse(concat("has ", labels.size(), " entries, choices.text has ", texts.size()));
  std::optional<std::size_t> gold;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    add_choice(line.document, query, texts[i].as_string());
    if (!gold && labels[i].as_string() == answer.as_string()) gold = i;
  }
  if (!gold) answer.refuse("is not one of choices.label");
  line.document.key.gold = static_cast<std::int64_t>(*gold);
  line.example = concat(query, " ", texts[*gold].as_string());
  return line;
}

/// The options stand in the context; the same rest of the sentence is scored behind each.
KDLIB_TOOLS_FUNC ChoiceLine winogrande_line(const Json& json) {
  ChoiceLine line;
  const Json sentence = json.at("sentence");
  const std::string_view text = sentence.as_string();
  const std::size_t blank = text.find('_');
  if (blank == std::string_view::npos) sentence.refuse("has no blank _");
  const std::string_view rest = strip(text.substr(blank + 1));
  for (const char* option : {"option1", "option2"}) {
    add_choice(line.document, concat(text.substr(0, blank), json.at(option).as_string()), rest);
    line.document.key.lengths.back() =
        count_characters(line.document.contexts.back());  // the harness's "choices" are the contexts
  }
  const Json answer = json.at("answer");
  if (answer.as_string() != "1" && answer.as_string() != "2")
    answer.refuse("must be \"1\" or \"2\" (the test split has no answers)");
  line.document.key.gold = answer.as_string() == "1" ? 0 : 1;
  line.example = concat(line.document.contexts[static_cast<std::size_t>(line.document.key.gold)], " ", rest);
  return line;
}

KDLIB_TOOLS_FUNC ChoiceLine mmlu_line(const Json& json) {
  ChoiceLine line;
  line.document.subject = json.at("subject").as_string();
  const Json choices = json.at("choices");
  if (choices.size() != 4) choices.refuse(concat("has ", choices.size(), " entries, 4 are needed"));
  std::string query(strip(json.at("question").as_string()));
  const std::string_view letters[] = {"A", "B", "C", "D"};
  for (std::size_t i = 0; i < 4; ++i) query += concat("\n", letters[i], ". ", choices[i].as_string());
  query += "\nAnswer:";
  for (const std::string_view letter : letters) add_choice(line.document, query, letter);
  line.document.key.gold = choice_index(json.at("answer"), 4);
  line.example = concat(query, " ", letters[line.document.key.gold]);
  line.description = concat("The following are multiple choice questions (with answers) about ",
                            replace_all(line.document.subject, "_", " "), ".\n\n");
  return line;
}

using ChoiceReader = ChoiceLine (*)(const Json&);
struct ChoiceRule {
  ChoiceReader read;
  bool normalised;
};
KDLIB_TOOLS_FUNC ChoiceRule choice_rule(const std::string& name) {
  if (name == "hellaswag") return {hellaswag_line, true};
  if (name == "arc_easy" || name == "arc_challenge") return {arc_line, true};
  if (name == "winogrande") return {winogrande_line, false};
  if (name == "mmlu") return {mmlu_line, false};
  fail<ConfigError>("[evaluate] there is no multiple-choice task ", name,
                    "; there are hellaswag, arc_easy, arc_challenge, winogrande and mmlu");
}

/// Solved examples, one text a subject ("" for tasks without).
KDLIB_TOOLS_FUNC std::map<std::string, std::vector<std::string>> read_examples(const std::string& path,
                                                                               ChoiceReader read) {
  require<IoError>(path_exists(path), "[evaluate] ", path,
                   " is not there: with --shots it holds the solved examples, in the format of the task");
  std::map<std::string, std::vector<std::string>> out;
  for (JsonlReader lines(path); const std::optional<Json> json = lines.next();) {
    const ChoiceLine line = read(*json);
    out[line.document.subject].push_back(line.example);
  }
  return out;
}

}  // namespace detail

KDLIB_TOOLS_FUNC const std::vector<std::string>& choice_task_names() {
  static const std::vector<std::string> names{"hellaswag", "arc_easy", "arc_challenge", "winogrande", "mmlu"};
  return names;
}

KDLIB_TOOLS_FUNC ChoiceTask read_choice_task(const std::string& name, const std::string& folder,
                                             const ChoiceTaskSettings& settings) {
  const detail::ChoiceRule rule = detail::choice_rule(name);
  const std::string path = join_path(folder, name + ".jsonl");
  require<IoError>(
      path_exists(path), "[evaluate] ", path,
      " is not there: write the task's documents to it, one JSON object a line with the data set's own fields");
  std::map<std::string, std::vector<std::string>> examples;
  if (settings.shots > 0) examples = detail::read_examples(join_path(folder, name + ".fewshot.jsonl"), rule.read);
  std::map<std::string, std::int64_t> taken;
  ChoiceTask task{name, rule.normalised, {}};
  for (JsonlReader lines(path); const std::optional<Json> json = lines.next();) {
    detail::ChoiceLine line = rule.read(*json);
    ChoiceDocument& d = line.document;
    if (settings.limit > 0 && ++taken[d.subject] > settings.limit) continue;
    d.source = lines.place();
    std::string front = line.description;
    const std::vector<std::string>& solved = examples[d.subject];
    require<InputError>(static_cast<std::int64_t>(solved.size()) >= settings.shots, "[evaluate] ", name,
                        ".fewshot.jsonl has ", solved.size(), " examples",
                        d.subject.empty() ? "" : " of subject " + d.subject, "; --shots asks for ", settings.shots);
    for (std::int64_t i = 0; i < settings.shots; ++i) front += solved[static_cast<std::size_t>(i)] + "\n\n";
    for (std::string& context : d.contexts) context = front + context;
    task.documents.push_back(std::move(d));
  }
  require<InputError>(!task.documents.empty(), "[evaluate] ", path, " holds no documents");
  return task;
}

KDLIB_TOOLS_FUNC void check_task_files(const std::vector<std::string>& tasks, const std::string& folder,
                                       const ChoiceTaskSettings& settings) {
  const std::vector<std::string>& choices = choice_task_names();
  for (const std::string& task : tasks) {
    if (std::find(choices.begin(), choices.end(), task) != choices.end()) {
      static_cast<void>(read_choice_task(task, folder, settings));
      continue;
    }
    const bool own = task == "perplexity" || task == "wikitext";
    const std::string path = join_path(folder, own ? task + ".jsonl" : std::string("held_out.jsonl"));
    require<IoError>(path_exists(path), "[evaluate] ", path, " is not there: --tasks ", task, " reads its text there");
  }
}

KDLIB_TOOLS_FUNC ScoredText encode_pair(const ScoringTokens& tokens, std::string context, std::string continuation) {
  const Tokenizer& t = *tokens.tokenizer;
  ScoredText out;
  if (context.empty()) {
    out.context = tokens.begin.empty() ? std::vector<std::int32_t>{tokens.first} : tokens.begin;
    out.continuation = t.encode(continuation);
    if (!out.continuation.empty() && out.continuation.front() == tokens.first)
      out.continuation.erase(out.continuation.begin());
    return out;
  }
  const std::size_t space = trailing_space(context);
  continuation.insert(0, context, context.size() - space);
  context.resize(context.size() - space);
  out.context = tokens.begin;
  t.encode_append(context, out.context);
  std::vector<std::int32_t> whole = tokens.begin;
  t.encode_append(context + continuation, whole);
  if (out.context.size() < whole.size())
    out.continuation.assign(whole.begin() + static_cast<std::ptrdiff_t>(out.context.size()), whole.end());
  return out;
}

KDLIB_TOOLS_FUNC std::vector<std::vector<ScoredText>> encode_choices(const ScoringTokens& tokens,
                                                                     const ChoiceTask& task) {
  std::vector<std::vector<ScoredText>> out;
  for (const ChoiceDocument& d : task.documents) {
    std::vector<ScoredText>& texts = out.emplace_back();
    for (std::size_t i = 0; i < d.contexts.size(); ++i) {
      texts.push_back(encode_pair(tokens, d.contexts[i], d.continuations[i]));
      require<InputError>(!texts.back().context.empty(), "[evaluate] ", d.source, ": the context of choice ", i,
                          " has no tokens");
    }
  }
  return out;
}

KDLIB_TOOLS_FUNC ChoiceScore ChoiceSummary::add(std::size_t i, std::span<const double> log_likelihoods) {
  const ChoiceDocument& d = task_->documents[i];
  const ChoiceScore score = score_choice(log_likelihoods, d.key);
  auto at = std::find_if(scores_.begin(), scores_.end(), [&d](const Scores& s) { return s.subject == d.subject; });
  if (at == scores_.end()) {
    scores_.push_back({d.subject, {}});
    at = scores_.end() - 1;
  }
  at->values[0].push_back(score.acc ? 1 : 0);
  at->values[1].push_back(score.acc_norm ? 1 : 0);
  return score;
}

KDLIB_TOOLS_FUNC MeanError ChoiceSummary::pooled(int which) const {
  std::vector<MeanError> parts;
  for (const Scores& s : scores_) parts.push_back(mean_and_error(s.values[which]));
  return parts.size() == 1 ? parts[0] : pool(parts);
}

KDLIB_NAMESPACE_END

#endif
