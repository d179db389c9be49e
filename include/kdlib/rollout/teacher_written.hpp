// SPDX-License-Identifier: Apache-2.0
// Given text that the teacher writes itself: answers to prompts, written once, many at a time, and kept on disk.
#ifndef KDLIB_ROLLOUT_TEACHER_WRITTEN_HPP
#define KDLIB_ROLLOUT_TEACHER_WRITTEN_HPP

#include "kdlib/rollout/on_policy.hpp"
#include "kdlib/rollout/response_cache.hpp"

KDLIB_NAMESPACE_BEGIN

/// Prompts, batches and order of TeacherWritten, and where its text is kept.
struct TeacherWrittenSettings {
  std::int64_t prompts = 8;         // prompts a batch
  std::uint64_t seed = 1;           // of the order of the prompts; the sampler has its own
  std::int64_t epochs = 0;          // times through the prompts; 0: without end. The last batch may be smaller
  std::int64_t ahead = 64;          // prompts written at once: a block
  std::int64_t decode_batch = 32;   // sequences decoded together
  std::int64_t context_length = 0;  // tokens of prompt and text together; 0: the teacher's
  std::string folder{};             // blocks are kept here as teacher_text-<block>.jsonl; empty: in memory alone
  std::string teacher_name{};       // who writes; another name refuses the kept blocks
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
/// epoch and are written when the first of their prompts comes up, whole or not at all: a run that resumes reads what
/// the first one wrote. The teacher is borrowed.
template <class Teacher>
class TeacherWritten {
  static_assert(
      GenerativeModel<Teacher>,
      "kdlib: the first argument of TeacherWritten cannot write (make_cache, decode, head); give a kd::Decoder or "
      "see kdlib/rollout/concepts.hpp");

 public:
  /// ConfigError for settings out of range; InputError for prompts that leave no room in the teacher's context or are
  /// outside its vocabulary.
  TeacherWritten(Teacher& teacher, Prompts prompts, Sampler sampler, TeacherWrittenSettings settings = {});
  TeacherWritten(const Teacher&& teacher, Prompts prompts, Sampler sampler,
                 TeacherWrittenSettings settings = {}) = delete;

  /// IoError, FormatError or ConfigError name a kept block that cannot be read or belongs to other settings, and what
  /// to do.
  std::optional<TokenBatch> next();
  /// Passes over one batch; false at the end. With share_with() its block is written or read all the same, since every
  /// rank takes part.
  bool skip();
  SourceCursor cursor() const { return make_cursor("teacher_written", fingerprint_, next_); }
  void seek(const SourceCursor& cursor) { next_ = read_cursor(cursor, "teacher_written", fingerprint_); }
  SourceDescription describe() const;

  /// ConfigError for a loss that reads the drawn token as if the student had drawn it: the teacher did. With the ratio
  /// to the recorded probabilities it may, unless the sampler cuts tokens off. Losses over the whole vocabulary may
  /// read this text however it was drawn, as they may any given text.
  void check_loss(SampledTextUse use) const;

  /// Writes (or reads) every block now.
  void write_all();
  /// The answer to a prompt, written with its block when it is not there yet.
  const Completion& text(std::int64_t prompt);
  const Prompts& prompts() const { return prompts_; }

  /// Ranks make each block together: in groups of `group` texts (write_in_groups), or, where `group` is 0 or answers of
  /// other runs are kept, the first rank alone. The first rank reads and writes the files. Before the first text.
  void share_with(AnyCommunicator ranks, std::int64_t group);

  /// As OnPolicy::reply_with. Before the first text.
  void reply_with(ReplyMaker maker, std::int64_t reply_tokens, std::string fingerprint);

  /// From now on answers that other runs wrote are read from `cache`, and new ones kept there. It is borrowed.
  /// `model_hash` tells teachers apart: content_hash of the model's files (with its adapter's). ConfigError: empty.
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
  Fingerprint fingerprint_;        // prompts, sampler, seeds, teacher
  std::vector<Completion> texts_;  // by prompt; no ids: not written yet
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
