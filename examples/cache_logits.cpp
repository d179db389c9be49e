// SPDX-License-Identifier: Apache-2.0
// cache_logits: a teacher's signal for given text on disk, for many students to learn from (distil --cache).
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/hdf5.hpp>
#include <kdlib/io/content_hash.hpp>
#include <kdlib/teacher/compare_cache.hpp>
#include <kdlib/teacher/merge_cache.hpp>
#include <kdlib/teacher/remote_cache.hpp>
#include <kdlib/tools/cache_command.hpp>
#include <kdlib/tools/distillkit_file.hpp>
#include <kdlib/tools/model_files.hpp>
#include <kdlib/tools/process_start.hpp>
#include <kdlib/tools/progress.hpp>
#include <kdlib/tools/remote_start.hpp>
#include <kdlib/tools/stop_signals.hpp>

namespace kd = kdlib;

namespace {

using Model = kd::Decoder<kd::Cpu, float>;

kd::TextSettings text_settings(const kd::CacheCommand& s, std::int64_t vocabulary) {
  kd::TextSettings text{.chat_template = s.chat_template, .vocabulary = vocabulary};
  text.context_length = s.max_length;
  text.too_long = kd::too_long_rule(s.too_long);
  return text;
}

/// The text as documents, with the lengths that the teacher can read.
kd::TokenBatch read_text(const kd::CacheCommand& s, const kd::Tokenizer* tokenizer, std::int64_t vocabulary,
                         std::int64_t context_length) {
  kd::TextSettings text = text_settings(s, vocabulary);
  if (context_length > 0) text.context_length = std::min(s.max_length, context_length);
  kd::TextCounts counts;
  kd::TokenBatch documents = kd::read_documents(s.data, tokenizer, text, &counts);
  if (const std::string note = counts.note(s.data, text.context_length); !note.empty())
    std::fprintf(stderr, "%s\n", note.c_str());
  if (s.max_samples > 0 && s.max_samples < documents.documents()) return documents.part(0, s.max_samples);
  return documents;
}

kd::CacheFacts facts(const kd::CacheCommand& s, const std::optional<kd::Tokenizer>& tokenizer, const Model& model) {
  kd::CacheFacts f = kd::facts_of(model);
  f.teacher = s.teacher;
  f.teacher_hash = kd::content_hash(s.teacher);
  f.dataset = s.data;
  f.dataset_hash = kd::content_hash(s.data);
  if (!tokenizer) return f;
  kd::check_tokenizer_fits(*tokenizer, model.vocab_size());
  f.tokenizer = kd::tokenizer_hash(*tokenizer);
  const std::int64_t ids = tokenizer->vocab_size();
  if (s.settings.kind == kd::CacheKind::logprobs && ids < model.vocab_size()) f.real_vocabulary = ids;
  return f;
}

/// Puts the teacher's tokenizer into the cache, so that students whose tokenizer differs in added tokens are compared
/// with it token by token. `rows` of the head: what a reader of tokenizer files leaves out behind them.
void keep_tokenizer(const std::string& cache, const std::string& model, const std::optional<kd::Tokenizer>& tokenizer,
                    std::int64_t context_length, std::int64_t rows) {
  if (!tokenizer) return;
  const std::string place = kd::join_path(cache, "tokenizer");
  kd::make_directories(place);
  kd::write_tokenizer_files(model, tokenizer, context_length, place);
  kd::write_file_atomically(kd::join_path(place, "config.json"), kd::concat("{\"vocab_size\": ", rows, "}\n"));
}

kd::WriteCacheSettings how_of(const kd::CacheCommand& s, kd::Progress& progress) {
  kd::WriteCacheSettings how{.workspace_bytes = s.workspace << 20};
  how.progress = [&progress](const kd::CacheProgress& p) {
    progress.show(p.done, p.documents, p.seconds,
                  kd::concat(p.rows, " rows, ", static_cast<std::int64_t>(static_cast<double>(p.tokens) / p.seconds),
                             " tokens/s"));
  };
  return how;
}

/// Writes what is missing of this worker's part; true when the whole cache is there.
bool write(const kd::CacheCommand& s, Model& model, const std::optional<kd::Tokenizer>& tokenizer) {
  const kd::TokenBatch documents =
      read_text(s, tokenizer ? &*tokenizer : nullptr, model.vocab_size(), model.config().context_length);
  kd::CacheWriter writer(s.out, facts(s, tokenizer, model), s.settings, documents);
  keep_tokenizer(s.out, s.teacher, tokenizer, model.config().context_length, model.vocab_size());
  kd::Progress progress;
  const kd::CacheProgress done = kd::write_teacher_cache(model, writer, s.worker, how_of(s, progress));
  progress.finish();
  kd::show_notes(writer.notes());
  std::fputs(kd::cache_summary(writer.meta(), s.out, done).c_str(), stdout);
  return writer.meta().complete;
}

void print_comparison(const kd::CacheComparison& c) {
  std::printf("verified: all checksums; %lld documents made again differ by at most %.3g (largest value %.3g)\n",
              static_cast<long long>(c.documents), c.difference, c.largest);
}

/// The same from servers.
void write_from_servers(const kd::CacheCommand& s) {
  const std::optional<kd::Tokenizer> tokenizer = kd::named_tokenizer(s.tokenizer);
  kd::RemoteTeacherSettings settings = kd::remote_settings(s.remote, s.teacher, tokenizer, s.seed);
  settings.top_k = s.settings.top_k;
  const bool hidden = s.settings.kind == kd::CacheKind::hidden;
  kd::RemoteClient client(settings, hidden ? kd::RemoteWant::hidden : kd::RemoteWant::top_k,
                          kd::make_http_transport(settings));
  kd::probe_for_program(client, tokenizer);
  kd::check_remote_cache(client, s.settings);  // before anything is written
  kd::CacheFacts facts = kd::facts_of(client);
  facts.dataset = s.data;
  facts.dataset_hash = kd::content_hash(s.data);
  if (tokenizer) facts.tokenizer = kd::tokenizer_hash(*tokenizer);
  const kd::TokenBatch documents =
      read_text(s, tokenizer ? &*tokenizer : nullptr, client.needs().vocabulary, client.facts().context_length);
  kd::CacheWriter writer(s.out, facts, s.settings, documents);
  keep_tokenizer(s.out, s.tokenizer, tokenizer, client.facts().context_length, facts.vocabulary);
  kd::Progress progress;
  const kd::CacheProgress done = kd::write_remote_cache(client, writer, s.worker, how_of(s, progress));
  progress.finish();
  kd::show_notes(writer.notes());
  std::fputs(kd::cache_summary(writer.meta(), s.out, done).c_str(), stdout);
  if (!writer.meta().complete || s.verify == 0) return;
  const kd::TeacherCache cache(s.out);
  cache.verify();
  print_comparison(kd::compare_cache_rows(cache, s.verify, [&](const auto& one, const auto& meta, auto& columns) {
    kd::detail::append_remote_batch(client, one, meta, columns);
  }));
}

/// What is known of a signal that another program wrote; `tokenizer` receives that of --tokenizer.
kd::CacheFacts imported_facts(const kd::CacheCommand& s, std::optional<kd::Tokenizer>& tokenizer) {
  kd::CacheFacts facts{.dataset = s.data, .dataset_hash = kd::content_hash(s.data)};
  tokenizer = kd::named_tokenizer(s.tokenizer);
  if (tokenizer) facts.tokenizer = kd::tokenizer_hash(*tokenizer);
  return facts;
}

void import_distillkit(const kd::CacheCommand& s) {
  std::optional<kd::Tokenizer> tokenizer;
  const kd::CacheFacts facts = imported_facts(s, tokenizer);
  const kd::DistillKitFormat format =
      kd::reading_config_file("--distillkit", [&s] { return kd::read_distillkit_format(s.distillkit); });
  if (tokenizer) kd::check_tokenizer_fits(*tokenizer, format.vocabulary);
  const kd::CacheMeta meta = kd::import_distillkit(s.data, format, s.out, facts, s.settings.segment);
  keep_tokenizer(s.out, s.tokenizer, tokenizer, 0, format.vocabulary);
  std::fputs(kd::cache_summary(meta, s.out, {}).c_str(), stdout);
}

#if defined(KDLIB_WITH_HDF5)
void import_seed(const kd::CacheCommand& s) {
  std::optional<kd::Tokenizer> tokenizer;
  const kd::CacheFacts facts = imported_facts(s, tokenizer);
  const kd::TextSettings text = text_settings(s, std::numeric_limits<std::int32_t>::max());
  const kd::TokenBatch documents = kd::read_documents(s.data, tokenizer ? &*tokenizer : nullptr, text);
  const auto order = kd::enum_value<kd::SeedOrder>(s.seed_order);
  const kd::CacheMeta meta =
      kd::import_seed_cache(s.seed_cache, *order, documents, s.out, facts, s.settings.temperatures, s.settings.segment);
  keep_tokenizer(s.out, s.tokenizer, tokenizer, 0, meta.facts.vocabulary);
  std::fputs(kd::cache_summary(meta, s.out, {}).c_str(), stdout);
}
#else
void import_seed(const kd::CacheCommand& s) { static_cast<void>(kd::hdf5_functions(s.seed_cache)); }
#endif

void run(const kd::CacheCommand& s) {
  kd::start_threads(s.threads);
  if (!s.merge.empty()) {
    const kd::CacheMeta meta = kd::merge_teacher_caches(s.merge, s.out, s.merge_segment);
    std::fputs(kd::cache_summary(meta, s.out, {}).c_str(), stdout);
    return;
  }
  if (!s.seed_cache.empty()) return import_seed(s);
  if (!s.distillkit.empty()) return import_distillkit(s);
  if (s.check_alone()) return kd::TeacherCache(s.out).verify();
  if (s.is_remote()) return write_from_servers(s);
  kd::require_model_path(s.teacher);
  kd::require_given_file("[cache_logits] --data", s.data, "a file of JSON lines");
  Model model = Model::from_pretrained(s.teacher, {.trainable = false, .weights = kd::WeightStorage::in_file});
  kd::show_notes(model.notes());
  model.fold_cores();
  const std::optional<kd::Tokenizer> tokenizer = kd::find_model_tokenizer(s.teacher);
  const bool complete = write(s, model, tokenizer);
  if (!complete || s.verify == 0) return;
  const kd::TeacherCache cache(s.out);
  cache.verify();
  print_comparison(kd::compare_with_teacher(model, cache, s.verify));
}

}  // namespace

int main(int argc, char** argv) try {
  kd::start_process();
#if defined(KDLIB_WITH_HDF5)
  kd::use_hdf5_caches();
#endif
  kd::CacheCommand command;
  command.parse(argc, argv);
  const int stopped =
      kd::until_stopped([&command] { run(command); }, "stopped; whole segments are kept: the same command goes on");
  return stopped != 0 ? stopped : kd::finish();
} catch (const std::exception& error) {
  return kd::report(error);
}
