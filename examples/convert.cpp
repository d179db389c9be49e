// SPDX-License-Identifier: Apache-2.0
// convert: a model from one format into another, with an adapter merged or linear layers rounded on the way; or an
// adapter alone.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/checkpoint/gguf_save.hpp>
#include <kdlib/checkpoint/packed_save.hpp>
#include <kdlib/checkpoint/peft_apply.hpp>
#include <kdlib/model/materialise.hpp>
#include <kdlib/model/quantize.hpp>
#include <kdlib/model/upcycle.hpp>
#include <kdlib/text/tokenizer_writer.hpp>
#include <kdlib/tools/distil_options.hpp>
#include <kdlib/tools/model_files.hpp>
#include <kdlib/tools/model_folders.hpp>
#include <kdlib/tools/options.hpp>
#include <kdlib/tools/output_lock.hpp>
#include <kdlib/tools/process_start.hpp>

#include <cstdio>

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cpu, float>;

struct Settings {
  std::string model, adapter, to, out, type = "f16", dtype, name, shard = "5GB";
  kd::RoundingWords rounding{.kind = "none"};
  kd::QuantizeSettings format{};
  kd::UpcycleSettings mixture{.experts = 0};
  bool merge = false, materialise = false, packed = false, dry_run = false;
  int threads = 0;
  std::uint64_t seed = 0;
  bool adapter_alone() const { return !adapter.empty() && !merge; }
};

constexpr const char* model_files[] = {"config.json", "adapter_config.json", "tokenizer.json", "tokenizer.model",
                                       "generation_config.json"};

/// Options that exclude or need each other, and an output over an input.
void check(const Settings& s, const kd::Options& o) {
  const kd::RoundingWords& r = s.rounding;
  kd::require<kd::UsageError>(!s.merge || !s.adapter.empty(), "--merge needs --adapter PATH");
  kd::require<kd::UsageError>(
      !s.adapter_alone() || (!r.rounds() && !s.packed && !s.materialise && !o.given("max-shard-size")),
      "an adapter is written alone (--adapter without --merge): --quantize, --packed, --materialise and "
      "--max-shard-size are for models");
  kd::require<kd::UsageError>(!s.adapter_alone() || s.type == "f32" || s.type == "f16" || s.type == "bf16",
                              "--type of an adapter is f32, f16 or bf16");
  kd::require<kd::UsageError>(!o.given("type") || s.to == "gguf",
                              "--type belongs to --to gguf; --dtype sets the type of a Hugging Face directory");
  o.check_needs({{{"name"}, s.to == "gguf", "a Hugging Face directory has no general.name"}});
  o.check_needs(r.needs("--quantize KIND says what is rounded"));
  o.check_needs({{{"active", "expert-noise"}, s.mixture.experts > 0, "--upcycle E makes the experts"}});
  kd::require<kd::UsageError>(s.mixture.experts == 0 || (!r.rounds() && s.adapter.empty() && !s.materialise),
                              "--upcycle is alone: without --quantize, --adapter and --materialise");
  kd::require<kd::UsageError>(r.kind != "mxfp4" || !o.given("group-size") || s.format.group_size == 32,
                              "--quantize mxfp4 has groups of 32, not of --group-size ", s.format.group_size);
  kd::require<kd::UsageError>((!o.given("dtype") && !o.given("max-shard-size")) || s.to == "hf",
                              "--dtype and --max-shard-size belong to --to hf; --type sets the type of a GGUF file");
  kd::require<kd::UsageError>(!kd::would_replace(s.out, s.model),
                              "--out is --model or lies in it: choose another path");
  kd::require<kd::UsageError>(!kd::would_replace(s.out, s.adapter),
                              "--out is --adapter or lies in it: choose another path");
  // What is left of another model (its tokenizer, its shards) would become part of this one.
  for (const char* name : model_files)
    kd::require<kd::UsageError>(s.to != "hf" || s.dry_run || !kd::path_exists(kd::join_path(s.out, name)), "--out ",
                                s.out, " holds a model already (", name, "): remove it, or choose another path");
  kd::require<kd::UsageError>(
      !s.packed || (s.to == "hf" && r.rounds() && !s.merge),
      "--packed needs --to hf and --quantize KIND, and no --merge: an adapter on top of codes is no code");
}

Settings parse(int argc, char** argv) {
  Settings s;
  kd::RoundingWords& r = s.rounding;
  kd::Options o{"convert", "Writes a model as a Hugging Face directory or a GGUF file."};
  o.add("model", s.model, "MODEL", "Hugging Face directory, GGUF file, or the folder of a finished run of distil")
      .required()
      .add("adapter", s.adapter, "PATH",
           "adapter: PEFT's directory or llama.cpp's GGUF file; without --merge it is written alone")
      .add("merge", s.merge, "merge the adapter into the weights (any kind of LoRA that PEFT writes)")
      .add("materialise", s.materialise,
           "a compressed mixture: write plain experts, at the size of the model that was compressed, for readers that "
           "know the plain mixture alone")
      .add("upcycle", s.mixture.experts, "E",
           "a dense model: write a mixture whose E experts are copies of its feed-forward parts (0: none)")
      .at_least(0)
      .add("active", s.mixture.active, "K", "of --upcycle: experts a token goes through")
      .at_least(1)
      .add("expert-noise", s.mixture.noise, "X",
           "of --upcycle: deviation of what is added to each copy, in root mean squares of its matrix; 0 keeps the "
           "function")
      .at_least(0)
      .add("quantize", r.kind, "KIND",
           "round the linear layers first, as distil rounds its student; the rounded values are written")
      .choices({"none", "int4", "nf4", "fp4", "mxfp4", "int8", "int3"})
      .add("quantize-rule", r.rule, "RULE", "of int3, int4, int8: as in distil")
      .choices({"symmetric", "affine", "asymmetric"})
      .add("group-size", s.format.group_size, "N", "weights that share a scale (mxfp4: 32)")
      .at_least(1)
      .add("double-quant", s.format.double_quantized, "nf4, fp4: keep the scales themselves in 8 bits")
      .add("packed", s.packed,
           "hf: with --quantize: write codes and scales instead of values (bitsandbytes' form for nf4 and fp4, "
           "torchao's for int4 affine, else kdlib's)")
      .add("to", s.to, "FORMAT", "what to write")
      .choices({"hf", "gguf"})
      .required()
      .add("out", s.out, "PATH", "directory (hf) or file (gguf)")
      .required()
      .add("type", s.type, "TYPE",
           "gguf: type of matrices: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, or mxfp4 (experts)")
      .add("name", s.name, "TEXT", "gguf: general.name; empty: the model's file name")
      .add("dtype", s.dtype, "TYPE", "hf: float32, bfloat16 or float16; empty: as config.json says")
      .add("max-shard-size", s.shard, "SIZE",
           "hf: split safetensors above this: bytes, or with KB, MB, GB behind the number")
      .add("dry-run", s.dry_run, "say what would be written and stop")
      .common(s.threads, s.seed);
  o.parse(argc, argv);
  // The folder of a run is its model with its adapter.
  const kd::ModelPlace place = kd::find_model(s.model, s.adapter);
  s.merge = s.merge || place.adapter != s.adapter;
  s.model = place.model, s.adapter = place.adapter;
  if (s.adapter_alone() && !o.given("type")) s.type = "f32";
  check(s, o);
  s.mixture.seed = s.seed;
  s.format = r.format(s.format);
  if (!s.dtype.empty()) kd::checking_settings([&s] { kd::detail::check_saved_dtype(s.dtype, "[convert] --dtype: "); });
  if (r.rounds()) kd::checking_settings([&s] { kd::check_quantize_settings(s.format); });
  return s;
}

/// "5GB" -> 5 * 1000^3, as Hugging Face libraries count.
std::int64_t bytes_of(const std::string& text) {
  std::size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  const std::string unit = text.substr(digits);
  std::int64_t factor = 1;
  for (const char* const known : {"", "KB", "MB", "GB"}) {
    if (unit == known && digits > 0 && digits < 10 && std::stoll(text.substr(0, digits)) > 0)
      return std::stoll(text.substr(0, digits)) * factor;
    factor *= 1000;
  }
  kd::fail<kd::UsageError>("--max-shard-size \"", text, "\": write bytes, or a number with KB, MB or GB behind it");
}

/// The tokenizer; where it cannot be read the reason becomes a note and the model goes without.
std::optional<kd::Tokenizer> tokenizer_of(const Settings& s, std::vector<std::string>& notes) {
  try {
    const std::optional<kd::Tokenizer> found = kd::find_model_tokenizer(s.model);
    if (!found) notes.emplace_back("the model has no tokenizer: none is written");
    if (found && s.to == "gguf" && !kd::has_gguf_form(*found)) {
      notes.emplace_back(
          "the tokenizer is not written: GGUF wants the scores of SentencePiece's BPE, which tokenizer.json lacks, and "
          "has no place for Unigram or a map of characters");
      return std::nullopt;
    }
    return found;
  } catch (const kd::FormatError& error) {
    notes.push_back(kd::concat("the tokenizer is not written: ", error.what()));
    return std::nullopt;
  }
}

std::string model_name(const Settings& s) {
  if (!s.name.empty()) return s.name;
  std::string path = s.model;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (const auto part = kd::gguf_part_name(path)) path = part->prefix;
  const std::string name(kd::file_name(path));
  return name.ends_with(".gguf") ? name.substr(0, name.size() - 5) : name;
}

std::string save_codes(const Settings& s, Model& model, std::int64_t shard) {
  const kd::PackedSaveReport report = kd::save_packed(model, s.out, {.dtype = s.dtype, .shard_bytes = shard});
  return kd::concat(report.matrices, " matrices are packed in the form of ", kd::packed_form_name(report.form),
                    ", the rest is ", report.dtype);
}

/// Bytes of a packed directory: tables as they are, the rest as codes with the factors of their groups.
double packed_bytes(const kd::DecoderConfig& c, const kd::QuantizeSettings& q, double bytes_each) {
  const double tables = static_cast<double>(c.vocab_size * c.hidden_size) * (c.tied_head ? 1 : 2),
               maps = static_cast<double>(c.parameter_count()) - tables;
  const double bits = kd::code_bits(q.kind);
  const double factor = q.kind == kd::PackedKind::mxfp4 || q.double_quantized ? 1
                        : q.rule == kd::Int4Rule::symmetric                   ? 4
                                                                              : 8;
  return tables * bytes_each + maps * (bits / 8 + factor / static_cast<double>(q.group_size));
}

void print_plan(const Settings& s, const kd::DecoderConfig& c, kd::GgufType type) {
  const double bytes_each = s.to == "gguf"
                                ? static_cast<double>(kd::block_bytes(type)) / static_cast<double>(kd::block_size(type))
                                : ((s.dtype.empty() ? c.dtype : s.dtype) == "float32" ? 4.0 : 2.0);
  std::printf("%s: %s, %lld parameters in %lld layers, %lld experts\n", s.model.c_str(), kd::family_name(c.family),
              static_cast<long long>(c.parameter_count()), static_cast<long long>(c.layers),
              static_cast<long long>(c.mixtures() > 0 ? c.moe.experts : 0));
  if (!s.adapter.empty()) std::printf("adapter %s is merged\n", s.adapter.c_str());
  if (s.rounding.rounds()) std::printf("linear layers are rounded: %s\n", kd::describe(s.format).c_str());
  const double bytes =
      s.packed ? packed_bytes(c, s.format, bytes_each) : bytes_each * static_cast<double>(c.parameter_count());
  std::printf("%s %s: about %.1f MB\n", s.to == "hf" ? "directory" : "file", s.out.c_str(), bytes / 1e6);
}

kd::DecoderConfig config_of(const std::string& path) {
  kd::require<kd::IoError>(kd::path_exists(path), "[convert] ", path,
                           " is not there: give a Hugging Face directory or a GGUF file");
  return kd::is_directory(path) ? kd::read_hf_config(path) : kd::gguf_config(kd::GgufFile(path));
}

/// The adapter alone, for the model that it belongs to.
void convert_adapter(const Settings& s, std::vector<std::string>& notes) {
  const auto append = [&](const std::vector<std::string>& more) {
    notes.insert(notes.end(), more.begin(), more.end());
  };
  Model model = Model::from_pretrained(s.model, {.trainable = false, .weights = kd::WeightStorage::in_file});
  append(kd::load_adapter(model, s.adapter));
  if (s.to == "hf") {
    kd::save_adapter(model, s.out, {s.dtype.empty() ? "float32" : s.dtype, s.model});
    return;
  }
  const char* dtype = s.type == "f32" ? "float32" : (s.type == "f16" ? "float16" : "bfloat16");
  append(kd::save_gguf_adapter(model, s.out, {dtype, s.name}));
}

Model load(const Settings& s, std::vector<std::string>& notes) {
  Model model = Model::from_pretrained(s.model, {.trainable = false});
  if (s.rounding.rounds()) {
    kd::decode_linear(model);
    kd::quantize_linear(model, s.format);
  }
  if (!s.adapter.empty()) {
    kd::decode_linear(model);
    const std::vector<std::string> more = kd::apply_adapter(model, s.adapter);
    notes.insert(notes.end(), more.begin(), more.end());
  }
  notes.insert(notes.end(), model.notes().begin(), model.notes().end());
  if (s.materialise) return kd::materialise(std::move(model));
  if (s.mixture.experts > 0) return kd::upcycle(std::move(model), s.mixture);
  return model;
}

/// The configuration of what is written.
kd::DecoderConfig written_config(const Settings& s) {
  kd::DecoderConfig config = config_of(s.model);
  kd::require<kd::UsageError>(!s.materialise || config.moe.shares_cores(), "--materialise: ", s.model,
                              " has no experts that share cores");
  if (s.materialise) config.moe.core_rank = 0;
  if (s.mixture.experts > 0) return kd::checking_settings([&] { return kd::upcycled_config(config, s.mixture); });
  return config;
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
  const Settings s = parse(argc, argv);
  if (s.threads > 0) kd::set_thread_count(s.threads);
  const std::int64_t shard = bytes_of(s.shard);
  const kd::GgufType type = kd::checking_settings([&s] { return kd::gguf_type_from_name(s.type); });
  const kd::DecoderConfig config = written_config(s);
  if (s.to == "gguf" && !s.adapter_alone()) kd::check_gguf_config(config);
  std::vector<std::string> notes;
  const std::optional<kd::Tokenizer> tokenizer =
      s.adapter_alone() ? std::optional<kd::Tokenizer>() : tokenizer_of(s, notes);
  if (s.adapter_alone()) std::printf("%s: adapter %s alone: %s\n", s.model.c_str(), s.adapter.c_str(), s.out.c_str());
  else print_plan(s, config, type);
  if (s.adapter_alone() && !s.dry_run) {
    const auto lock =
        s.to == "hf" ? kd::OutputLock::folder(s.out, "[convert] ") : kd::OutputLock::file(s.out, "[convert] ");
    convert_adapter(s, notes);
  } else if (!s.dry_run) {
    const auto lock =
        s.to == "hf" ? kd::OutputLock::folder(s.out, "[convert] ") : kd::OutputLock::file(s.out, "[convert] ");
    Model model = load(s, notes);
    if (s.to == "gguf") {
      const std::vector<std::string> more =
          kd::save_gguf(model, tokenizer ? &*tokenizer : nullptr, s.out, {.type = type, .name = model_name(s)});
      notes.insert(notes.end(), more.begin(), more.end());
    } else {
      if (s.packed) notes.push_back(save_codes(s, model, shard));
      else model.save_pretrained(s.out, {.dtype = s.dtype, .shard_bytes = shard});
      kd::write_tokenizer_files(s.model, tokenizer, model.config().context_length, s.out);
    }
  }
  for (const std::string& note : notes) std::printf("note: %s\n", kd::terminal_text(note).c_str());
  std::printf(s.dry_run ? "nothing was written\n" : "written\n");
  return kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
