// SPDX-License-Identifier: Apache-2.0
// generate: continuations of prompts by a model, with the speed of reading prompts and of decoding.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/recipe/model_files.hpp>
#include <kdlib/rollout/tool_turns.hpp>
#include <kdlib/tools/model_options.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/progress.hpp>

namespace kd = kdlib;

namespace {

struct Settings {
  kd::ModelOptions model;
  std::string prompt, prompts, chat_template, cuda_graphs = "auto";
  bool chat = false, ids = false, json = false, batch_invariant = false;
  double temperature = 1, top_p = 1, min_p = 0;
  std::int64_t top_k = 0, max_new_tokens = 112, batch = 16, tool_rounds = 4, tool_tokens = 256;
  std::vector<std::string> tools;
  int threads = 0;
  std::uint64_t seed = 1;
};

kd::Options make_options(Settings& s) {
  kd::Options options{"generate",
                      "Writes text after prompts, in the order of the prompts, on stdout; speeds go to stderr."};
  kd::Options& model = options.group("Model");
  s.model.add_to(model);
  kd::add_type_options(model, s.model.device, s.model.dtype);
  options.group("Prompts")
      .add("prompt", s.prompt, "TEXT", "one prompt: plain text to continue, or with --chat a user's turn")
      .add("prompts", s.prompts, "FILE",
           "lines {\"prompt\": ...}, {\"messages\": [...]} or {\"prompt_ids\": [...]}; without --chat a \"prompt\" is "
           "plain text to continue, as with distil's --raw")
      .add("chat", s.chat,
           "a prompt is a user's turn of the model's chat template (no system turn is added); without it plain text to "
           "continue");
  kd::add_template_option(options, s.chat_template);
  options.group("Tools")
      .add("tools", s.tools, "LIST",
           "what answers calls of tools, and is told to the chat template where a line has no tools: calculator, or "
           "files of canned answers (docs/formats.md)")
      .add("tool-rounds", s.tool_rounds, "N", "turns of a text whose calls are answered")
      .at_least(1)
      .add("tool-tokens", s.tool_tokens, "N", "longest answer of a tool; a longer one is cut", "tokens")
      .at_least(1);
  options.group("Sampling")
      .add("max-new-tokens", s.max_new_tokens, "N", "longest text", "tokens")
      .at_least(1)
      .add("temperature", s.temperature, "T", "0 takes the most probable token")
      .at_least(0)
      .add("top-k", s.top_k, "K", "keep the K most probable tokens; 0: all")
      .at_least(0)
      .add("top-p", s.top_p, "P", "keep the most probable tokens of mass P")
      .above(0)
      .at_most(1)
      .add("min-p", s.min_p, "P", "keep tokens of at least P times the largest probability")
      .at_least(0)
      .at_most(1)
      .add("batch", s.batch, "N", "sequences decoded together")
      .at_least(1)
      .add("batch-invariant", s.batch_invariant,
           "texts and log-probabilities do not depend on --batch or on other prompts, to the last bit; slower")
      .add("cuda-graphs", s.cuda_graphs, "WHEN",
           "a step of decoding is recorded once and launched as one graph: auto (where the model allows it), on (an "
           "error where not) or off")
      .choices({"auto", "on", "off"});
  options.group("Output")
      .add("ids", s.ids, "print token ids instead of text")
      .add("json", s.json,
           "one JSON object a prompt: prompt_ids, ids, log_probs (as drawn), full_log_probs (whole softmax), stopped, "
           "text; with --tools also given: 1 where an id is a tool's answer or stands around it");
  return options.common(s.threads, s.seed);
}

std::vector<kd::TextLine> read_prompts(const Settings& s, const kd::Tokenizer* tokenizer,
                                       const kd::DecoderConfig& config, const kd::ToolHost* tools) {
  const kd::TextSettings text{.chat = s.chat,
                              .tools = tools != nullptr ? tools->tools() : std::vector<std::string>(),
                              .keep_chats = tools != nullptr,
                              .chat_template = s.chat_template,
                              .context_length = config.context_length,
                              .vocabulary = config.vocab_size};
  if (!s.prompts.empty()) {
    kd::TextCounts counts;
    std::vector<kd::TextLine> lines = kd::read_text_lines(s.prompts, tokenizer, text, &counts);
    kd::check_template_is_read("generate", s.chat_template, counts.turns, s.prompts);
    return lines;
  }
  kd::JsonWriter line;
  line.begin_object().member("prompt", s.prompt).end_object();
  return {kd::TextLineReader("", tokenizer, text).line(kd::Json::parse(line.text(), "--prompt"), "--prompt")};
}

template <class Model>
std::vector<kd::Completion> write(Model& model, const std::vector<kd::TextLine>& prompts, const kd::Sampler& sampler,
                                  const Settings& s, const kd::ToolTurns* tools) {
  std::vector<kd::WritingRequest> requests;
  for (const kd::TextLine& line : prompts) {
    kd::require<kd::InputError>(line.kind == kd::TextLineKind::prompt, "[generate] ", line.source,
                                " has its answer already: remove the assistant's last turn");
    requests.push_back({line.ids, 0, static_cast<std::uint32_t>(requests.size()), line.source});
  }
  kd::Progress progress;
  kd::GenerationProgress end;
  kd::GenerateSettings how{.batch = s.batch};
  if (s.cuda_graphs == "on") how.graphs = kd::GraphUse::on;
  if (s.cuda_graphs == "off") how.graphs = kd::GraphUse::off;
  if (tools != nullptr) {
    std::vector<std::shared_ptr<const kd::PromptChat>> chats;
    for (const kd::TextLine& line : prompts) chats.push_back(line.chat);
    how.reply = tools->replies(std::move(chats));
    how.reply_tokens = tools->reply_tokens();
  }
  how.progress = [&](const kd::GenerationProgress& p) {
    end = p;
    if (p.sequences > 1)
      progress.show(p.finished, p.sequences, p.prompt_seconds + p.decoding_seconds,
                    kd::concat(p.new_tokens, " tokens"));
  };
  std::vector<kd::Completion> texts = kd::generate(model, std::span<const kd::WritingRequest>(requests), sampler, how);
  progress.finish();
  const std::int64_t decoded = end.new_tokens - end.sequences;  // the first token of each text comes with its prompt
  std::fprintf(stderr, "prompt: %lld tokens, %.1f tokens/s; decoding: %lld tokens, %.1f tokens/s\n",
               static_cast<long long>(end.prompt_tokens),
               end.prompt_seconds > 0 ? static_cast<double>(end.prompt_tokens) / end.prompt_seconds : 0.0,
               static_cast<long long>(decoded),
               end.decoding_seconds > 0 ? static_cast<double>(decoded) / end.decoding_seconds : 0.0);
  return texts;
}

std::string answer(const Settings& s, const kd::TextLine& prompt, const kd::Completion& text,
                   const kd::Tokenizer* tokenizer) {
  if (!s.json && !s.ids && tokenizer != nullptr) return tokenizer->decode(text.ids, true);
  kd::JsonWriter out;
  if (!s.json) return out.value(text.ids).text();
  out.begin_object()
      .member("prompt_ids", prompt.ids)
      .member("ids", text.ids)
      .member("log_probs", text.log_probs)
      .member("full_log_probs", text.full_log_probs)
      .member("stopped", text.stopped);
  if (!text.given.empty()) out.member("given", text.given);
  if (tokenizer != nullptr && !s.ids) out.member("text", tokenizer->decode(text.ids, true));
  return out.end_object().text();
}

template <class Model>
void run(const Settings& s) {
  kd::start_threads(s.threads);
  const auto tokenizer = kd::find_model_tokenizer(s.model.model);
  auto model = kd::load_model<Model>(s.model, tokenizer);
  const kd::Tokenizer* text = tokenizer ? &*tokenizer : nullptr;
  std::shared_ptr<kd::ToolHost> host;
  if (!s.tools.empty()) {
    kd::require<kd::ConfigError>(text != nullptr, "[generate] --tools needs a tokenizer, and ", s.model.model,
                                 " has none");
    host = kd::make_tool_host(s.tools);
  }
  const std::vector<kd::TextLine> prompts = read_prompts(s, text, model.config(), host.get());
  kd::Sampler sampler{.temperature = s.temperature,
                      .top_k = s.top_k,
                      .top_p = s.top_p,
                      .min_p = s.min_p,
                      .max_new_tokens = s.max_new_tokens,
                      .seed = s.seed};
  sampler.stop_ids = kd::stop_ids_of(s.model.model, tokenizer, model.config().eos_ids);
  std::optional<kd::ToolTurns> turns;
  if (host)
    turns.emplace(*text, host, sampler.stop_ids,
                  kd::ToolLimits{.rounds = s.tool_rounds, .answer_tokens = s.tool_tokens});
  const std::vector<kd::Completion> texts = write(model, prompts, sampler, s, turns ? &*turns : nullptr);
  for (std::size_t i = 0; i < texts.size(); ++i) std::printf("%s\n", answer(s, prompts[i], texts[i], text).c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  Settings s;
  kd::Options options = make_options(s);
  options.parse(argc, argv);
  kd::require<kd::UsageError>(options.given("prompt") != options.given("prompts"),
                              "give either --prompt TEXT or --prompts FILE");
  kd::require<kd::UsageError>(s.tools.empty() || s.chat || !s.prompts.empty(),
                              "--tools needs conversations: give --chat or --prompts with {\"messages\": ...}");
  options.check_needs(
      {{{"template"}, s.chat || !s.prompts.empty(), "--prompt is plain text without --chat"},
       {{"top-k", "top-p", "min-p"}, s.temperature > 0, "--temperature 0 takes the most probable token"},
       {{"batch"}, !s.prompts.empty(), "there is one prompt"},
       {{"batch-invariant"}, s.model.device == "cpu", "products of --device cuda have no such form yet"},
       {{"cuda-graphs"}, s.model.device == "cuda", "--device cpu has no graphs"},
       {{"tool-rounds", "tool-tokens"}, !s.tools.empty(), "it belongs to --tools"}});
  s.model.resolve(options);
  kd::require_model_path(s.model.model);
  if (!s.prompts.empty()) kd::require_given_file("[generate] --prompts", s.prompts, "a file of JSON lines");
  kd::set_batch_invariant(s.batch_invariant);
  kd::with_model_type("generate", s.model.device, s.model.dtype,
                      [&]<class Model>(std::type_identity<Model>) { run<Model>(s); });
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
