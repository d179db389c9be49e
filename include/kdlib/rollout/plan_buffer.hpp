// SPDX-License-Identifier: Apache-2.0
// Texts that a student writes and a teacher scores while the student trains. A plan is a list of tickets (prompts to be
// written). The buffer bounds how old the weights that write may be, and its saved state guarantees that each ticket is
// trained on exactly once.
#ifndef KDLIB_ROLLOUT_PLAN_BUFFER_HPP
#define KDLIB_ROLLOUT_PLAN_BUFFER_HPP

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/data/curriculum.hpp"

KDLIB_NAMESPACE_BEGIN

/// One text of a ticket.
struct RolloutText {
  std::vector<std::int32_t> ids;  // the written ids; a stop id is last if `stopped`
  std::vector<float> log_probs;   // [ids] under the weights that drew them
  std::vector<float> teacher;     // [ids] log-probabilities of the teacher; empty until scored
  bool stopped = false;           // true if a stop id ended the text, not the cap
};

/// How far the work on a ticket has come.
enum class TicketState : std::uint8_t { open, written, scored };
constexpr std::array<const char*, 3> enum_names(TicketState) { return {"open", "written", "scored"}; }

/// One prompt of a plan and its texts. `number` counts the tickets of the stage from 0. The prompt, the mode and all
/// random numbers follow from it.
struct RolloutTicket {
  std::int64_t number = 0;
  ReasoningMode mode = ReasoningMode::medium;
  std::int64_t cap = 0;      // largest number of tokens of a text
  std::int64_t samples = 1;  // number of texts
  TicketState state = TicketState::open;
  std::int64_t version = -1;  // version of the weights that wrote it; -1: not written
  std::vector<RolloutText> texts{};
};

/// The tickets that one optimizer step trains on.
struct RolloutPlan {
  std::int64_t step = 0;      // step of the stage, from 0
  std::int64_t version = -1;  // number of updates in the weights that write it; -1: not begun
  CurriculumPoint point{};
  int level = 0;  // level of back-pressure when the plan was opened
  std::vector<RolloutTicket> tickets{};
  double write_seconds = 0, score_seconds = 0;
};

/// The functions that do the work. `write` and `take_weights` are called from one thread, `score` from another. They
/// may throw, and they should throw StopRequested soon after PlanBuffer::stopping() becomes true.
struct RolloutWork {
  /// Makes the weights of this version write from now on.
  std::function<void(std::int64_t version)> take_weights;
  /// Writes `ticket.samples` texts of at most `ticket.cap` tokens each.
  std::function<std::vector<RolloutText>(const RolloutTicket& ticket)> write{};
  /// If set, is used instead of `write` and writes several tickets of one plan side by side. It must call `done` from
  /// the same thread, once for each ticket, with the texts of tickets[i] as soon as they are complete.
  using Done = std::function<void(std::size_t i, std::vector<RolloutText> texts)>;
  std::function<void(std::span<const RolloutTicket> tickets, const Done& done)> write_together{};
  /// Returns the teacher's log-probability of each id of the text.
  std::function<std::vector<float>(const RolloutTicket& ticket, const RolloutText& text)> score;
  /// Says that versions below `oldest` are not needed any more. Called from the trainer's thread.
  std::function<void(std::int64_t oldest)> forget{};
  std::function<void(const std::string&)> message{};
};

/// Bounds and kinds of steps.
struct PlanBufferSettings {
  std::int64_t staleness = 1;     // 0 to 8: step k trains on texts of weights k - staleness or newer
  std::int64_t sync_every = 1;    // updates between two published weights, 1 to staleness + 1
  double anchor_share = 0.15;     // share of the steps that train on given text, in [0, 1]
  bool deterministic = false;     // step k trains on texts of exactly the weights k - staleness; no back-pressure
  double drain_seconds = 120;     // how long save() waits for open plans; no limit if deterministic
  int score_attempts = 5;         // failed attempts after which a failing teacher ends the run
  std::int64_t side_by_side = 0;  // tickets that write_together gets at once; 0: an eighth of a plan, at least 1

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"staleness", "updates", "0 to 8", "between the weights that wrote and those that train"},
      self.staleness);
    f(FieldInfo{"sync_every", "updates", ">= 1", "between two published weights"}, self.sync_every);
    f(FieldInfo{"anchor_share", "", "in [0, 1]", "of steps on given text"}, self.anchor_share);
    f(FieldInfo{"deterministic", "", "", "texts come from the oldest weights that are allowed"}, self.deterministic);
    f(FieldInfo{"drain_seconds", "s", ">= 0", "a checkpoint waits for open plans", false, false}, self.drain_seconds);
    f(FieldInfo{"score_attempts", "", ">= 1", "of a failing teacher", false, false}, self.score_attempts);
    f(FieldInfo{"side_by_side", "", ">= 0", "tickets that are written together; 0: an eighth"}, self.side_by_side);
  }
};

/// What the buffer did for a step.
struct PlanBufferReport {
  std::int64_t staleness = 0;        // updates between the weights that wrote the texts and the step
  std::int64_t ready = 0, open = 0;  // texts of later plans: scored, and not finished (0 if deterministic)
  int level = 0;                     // level of back-pressure
  double wait_seconds = 0, write_seconds = 0, score_seconds = 0;
};

/// The buffer of plans. The plan of step k opens when weights of version k - staleness or newer are published. So texts
/// never get too old and none is dropped; the writer waits instead. The curriculum of a plan is fixed when the plan
/// opens. One version of the weights writes the whole plan: the newest that is published when its first ticket starts,
/// or if deterministic the oldest that is allowed. Plans are served in order. A text is scored as soon as it is
/// written.
class PlanBuffer {
 public:
  /// Throws ConfigError for settings out of range.
  PlanBuffer(Curriculum curriculum, RolloutWork work, PlanBufferSettings settings = {});
  PlanBuffer(const PlanBuffer&) = delete;
  PlanBuffer& operator=(const PlanBuffer&) = delete;
  /// Ends both threads. Work that is under way is given up.
  ~PlanBuffer();

  /// True if step k of the stage trains on own texts, false for an anchor step.
  bool is_rollout_step(std::int64_t step) const { return !is_anchor(step); }

  /// Tells that the trainer has made `version` updates and trained on `tokens` tokens of own text. If
  /// wants_weights(version), take_weights(version) must find the weights. Opens plans. The first call starts the
  /// threads.
  void publish(std::int64_t version, double tokens);
  bool wants_weights(std::int64_t version) const;

  /// Waits until the plan of a step is scored and returns it. The plan can be taken again until finish_step(). Rethrows
  /// what a thread threw. Throws StopRequested if a score failed `score_attempts` times or a stop was requested.
  const RolloutPlan& take(std::int64_t step);
  /// Tells that the step is trained; its plan is removed. `work_seconds` is the time of the trainer, for back-pressure.
  void finish_step(std::int64_t step, double work_seconds);

  PlanBufferReport report() const { return report_; }
  std::int64_t next_ticket() const { return next_ticket_; }
  bool stopping() const;

  /// Waits for open plans, then writes rollouts.json and rollouts.safetensors. Call this between two steps.
  void save(const std::string& folder);
  /// Loads a saved state; must come before the first publish(). Scored texts are used, written texts are scored, and
  /// open tickets are written again. Throws FormatError, which names the file and the key.
  void restore(const std::string& folder);

 private:
  struct Threads;
  struct Order {  // a ticket that a thread works on
    RolloutPlan* plan = nullptr;
    RolloutTicket* ticket = nullptr;
    RolloutTicket copy{};
  };
  bool is_anchor(std::int64_t step) const;
  void open_plans(std::int64_t version, double tokens);
  void repeat(bool (PlanBuffer::*work)());
  bool begin(TicketState state, Order& order);
  void end(Order& order, TicketState state, double RolloutPlan::*time, double seconds);
  bool begin_writing(std::vector<Order>& orders);
  bool write_some();
  bool score_one();
  void score_text(const RolloutTicket& ticket, RolloutText& text);
  bool find(TicketState state, Order& order);
  void stop_with(std::exception_ptr error);
  void rethrow_error();
  void drain();
  void say(const std::string& text) const;

  Curriculum curriculum_;
  RolloutWork work_;
  PlanBufferSettings settings_;
  std::vector<std::unique_ptr<RolloutPlan>> plans_;  // by step; addresses stay the same while threads use them
  std::int64_t next_ticket_ = 0, opened_ = -1, published_ = -1, writer_version_ = -1;
  BackPressure pressure_;
  PlanBufferReport report_;
  std::unique_ptr<Threads> threads_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/plan_buffer_inl.hpp"
#endif

#endif
