// SPDX-License-Identifier: Apache-2.0
// compress: a mixture of experts made small, its experts by a core that they share and low-rank factors of each. The
// result is a student for distil, and convert --materialise makes plain experts of it again.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/checkpoint/compress_model.hpp>
#include <kdlib/tools/model_files.hpp>
#include <kdlib/tools/model_folders.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/output_lock.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/progress.hpp>
#include <kdlib/tools/stop_signals.hpp>

#include <algorithm>
#include <cstdio>

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cpu, float>;

struct Command {
  std::string model, out, calibration, form = "wrappers", init = "als", align = "on", layers, chat_template;
  kd::CompressModelSettings settings{};
  std::int64_t rank = 0, tokens = 262144, max_length = 2048, refine = 0, steps = 1000;
  bool dry_run = false;
  int threads = 0;
  std::uint64_t seed = 1;
};

/// "3", "0-11".
void read_layers(const std::string& text, kd::CompressModelSettings& s) {
  const std::size_t dash = text.find('-');
  const std::string first = text.substr(0, dash), last = dash == std::string::npos ? first : text.substr(dash + 1);
  for (const std::string& part : {first, last})
    kd::require<kd::UsageError>(
        !part.empty() && part.size() < 6 && part.find_first_not_of("0123456789") == std::string::npos, "--layers is \"",
        text, "\"; it is A-B, as 0-11");
  s.first_layer = std::stoll(first);
  s.last_layer = std::stoll(last);
  kd::require<kd::UsageError>(s.first_layer <= s.last_layer, "--layers is \"", text, "\"; the first is above the last");
}

void add_options(kd::Options& o, Command& c) {
  kd::CompressModelSettings& s = c.settings;
  o.group("Model")
      .add("model", c.model, "MODEL",
           "mixture of experts (Qwen3-MoE, Qwen2-MoE): Hugging Face directory, GGUF file, or the folder of a finished "
           "run whose result is a model")
      .required()
      .add("out", c.out, "DIR", "folder of the compressed model; finished pieces lie below it and are kept")
      .required()
      .add("dtype", s.dtype, "TYPE", "float32, bfloat16 or float16; empty: as config.json says")
      .add("seed-config", s.plain_model_type,
           "config.json keeps the plain model_type beside compression_config, float16 unless --dtype says otherwise")
      .add("dry-run", c.dry_run, "say what would be made, how large it is and about how long it takes, and stop");
  o.group("Size")
      .add("form", c.form, "FORM", "wrappers: factors on both sides of the core; residual: factors beside it")
      .choices({"wrappers", "residual"})
      .add("rank", c.rank, "R",
           "of the factors (0: --share says it); a residual of twice the rank is as large as wrappers")
      .at_least(0)
      .add("share", s.share, "X", "of the experts' parameters that is kept, instead of --rank")
      .at_least(0)
      .at_most(1);
  o.group("Search")
      .add("init", c.init, "NAME", "als: alternating least squares; seed: mean core and Adam, for comparison")
      .choices({"als", "seed"})
      .add("rounds", s.search.rounds, "N", "als: of factors and core, at most")
      .at_least(1)
      .add("refine", c.refine, "N", "als: Adam's steps behind it")
      .at_least(0)
      .add("adam-steps", c.steps, "N", "seed: Adam's steps")
      .at_least(1)
      .add("align", c.align, "SWITCH", "permute the experts' neurons first so that experts look alike")
      .choices({"on", "off"})
      .add("layers", c.layers, "A-B", "make the pieces of these layers only: several processes share the work");
  o.group("Calibration")
      .add("calibration", c.calibration, "FILE",
           "text (JSON lines) that says how much each expert is used and what it reads; without it all weigh the same")
      .add("calibration-tokens", c.tokens, "N", "of the text that are used")
      .at_least(1)
      .add("max-length", c.max_length, "N", "longer text is cut", "tokens")
      .at_least(2)
      .add("template", c.chat_template, "NAME|FILE", "chat template for turns (default: the tokenizer's)")
      .add("batch", s.batch, "N", "texts of a forward pass")
      .at_least(1)
      .add("facts", s.facts, "DIR",
           "--out of another call with the same model, text and --align: its statistics and alignment are taken");
  o.group("General").common(c.threads, c.seed);
}

Command parse(int argc, char** argv) {
  Command c;
  kd::CompressModelSettings& s = c.settings;
  kd::Options o{"compress", "Makes a mixture of experts small: a shared core and low-rank factors for its experts."};
  add_options(o, c);
  o.parse(argc, argv);
  kd::require<kd::UsageError>(o.given("rank") != o.given("share"), "give --rank R or --share X",
                              o.given("rank") ? ", not both" : "");
  kd::require<kd::UsageError>(c.rank > 0 || s.share > 0, "--rank and --share must be above 0");
  o.check_needs({{{"rounds", "refine"}, c.init == "als", "it belongs to --init als"},
                 {{"adam-steps"}, c.init == "seed", "it belongs to --init seed"},
                 {{"calibration-tokens", "max-length", "template", "batch"},
                  !c.calibration.empty(),
                  "it belongs to --calibration"}});
  kd::require<kd::UsageError>(!kd::would_replace(c.out, c.model),
                              "--out is --model or lies in it: choose another folder");
  s.search.form = c.form == "wrappers" ? kd::CoreForm::wrappers : kd::CoreForm::residual;
  s.search.init = c.init == "als" ? kd::CoreInit::als : kd::CoreInit::adam;
  s.search.rank = c.rank;
  s.search.adam_steps = c.init == "als" ? c.refine : c.steps;
  s.search.seed = c.seed;
  s.align = c.align == "on";
  if (s.plain_model_type && s.dtype.empty()) s.dtype = "float16";
  if (!c.layers.empty()) read_layers(c.layers, s);
  c.model = kd::find_whole_model(c.model);
  kd::checking_settings([&s] {
    if (!s.dtype.empty()) kd::detail::check_saved_dtype(s.dtype, "[compress] --dtype: ");
  });
  return c;
}

/// Whole texts up to the number of tokens.
kd::TokenBatch read_calibration(const Command& c, const Model& model) {
  if (c.calibration.empty()) return {};
  const std::optional<kd::Tokenizer> tokenizer = kd::find_model_tokenizer(c.model);
  kd::TextSettings text{.chat_template = c.chat_template, .vocabulary = model.vocab_size()};
  text.context_length = c.max_length;
  if (model.config().context_length > 0) text.context_length = std::min(c.max_length, model.config().context_length);
  text.too_long = kd::TooLong::cut;
  const kd::TokenBatch all = kd::read_documents(c.calibration, tokenizer ? &*tokenizer : nullptr, text);
  std::int64_t count = 1;
  while (count < all.documents() && all.offsets[static_cast<std::size_t>(count + 1)] <= c.tokens) ++count;
  return all.part(0, count);
}

void print_plan(const Command& c, const kd::CompressPlan& p) {
  const double kept = static_cast<double>(p.kept_values) / static_cast<double>(p.plain_values);
  const bool wide = (c.settings.dtype.empty() ? p.plain.dtype : c.settings.dtype) == "float32";
  std::printf("%s: %s, %zu layers of %lld experts, %lld parameters\n", c.model.c_str(), kd::family_name(p.plain.family),
              p.layers.size(), static_cast<long long>(p.plain.moe.experts),
              static_cast<long long>(p.plain.parameter_count()));
  std::printf("%s: %s of rank %lld keep %.1f %% of the experts: %lld parameters, about %.1f MB\n", c.out.c_str(),
              c.form.c_str(), static_cast<long long>(p.rank), 100 * kept,
              static_cast<long long>(p.compressed.parameter_count()),
              static_cast<double>(p.compressed.parameter_count()) * (wide ? 4 : 2) / 1e6);
}

void print_report(const Command& c, const kd::CompressModelReport& r) {
  for (const kd::MapReport& m : r.maps)
    std::printf("layer %lld %s: J %.4f of the experts' squares\n", static_cast<long long>(m.layer),
                kd::setting_text(m.map).c_str(), m.relative);
  for (const kd::LayerReport& l : r.layers)
    if (l.output_error >= 0)
      std::printf("layer %lld: output error %.4f, %lld experts aligned\n", static_cast<long long>(l.layer),
                  l.output_error, static_cast<long long>(l.aligned));
  std::printf("%lld maps made now, %lld there before", static_cast<long long>(r.made), static_cast<long long>(r.kept));
  if (r.complete()) std::printf("; %s is complete\n", c.out.c_str());
  else std::printf("; %lld are missing (--layers of other calls)\n", static_cast<long long>(r.missing));
}

kd::DecoderConfig config_of(const std::string& path) {
  kd::require<kd::IoError>(kd::path_exists(path), "[compress] ", path,
                           " is not there: give a Hugging Face directory or a GGUF file");
  return kd::is_directory(path) ? kd::read_hf_config(path) : kd::gguf_config(kd::GgufFile(path));
}

void run(const Command& c) {
  kd::start_threads(c.threads);
  if (!c.calibration.empty()) kd::require_given_file("[compress] --calibration", c.calibration, "a file of JSON lines");
  const kd::CompressPlan plan = kd::plan_compression(config_of(c.model), c.settings, c.model);
  print_plan(c, plan);
  if (c.dry_run) {
    kd::CompressModelSettings probe = c.settings;
    probe.search.rank = plan.rank;
    probe.search.gemm = &kd::Kernels<kd::Cpu, double>::gemm;
    std::printf("the search takes about %.0f s%s; nothing was written\n", kd::search_seconds(plan, probe),
                c.calibration.empty() ? "" : ", the passes over the calibration text come on top");
    return;
  }
  Model model = Model::from_pretrained(c.model, {.trainable = false, .weights = kd::WeightStorage::in_file});
  kd::show_notes(model.notes());
  const kd::TokenBatch text = read_calibration(c, model);
  // Processes that share the work (--layers) write other files of one folder.
  std::optional<kd::OutputLock> lock;
  if (c.layers.empty()) lock.emplace(kd::OutputLock::folder(c.out, "[compress] "));
  kd::Progress progress;
  const kd::CompressModelReport report = kd::compress_model(
      model, c.out, c.settings, text,
      [&progress](const kd::CompressProgress& p) { progress.show(p.done, p.total, p.seconds, p.what); });
  progress.finish();
  kd::show_notes(report.notes);
  print_report(c, report);
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  const Command command = parse(argc, argv);
  const int stopped =
      kd::until_stopped([&command] { run(command); }, "stopped; finished maps are kept: the same command goes on");
  return stopped != 0 ? stopped : kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
