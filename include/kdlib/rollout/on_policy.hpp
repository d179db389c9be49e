// SPDX-License-Identifier: Apache-2.0
// Text that the student writes while it learns: each batch takes the next prompts in a shuffled order, and the student
// continues them.
#ifndef KDLIB_ROLLOUT_ON_POLICY_HPP
#define KDLIB_ROLLOUT_ON_POLICY_HPP

#include "kdlib/data/prompts.hpp"
#include "kdlib/rollout/write_in_groups.hpp"

KDLIB_NAMESPACE_BEGIN

/// Makes GenerateSettings::reply for texts behind prompts. `items` are indices into `prompts`, one for each request.
using ReplyMaker = std::function<GenerateSettings::Reply(const Prompts& prompts, std::span<const std::int64_t> items)>;

/// Prompts, batches and order of OnPolicy.
struct OnPolicySettings {
  std::int64_t prompts = 8;            // prompts in a batch
  std::int64_t samples = 1;            // texts for each prompt
  std::uint64_t seed = 1;              // seed of the order of the prompts; the sampler has its own
  std::int64_t epochs = 0;             // times through the prompts, 0: without end. The last batch may be smaller
  std::int64_t decode_batch = 16;      // sequences decoded together
  std::int64_t context_length = 0;     // tokens of prompt and text together; 0: the student's
  bool record_routing = false;         // batches carry the experts of each token, for RunSettings::replay_routing
  bool accept_truncated_text = false;  // a loss over the whole vocabulary may read text drawn with top-k, top-p, min-p
  std::function<void(const GenerationProgress&)> progress{};

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"prompts", "", ">= 1", "prompts a batch"}, self.prompts);
    f(FieldInfo{"samples", "", ">= 1", "texts a prompt"}, self.samples);
    f(FieldInfo{"seed", "", "", "of the order of the prompts"}, self.seed);
    f(FieldInfo{"epochs", "", ">= 0", "times through the prompts; 0: without end"}, self.epochs);
    f(FieldInfo{"decode_batch", "", ">= 1",
                "sequences decoded together: another number changes the last bits of logits"},
      self.decode_batch);
    f(FieldInfo{"context_length", "tokens", ">= 0", "of prompt and text together; 0: the model's"},
      self.context_length);
    f(FieldInfo{"record_routing", "", "", "batches carry the experts of each token"}, self.record_routing);
    f(FieldInfo{"accept_truncated_text", "", "", "let a loss over the whole vocabulary read text drawn with filters"},
      self.accept_truncated_text);
    f(FieldInfo{"progress", "", "", "called while text is written", false, false}, self.progress);
  }
};

/// A RolloutSource. The n-th prompt that was drawn since the start (over all epochs) is written with the random numbers
/// of (sampler.seed, n, sample), in whatever batch it falls. With the same settings, program, thread count, matrix
/// library and CPU type the text is the same bit for bit. The text may differ if other sequences are decoded beside it
/// (`prompts`, `samples`, `decode_batch`): products add in an order that depends on the number of rows, logits differ
/// by rounding (about 1e-6), and a draw, or a greedy choice between near-equal tokens, may give another token. Both
/// texts are draws of the same model, and the recorded log-probs are those of the text that was written. The batch
/// carries the log-probs of its draws. Every written token, end token included, counts once; tokens of the prompt do
/// not count. If a batch fails or is cut short, the cursor stays where it was.
class OnPolicy {
 public:
  /// If the sampler has no stop ids, those of the prompts' tokenizer are used. Throws ConfigError for settings out of
  /// range.
  OnPolicy(Prompts prompts, Sampler sampler, OnPolicySettings settings = {});

  template <class Student>
  std::optional<TokenBatch> next(Student& student);
  /// Passes over one batch without writing it; returns false at the end.
  bool skip();
  /// Writes the texts of the next `batches` batches now, in groups of `group` texts (write_in_groups); next() then
  /// returns them. Every rank must call this before each step. Texts that are left from an earlier step are dropped.
  template <class Student>
  void write_step(Student& student, std::int64_t batches, std::int64_t group, AnyCommunicator& ranks);
  SourceCursor cursor() const { return make_cursor("on_policy", fingerprint_, next_); }
  void seek(const SourceCursor& cursor) {
    next_ = read_cursor(cursor, "on_policy", fingerprint_);
    written_.clear();
  }
  SourceDescription describe() const;

  /// Throws ConfigError if the loss does not fit the sampler (check_sampling_matches_loss, decision 004).
  void check_loss(SampledTextUse use) const {
    use.accepts_truncated_text = settings_.accept_truncated_text;
    check_sampling_matches_loss(sampler_, use);
  }
  /// Makes texts continue after a turn as ReplyMaker says. `fingerprint` identifies the maker: text that was written
  /// with one maker is not used with another. Call this before the first text.
  void reply_with(ReplyMaker maker, std::int64_t reply_tokens, std::string fingerprint);

  bool records_routing() const { return settings_.record_routing; }
  const Sampler& sampler() const { return sampler_; }
  const Prompts& prompts() const { return prompts_; }

 private:
  struct Requests {
    std::vector<WritingRequest> texts;
    std::vector<std::int64_t> items;  // index of the prompt of each text
  };
  /// Returns the requests of the prompts that are drawn as numbers `begin` to `end` - 1.
  Requests requests(std::int64_t begin, std::int64_t end);
  GenerateSettings how(std::span<const std::int64_t> items) const;
  std::int64_t end_of_next(std::int64_t batches) const {
    return end_of_batch(next_, batches * settings_.prompts, settings_.epochs, order_.count());
  }

  Prompts prompts_;
  Sampler sampler_;
  OnPolicySettings settings_;
  ShuffledOrder order_;
  Fingerprint fingerprint_;
  std::vector<Completion> written_;  // by write_step, from the prompt with number written_begin_ on
  std::int64_t written_begin_ = 0;
  std::int64_t next_ = 0;  // number of the next prompt
  ReplyMaker replies_{};
  std::int64_t reply_tokens_ = 0;
  std::string reply_fingerprint_;
};

KDLIB_NAMESPACE_END

#include "kdlib/rollout/on_policy_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/on_policy_prompts_inl.hpp"
#endif

#endif
