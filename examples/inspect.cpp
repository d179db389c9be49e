// SPDX-License-Identifier: Apache-2.0
// inspect: what a model directory, GGUF file, safetensors file or adapter holds, with problems named.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/io/seed_file.hpp>
#include <kdlib/model/adapter.hpp>
#include <kdlib/quant/gguf_blocks.hpp>
#include <kdlib/tools/model_files.hpp>
#include <kdlib/tools/model_folders.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/run_export.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>

#include "inspect_findings.hpp"

namespace kd = kdlib;
using namespace inspect_program;

namespace {

/// Runs one part; what it throws is a problem, and the rest goes on.
template <class F>
void guarded(Findings& found, F&& part) {
  try {
    part();
  } catch (const kd::Error& error) {
    found.problems.emplace_back(error.what());
  }
}

std::string text_of(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}
std::string text_of(const kd::Json& value) {
  if (value.is_string()) return std::string(value.as_string());
  if (value.is_bool()) return value.as_bool() ? "true" : "false";
  if (value.is_integer()) return kd::concat(value.as_int());
  if (value.is_number()) return text_of(value.as_double());
  std::string out;
  if (value.is_array())
    for (const kd::Json& element : value) out += (out.empty() ? "" : " ") + text_of(element);
  return out;
}

std::string joined(const std::vector<std::int32_t>& ids) {
  std::string out;
  for (const std::int32_t id : ids) out += kd::concat(out.empty() ? "" : " ", id);
  return out.empty() ? "none" : out;
}

void inspect_config(Findings& found, const kd::DecoderConfig& c) {
  const char* group = "architecture";
  found.add(group, "family", kd::family_name(c.family));
  found.add(group, "parameters", kd::concat(c.parameter_count()));
  if (c.mixtures() > 0) {
    found.add(group, "active parameters", kd::concat(c.active_parameter_count(), " a token"));
    found.add(
        group, "experts",
        kd::concat(c.moe.experts, " of width ", c.moe.intermediate, ", ", c.moe.active, " active, in ", c.mixtures(),
                   " of ", c.layers, " layers",
                   c.moe.shared > 0 ? kd::concat(", beside a shared one of width ", c.moe.shared) : std::string()));
  }
  found.add(group, "layers", kd::concat(c.layers));
  found.add(group, "hidden size", kd::concat(c.hidden_size));
  found.add(group, "intermediate size", kd::concat(c.intermediate_size));
  found.add(group, "heads", kd::concat(c.query_heads, " query, ", c.kv_heads, " key/value, of ", c.head_size));
  found.add(group, "vocabulary", kd::concat(c.vocab_size, c.tied_head ? ", head tied to the embedding" : ""));
  found.add(group, "context", kd::concat(c.context_length, " tokens"));
  std::int64_t windows = 0, widest = 0;
  for (const std::int64_t w : c.windows) windows += w > 0, widest = std::max(widest, w);
  if (windows > 0)
    found.add(group, "sliding windows", kd::concat(widest, " keys in ", windows, " of ", c.layers, " layers"));
  const char* const scalings[] = {"none", "linear", "llama3", "yarn"};
  found.add(
      group, "rope",
      kd::concat("theta ", text_of(c.rope.theta), ", scaling ", scalings[static_cast<int>(c.rope.kind)],
                 c.rope.kind == kd::RopeScalingKind::none ? std::string() : kd::concat(" by ", text_of(c.rope.factor)),
                 c.rope.divisors.empty() ? "" : ", divisors of its own"));
  found.add(group, "end ids", joined(c.eos_ids));
  if (c.source_json.empty()) return;
  if (const auto packed = kd::Json::parse(c.source_json, "config.json").find_set("quantization_config"))
    found.add(group, "packed",
              kd::concat(c.mixtures() > 0 ? "experts" : "linear maps", ", in the form of ",
                         packed->string_or("quant_method", "?")));
}

void inspect_tokenizer(Findings& found, const kd::Tokenizer& tokenizer, std::int64_t vocabulary) {
  const char* group = "tokenizer";
  found.add(group, "ids",
            kd::concat(tokenizer.vocab_size(), ", ", tokenizer.merge_count(), " merges, ",
                       tokenizer.added_tokens().size(), " added tokens"));
  found.add(group, "end ids", joined(tokenizer.stop_ids()));
  found.add(group, "normalised", tokenizer.normalizes_nfc() ? "NFC" : "no");
  if (tokenizer.chat_template().empty() && tokenizer.named_chat_templates().empty())
    found.add(group, "chat template", "none");
  else
    guarded(found, [&] {
      (void)kd::ChatTemplate::of(tokenizer);
      std::string names = tokenizer.chat_template().empty() ? "" : "default";
      for (const auto& [name, text] : tokenizer.named_chat_templates())
        names += kd::concat(names.empty() ? "" : ", ", kd::printable(name));
      found.add(group, "chat template", kd::concat("Jinja: ", names));
    });
  if (vocabulary <= 0) return;
  guarded(found, [&] { kd::check_tokenizer_fits(tokenizer, vocabulary); });
  for (std::string& note : kd::end_token_notes(tokenizer, vocabulary)) found.notes.push_back(std::move(note));
}

/// "[3, 17]" of an element in row-major order.
std::string index_text(std::uint64_t at, const std::vector<std::uint64_t>& extents) {
  std::string text;
  for (std::size_t i = extents.size(); i-- > 0; at /= extents[i])
    text = kd::concat(at % extents[i], text.empty() ? "" : ", ", text);
  return "[" + text + "]";
}

/// Names the first elements that are NaN or infinite, and their number.
void find_bad(Findings& found, const std::string& file, const std::string& name,
              const std::vector<std::uint64_t>& extents, const std::vector<float>& values) {
  constexpr std::uint64_t named = 8;
  std::uint64_t bad = 0;
  std::string places;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    if (bad++ < named) places += kd::concat(bad == 1 ? "" : ", ", index_text(i, extents), " ", values[i]);
  }
  if (bad > 0)
    found.problems.push_back(kd::concat(file, ": tensor \"", name, "\" holds ", bad,
                                        bad == 1 ? " value that is" : " values that are", " not finite: ", places,
                                        bad > named ? ", ..." : ""));
}

/// What the loader would do with each tensor, and what it refuses.
template <class Config>
void inspect_plan(Findings& found, Config&& config) {
  guarded(found, [&] {
    const kd::LoadPlan plan = kd::plan_load<kd::Cpu, float>(found.path);
    config(plan.config);
    if (plan.random_seed) found.add("weights", "random", kd::concat("numbers of seed ", *plan.random_seed));
    const auto target = [&](const std::string& name) -> std::string& {
      return std::find_if(found.tensors.begin(), found.tensors.end(),
                          [&](const TensorRow& t) { return t.name == name; })
          ->target;
    };
    for (const kd::PlannedWeight& w : plan.weights)
      for (const kd::PlannedTensor& t : w.tensors) target(t.name) = kd::concat(w.name, ", ", t.text(w.row_count()));
    for (const kd::IgnoredTensor& t : plan.ignored) target(t.name) = kd::concat("ignored: ", t.reason);
    for (const std::string& note : plan.notes)
      if (std::find(found.notes.begin(), found.notes.end(), note) == found.notes.end()) found.notes.push_back(note);
    for (const kd::LoadProblem& problem : plan.problems) found.problems.push_back(problem.text);
  });
}

void inspect_gguf(Findings& found, bool check) {
  const kd::GgufFile file(found.path);
  const std::vector<std::string> parts = file.paths();
  for (std::size_t i = 0; parts.size() > 1 && i < parts.size(); ++i) {
    const auto held = std::count_if(file.tensors().begin(), file.tensors().end(),
                                    [&](const kd::GgufTensor& t) { return t.part == i; });
    found.add("files", parts[i], kd::concat(held, " tensors"));
  }
  for (const kd::GgufValue& v : file.metadata()) {
    using Kind = kd::GgufValue::Kind;
    std::string text;
    if (v.is_array()) text = kd::concat(v.size(), " elements");
    else if (v.kind() == Kind::string)
      text = std::string(kd::whole_characters(v.as_string(), 80)) + (v.as_string().size() > 80 ? " ..." : "");
    else if (v.kind() == Kind::boolean) text = v.as_bool() ? "true" : "false";
    else if (v.kind() == Kind::f32 || v.kind() == Kind::f64) text = text_of(v.as_double());
    else if (v.kind() == Kind::u64) text = kd::concat(v.as_uint());
    else text = kd::concat(v.as_int());
    std::replace(text.begin(), text.end(), '\n', ' ');
    found.add("metadata", std::string(v.key()), text);
  }
  for (const kd::GgufTensor& t : file.tensors()) {
    found.tensors.push_back({t.name, kd::gguf_type_name(t.type), t.shape.text(), "",
                             static_cast<std::uint64_t>(t.shape.count()), t.data.size()});
    std::vector<std::uint64_t> extents;
    for (int i = 0; i < t.shape.rank(); ++i) extents.push_back(static_cast<std::uint64_t>(t.shape[i]));
    if (check) guarded(found, [&] { find_bad(found, file.path_of(t), t.name, extents, kd::decode_tensor<float>(t)); });
  }
  if (file.string_or("general.type", "model") == "adapter") return;  // it belongs to a model that is not here
  std::int64_t vocabulary = 0;
  inspect_plan(found, [&](const kd::DecoderConfig& config) {
    vocabulary = config.vocab_size;
    inspect_config(found, config);
  });
  if (file.find("tokenizer.ggml.tokens") != nullptr)
    guarded(found, [&] { inspect_tokenizer(found, kd::Tokenizer::from_gguf(file), vocabulary); });
  else found.add("tokenizer", "state", "none in the file");
}

void inspect_safetensors(Findings& found, const std::string& path, bool check) {
  const kd::SafetensorsDirectory files(path);
  found.notes.insert(found.notes.end(), files.warnings().begin(), files.warnings().end());
  for (const kd::SafetensorsFile& file : files.files())
    found.add("files", file.path(), kd::concat(file.tensors().size(), " tensors"));
  for (const kd::TensorInfo* t : files.tensors()) {
    std::string shape = "[";
    for (std::size_t i = 0; i < t->extents.size(); ++i) shape += kd::concat(i == 0 ? "" : ", ", t->extents[i]);
    found.tensors.push_back({t->name, kd::dtype_name(t->dtype), shape + "]", "", t->count(), t->data.size()});
    const bool numbers = t->dtype == kd::DType::f16 || t->dtype == kd::DType::bf16 || t->dtype == kd::DType::f32 ||
                         t->dtype == kd::DType::f64;
    if (check && numbers)
      guarded(found, [&] { find_bad(found, *t->file, t->name, t->extents, kd::read_as<float>(*t)); });
  }
}

void inspect_directory(Findings& found, bool check) {
  const auto inside = [&](const char* name) { return kd::join_path(found.path, name); };
  if (kd::path_exists(inside("adapter_config.json"))) {
    found.kind = "PEFT adapter";
    guarded(found, [&] {
      const kd::Json json = kd::Json::parse_file(inside("adapter_config.json"));
      for (const char* key : {"peft_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora", "target_modules",
                              "use_dora", "bias"})
        if (const auto value = json.find_set(key)) found.add("adapter", key, text_of(*value));
    });
    guarded(found, [&] { inspect_safetensors(found, inside("adapter_model.safetensors"), check); });
    return;
  }
  found.kind = "Hugging Face directory";
  std::int64_t vocabulary = 0;
  found.random = kd::path_exists(inside(kd::detail::random_weights_file));
  if (!found.random) guarded(found, [&] { inspect_safetensors(found, found.path, check); });
  inspect_plan(found, [&](const kd::DecoderConfig& config) {
    vocabulary = config.vocab_size;
    inspect_config(found, config);
  });
  if (kd::path_exists(inside("tokenizer.json")) || kd::path_exists(inside("tokenizer.model")))
    guarded(found, [&] { inspect_tokenizer(found, kd::Tokenizer::from_pretrained(found.path), vocabulary); });
  else found.add("tokenizer", "state", "no tokenizer.json and no tokenizer.model");
}

/// Loads the model: packed codes are read and compared with what they say of themselves. `adapter`: of a run, or empty.
void check_model(Findings& found, const std::string& adapter) {
  guarded(found, [&] {
    auto model = kd::Decoder<kd::Cpu, float>::from_pretrained(
        found.path, {.trainable = false, .weights = kd::WeightStorage::in_file});
    if (adapter.empty()) return;
    for (std::string& note : kd::load_adapter(model, adapter)) found.notes.push_back(std::move(note));
  });
}

/// What the adapter of a run adds to what is told of its model.
void inspect_run_adapter(Findings& found, const std::string& adapter, bool check) {
  Findings own;
  own.path = adapter;
  inspect_directory(own, check);
  for (Fact& f : own.facts)
    if (f.group == "adapter") found.facts.push_back(std::move(f));
  std::move(own.tensors.begin(), own.tensors.end(), std::back_inserter(found.tensors));
  std::move(own.notes.begin(), own.notes.end(), std::back_inserter(found.notes));
  std::move(own.problems.begin(), own.problems.end(), std::back_inserter(found.problems));
}

int export_metrics(const std::string& run, const std::string& to, const std::string& out, const std::string& id) {
  const kd::RunExportForm form = to == "tensorboard" ? kd::RunExportForm::tensorboard
                                 : to == "csv"       ? kd::RunExportForm::csv
                                                     : kd::RunExportForm::mlflow;
  const kd::RunExportResult done = kd::export_run(run, form, out, id);
  std::printf("%lld steps, %lld values in %s", static_cast<long long>(done.steps), static_cast<long long>(done.values),
              done.path.c_str());
  if (done.files > 1) std::printf(" and %lld files more", static_cast<long long>(done.files - 1));
  if (done.not_finite > 0) std::printf("; left out: %lld that are not finite", static_cast<long long>(done.not_finite));
  std::printf("\n");
  return kd::finish(0);
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Findings found;
  bool tensors = false, check = false, json = false;
  std::string to = "none", out, run_id;
  kd::Options options{"inspect",
                      "Prints what a model directory, GGUF file, safetensors file or PEFT adapter holds; with --to, "
                      "writes the metrics of a run of distil for other tools. Exit status 1 where something is wrong."};
  options.positional("model", found.path, "directory, .gguf or .safetensors file, or the folder of a run")
      .add("tensors", tensors, "list every tensor and which parameter the loader makes of it")
      .add("check", check, "read every value: names those that are not finite, and loads packed codes")
      .add("json", json, "one JSON object")
      .group("A run's metrics for other tools")
      .add(
          "to", to, "FORM",
          "tensorboard: an event file; csv: a row a step, a column a metric; mlflow: bodies of runs/log-batch for curl")
      .choices({"none", "tensorboard", "csv", "mlflow"})
      .add("out", out, "DIR", "where --to writes")
      .add("run-id", run_id, "ID", "--to mlflow: the run of MLflow that takes the metrics");
  options.parse(argc, argv);
  const bool exports = to != "none";
  options.check_needs({{{"tensors", "check", "json"}, !exports, "--to prints nothing of a model"},
                       {{"out"}, exports, "nothing is written without --to"},
                       {{"run-id"}, to == "mlflow", "it belongs to --to mlflow"}});
  if (exports) {
    kd::require<kd::UsageError>(!out.empty(), "[inspect] --to ", to, " needs --out DIR");
    kd::require<kd::UsageError>(to != "mlflow" || !run_id.empty(), "[inspect] --to mlflow needs --run-id ID: MLflow's ",
                                "answer to runs/create");
    return export_metrics(found.path, to, out, run_id);
  }
  kd::require<kd::IoError>(kd::path_exists(found.path), "[inspect] ", found.path,
                           " is not there: give a Hugging Face directory, a GGUF or safetensors file, or an adapter");
  const kd::ModelPlace place = kd::find_model(found.path);
  if (place.model != found.path) {
    found.add("run", "folder", found.path);
    if (!place.adapter.empty()) found.add("run", "adapter", place.adapter);
    found.path = place.model;
  }
  const bool single = found.path.size() > 12 && found.path.ends_with(".safetensors");
  if (kd::is_directory(found.path)) inspect_directory(found, check);
  else if (single) {
    found.kind = "safetensors file";
    inspect_safetensors(found, found.path, check);
  } else {
    found.kind = "GGUF file";
    inspect_gguf(found, check);
  }
  if (!place.adapter.empty()) inspect_run_adapter(found, place.adapter, check);
  if (check && !single && !found.random && found.kind != "PEFT adapter" && found.problems.empty())
    check_model(found, place.adapter);
  (json ? print_json : print_text)(found, tensors);
  return kd::finish(found.problems.empty() ? 0 : 1);
} catch (const std::exception& error) {
  return kd::report(error);
}
