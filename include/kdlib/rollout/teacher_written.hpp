// SPDX-License-Identifier: Apache-2.0
// Given text that the teacher itself writes: answers to prompts, written once, many at a time, and kept on disk.
#ifndef KDLIB_ROLLOUT_TEACHER_WRITTEN_HPP
#define KDLIB_ROLLOUT_TEACHER_WRITTEN_HPP

#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/rollout/response_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// Prompts, batches and order of TeacherWritten, and where its text is kept.
struct TeacherWrittenSettings {
  std::int64_t prompts = 8;         // prompts in a batch
  std::uint64_t seed = 1;           // seed of the order of the prompts; the sampler has its own
  std::int64_t epochs = 0;          // times through the prompts, 0: without end. The last batch may be smaller
  std::int64_t ahead = 64;          // prompts that are answered at once; these answers are a block
  std::int64_t decode_batch = 32;   // sequences decoded together
  std::int64_t context_length = 0;  // tokens of prompt and text together; 0: the teacher's
  std::string folder{};             // keeps blocks as teacher_text-<block>.jsonl; empty: only memory does
  std::string teacher_name{};       // who writes; kept blocks of another name are refused
  std::function<void(const GenerationProgress&)> progress{};

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"prompts", "", ">= 1", "prompts a batch"}, self.prompts);
    f(FieldInfo{"seed", "", "", "of the order of the prompts"}, self.seed);
    f(FieldInfo{"epochs", "", ">= 0", "times through the prompts; 0: without end"}, self.epochs);
    f(FieldInfo{"ahead", "", ">= 1", "prompts written at once: a block"}, self.ahead);
    f(FieldInfo{"decode_batch", "", ">= 1",
                "sequences decoded together: another number changes the last bits of logits"},
      self.decode_batch);
    f(FieldInfo{"context_length", "tokens", ">= 0", "of prompt and text together; 0: the model's"},
      self.context_length);
    f(FieldInfo{"folder", "", "", "where blocks are kept", false, false}, self.folder);
    f(FieldInfo{"teacher_name", "", "", "who writes"}, self.teacher_name);
    f(FieldInfo{"progress", "", "", "called while text is written", false, false}, self.progress);
  }
};

/// A DataSource. Each prompt is answered once; later epochs see the same text. Blocks follow the order of the first
/// epoch. A block is written when the first of its prompts is needed, as a whole or not at all, so a run that resumes
/// reads what the first run wrote. The teacher is borrowed.
template <class Teacher>
class TeacherWritten {
  static_assert(
      GenerativeModel<Teacher>,
      "kdlib: the first argument of TeacherWritten cannot write (make_cache, decode, head); give a kd::Decoder or "
      "see kdlib/rollout/concepts.hpp");

 public:
  /// Throws ConfigError for settings out of range, InputError for prompts that leave no room in the teacher's context
  /// or are outside its vocabulary.
  TeacherWritten(Teacher& teacher, Prompts prompts, Sampler sampler, TeacherWrittenSettings settings = {});
  TeacherWritten(const Teacher&& teacher, Prompts prompts, Sampler sampler,
                 TeacherWrittenSettings settings = {}) = delete;

  /// Throws IoError, FormatError or ConfigError, which name a kept block that cannot be read or belongs to other
  /// settings and say what to do.
  std::optional<TokenBatch> next();
  /// Passes over one batch; returns false at the end. After share_with() the block of the batch is written or read
  /// nevertheless, since every rank must take part.
  bool skip();
  SourceCursor cursor() const { return make_cursor("teacher_written", fingerprint_, next_); }
  void seek(const SourceCursor& cursor) { next_ = read_cursor(cursor, "teacher_written", fingerprint_); }
  SourceDescription describe() const;

  /// Throws ConfigError for a loss that reads the drawn token as if the student had drawn it, since the teacher drew
  /// it. A loss that multiplies by the ratio to the recorded probabilities may read it, unless the sampler cuts tokens
  /// off. Losses over the whole vocabulary may read this text however it was drawn, like any given text.
  void check_loss(SampledTextUse use) const;

  /// Writes (or reads) every block now.
  void write_all();
  /// Returns the answer to a prompt. If it is not there yet, its block is written.
  const Completion& text(std::int64_t prompt);
  const Prompts& prompts() const { return prompts_; }

  /// Makes ranks write each block together, in groups of `group` texts (write_in_groups). If `group` is 0 or answers of
  /// other runs are kept, the first rank writes alone. The first rank reads and writes the files. Call this before the
  /// first text.
  void share_with(AnyCommunicator ranks, std::int64_t group);

  /// As OnPolicy::reply_with. Call this before the first text.
  void reply_with(ReplyMaker maker, std::int64_t reply_tokens, std::string fingerprint);

  /// From now on answers of other runs are read from `cache`, and new answers are kept there. `cache` is borrowed.
  /// `model_hash` identifies the teacher: content_hash of the model's files (with its adapter's). Throws ConfigError if
  /// it is empty.
  void keep_answers_in(ResponseCache& cache, std::string model_hash);

 private:
  void require_block(std::int64_t block);
  void share_block(const std::string& path, const std::vector<std::int64_t>& items);
  void read_block(const std::string& path, const std::vector<std::int64_t>& items);
  void write_block(const std::string& path, const std::vector<std::int64_t>& items);
  std::vector<WritingRequest> requests_of(const std::vector<std::int64_t>& items) const;
  void keep_block(const std::string& path, const std::vector<std::int64_t>& items, std::vector<Completion> texts);
  GenerateSettings how(std::span<const std::int64_t> items) const;
  std::string block_key(const std::vector<std::int64_t>& items) const;
  std::vector<Completion> answer(std::span<const WritingRequest> requests, std::span<const std::int64_t> items);
  std::string answer_key(const WritingRequest& request) const;

  Teacher& teacher_;
  Prompts prompts_;
  Sampler sampler_;
  TeacherWrittenSettings settings_;
  ShuffledOrder order_;
  ShuffledOrder first_epoch_;      // stays in epoch 0
  Fingerprint fingerprint_;        // of prompts, sampler, seeds and teacher
  std::vector<Completion> texts_;  // by prompt; without ids: not written yet
  std::int64_t next_ = 0;
  AnyCommunicator ranks_;
  std::int64_t group_ = 0;
  bool shared_ = false;
  ResponseCache* answers_ = nullptr;
  std::string model_hash_;
  ReplyMaker replies_{};
  std::int64_t reply_tokens_ = 0;
  std::string reply_fingerprint_;
};

KDLIB_NAMESPACE_END

#include "kdlib/rollout/teacher_written_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/teacher_text_inl.hpp"
#endif

#endif
