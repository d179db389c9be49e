// SPDX-License-Identifier: Apache-2.0
// Bodies of plan_buffer.hpp: plans, threads and waiting. plan_state_inl.hpp has what is saved.
#ifndef KDLIB_ROLLOUT_PLAN_BUFFER_INL_HPP
#define KDLIB_ROLLOUT_PLAN_BUFFER_INL_HPP

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "kdlib/core/clock.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/data/confidence.hpp"
#include "kdlib/rollout/plan_buffer.hpp"

KDLIB_NAMESPACE_BEGIN

/// The lock guards every member of the buffer that both the trainer and a thread use.
struct PlanBuffer::Threads {
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::atomic<bool> stop{false};
  std::exception_ptr error;
  std::thread writer, scorer;
};

KDLIB_FUNC PlanBuffer::PlanBuffer(Curriculum curriculum, RolloutWork work, PlanBufferSettings settings)
    : curriculum_(std::move(curriculum)),
      work_(std::move(work)),
      settings_(settings),
      threads_(std::make_unique<Threads>()) {
  require<ConfigError>(settings.staleness >= 0 && settings.staleness <= 8, "[rollouts] the staleness is ",
                       settings.staleness, "; it is 0 to 8 updates");
  require<ConfigError>(settings.sync_every >= 1 && settings.sync_every <= settings.staleness + 1,
                       "[rollouts] weights are published every ", settings.sync_every, " updates; with a staleness of ",
                       settings.staleness, " it is 1 to ", settings.staleness + 1,
                       ", or the trainer would wait for ever");
  require<ConfigError>(!settings.deterministic || settings.sync_every == 1,
                       "[rollouts] deterministic needs weights after every update (sync_every 1), not every ",
                       settings.sync_every);
  require<ConfigError>(settings.drain_seconds >= 0 && settings.score_attempts >= 1, "[rollouts] ",
                       settings.drain_seconds, " s to drain and ", settings.score_attempts, " attempts to score");
  require<ConfigError>(settings.side_by_side >= 0, "[rollouts] ", settings.side_by_side,
                       " texts side by side; 0 (an eighth of a step's) or more");
  is_anchor(0);  // refuses a share out of range
}

KDLIB_FUNC PlanBuffer::~PlanBuffer() {
  threads_->stop = true;
  threads_->changed.notify_all();
  if (threads_->writer.joinable()) threads_->writer.join();
  if (threads_->scorer.joinable()) threads_->scorer.join();
}

KDLIB_FUNC bool PlanBuffer::stopping() const { return threads_->stop; }

/// The first call after a resume publishes whatever its version is: what was published before is not kept.
KDLIB_FUNC bool PlanBuffer::wants_weights(std::int64_t version) const {
  return version % settings_.sync_every == 0 || !threads_->writer.joinable();
}

KDLIB_FUNC bool PlanBuffer::is_anchor(std::int64_t step) const { return is_shared_step(step, settings_.anchor_share); }

KDLIB_FUNC void PlanBuffer::say(const std::string& text) const {
  if (work_.message) work_.message(text);
}

KDLIB_FUNC void PlanBuffer::publish(std::int64_t version, double tokens) {
  {
    const std::lock_guard<std::mutex> lock(threads_->mutex);
    if (!wants_weights(version)) return;
    published_ = version;
    open_plans(version, tokens);
    std::int64_t oldest = version;
    for (const auto& plan : plans_)
      if (plan->version >= 0) oldest = std::min(oldest, plan->version);
    if (settings_.deterministic)  // plans that wait for their turn were opened by older weights
      for (const auto& plan : plans_)
        oldest = std::min(oldest, std::max<std::int64_t>(0, plan->step - settings_.staleness));
    if (work_.forget) work_.forget(oldest);
  }
  threads_->changed.notify_all();
  if (threads_->writer.joinable()) return;
  threads_->writer = std::thread([this] { repeat(&PlanBuffer::write_some); });
  threads_->scorer = std::thread([this] { repeat(&PlanBuffer::score_one); });
}

KDLIB_FUNC void PlanBuffer::open_plans(std::int64_t version, double tokens) {
  for (; opened_ < version + settings_.staleness; ++opened_) {
    const std::int64_t step = opened_ + 1;
    if (is_anchor(step)) continue;
    auto plan = std::make_unique<RolloutPlan>();
    plan->step = step;
    plan->level = pressure_.level();
    plan->point = curriculum_.at(tokens, plan->level);
    for (std::int64_t i = 0; i < plan->point.tickets; ++i) {
      RolloutTicket ticket;
      ticket.number = next_ticket_++;
      ticket.mode = curriculum_.mode(ticket.number, plan->point.shares);
      ticket.cap = plan->point.caps[static_cast<std::size_t>(ticket.mode)];
      ticket.samples = plan->point.samples;
      plan->tickets.push_back(std::move(ticket));
    }
    plans_.push_back(std::move(plan));
  }
}

KDLIB_FUNC bool PlanBuffer::find(TicketState state, Order& order) {
  for (const auto& plan : plans_)
    for (RolloutTicket& ticket : plan->tickets)
      if (ticket.state == state) return order.plan = plan.get(), order.ticket = &ticket, true;
  return false;
}

KDLIB_FUNC void PlanBuffer::stop_with(std::exception_ptr error) {
  {
    const std::lock_guard<std::mutex> lock(threads_->mutex);
    if (!threads_->error) threads_->error = std::move(error);
  }
  threads_->changed.notify_all();
}

KDLIB_FUNC void PlanBuffer::rethrow_error() {
  if (threads_->error) std::rethrow_exception(threads_->error);
}

/// What a thread does until the buffer ends.
KDLIB_FUNC void PlanBuffer::repeat(bool (PlanBuffer::*work)()) {
  try {
    while ((this->*work)()) continue;
  } catch (...) {
    if (!stopping()) stop_with(std::current_exception());
  }
}

/// Waits for a ticket of this state and copies it; false when the buffer ends.
KDLIB_FUNC bool PlanBuffer::begin(TicketState state, Order& order) {
  std::unique_lock<std::mutex> lock(threads_->mutex);
  threads_->changed.wait(lock, [&] { return stopping() || threads_->error || find(state, order); });
  if (stopping() || threads_->error) return false;
  RolloutPlan& plan = *order.plan;
  if (state == TicketState::open && plan.version < 0)
    plan.version = settings_.deterministic ? std::max<std::int64_t>(0, plan.step - settings_.staleness) : published_;
  order.copy = *order.ticket;
  if (state == TicketState::open) order.copy.version = plan.version;
  return true;
}

/// The ticket becomes its copy, `seconds` of work later.
KDLIB_FUNC void PlanBuffer::end(Order& order, TicketState state, double RolloutPlan::*time, double seconds) {
  {
    const std::lock_guard<std::mutex> lock(threads_->mutex);
    order.plan->*time += seconds;
    order.copy.state = state;
    *order.ticket = std::move(order.copy);
  }
  threads_->changed.notify_all();
}

/// Waits for an open ticket and copies it with those of its plan that are written beside it.
KDLIB_FUNC bool PlanBuffer::begin_writing(std::vector<Order>& orders) {
  orders.resize(1);
  if (!begin(TicketState::open, orders[0])) return false;
  if (!work_.write_together) return true;
  const std::lock_guard<std::mutex> lock(threads_->mutex);
  RolloutPlan& plan = *orders[0].plan;
  const std::size_t eighth = std::max<std::size_t>(plan.tickets.size() / 8, 1),
                    most = settings_.side_by_side > 0 ? static_cast<std::size_t>(settings_.side_by_side) : eighth;
  for (RolloutTicket& ticket : plan.tickets) {
    if (orders.size() == most) break;
    if (ticket.state != TicketState::open || &ticket == orders[0].ticket) continue;
    orders.push_back({&plan, &ticket, ticket});
    orders.back().copy.version = plan.version;
  }
  return true;
}

KDLIB_FUNC bool PlanBuffer::write_some() {
  std::vector<Order> orders;
  if (!begin_writing(orders)) return false;
  const std::int64_t version = orders[0].copy.version;
  if (writer_version_ != version) work_.take_weights(version);
  writer_version_ = version;
  double start = steady_seconds();
  const auto done = [&](std::size_t i, std::vector<RolloutText> texts) {
    RolloutTicket& ticket = orders.at(i).copy;
    require<ShapeError>(ticket.state == TicketState::open && static_cast<std::int64_t>(texts.size()) == ticket.samples,
                        "[rollouts] ticket ", ticket.number, " has ", texts.size(), " texts; ", ticket.samples,
                        " were asked for, once");
    for (const RolloutText& text : texts)
      require<ShapeError>(!text.ids.empty() && text.log_probs.size() == text.ids.size(), "[rollouts] a text of ticket ",
                          ticket.number, " has ", text.ids.size(), " ids and ", text.log_probs.size(),
                          " log-probabilities");
    ticket.texts = std::move(texts);
    const double now = steady_seconds();
    end(orders[i], TicketState::written, &RolloutPlan::write_seconds, now - start);
    start = now;
  };
  if (work_.write_together) {
    std::vector<RolloutTicket> tickets;
    for (const Order& order : orders) tickets.push_back(order.copy);
    work_.write_together(tickets, done);
  } else {
    done(0, work_.write(orders[0].copy));
  }
  for (const Order& order : orders)
    require<ShapeError>(order.copy.state == TicketState::written, "[rollouts] ticket ", order.copy.number,
                        " has no texts; ", order.copy.samples, " were asked for");
  return true;
}

KDLIB_FUNC bool PlanBuffer::score_one() {
  Order order;
  if (!begin(TicketState::written, order)) return false;
  const double start = steady_seconds();
  for (RolloutText& text : order.copy.texts) score_text(order.copy, text);
  end(order, TicketState::scored, &RolloutPlan::score_seconds, steady_seconds() - start);
  return true;
}

KDLIB_FUNC void PlanBuffer::score_text(const RolloutTicket& ticket, RolloutText& text) {
  for (int attempt = 1;; ++attempt) {
    try {
      text.teacher = work_.score(ticket, text);
      break;
    } catch (const StopRequested&) {
      throw;
    } catch (const Error& error) {
      const std::string what = concat("[rollouts] ticket ", ticket.number, " could not be scored (attempt ", attempt,
                                      " of ", settings_.score_attempts, "): ", error.what());
      say(what);
      if (attempt >= settings_.score_attempts) throw StopRequested(what);
    }
  }
  require<ShapeError>(text.teacher.size() == text.ids.size(), "[rollouts] the teacher gave ", text.teacher.size(),
                      " log-probabilities for the ", text.ids.size(), " ids of a text of ticket ", ticket.number);
  for (std::size_t i = 0; i < text.teacher.size(); ++i) {
    require<FormatError>(std::isfinite(text.teacher[i]) && text.teacher[i] <= 1e-3f,
                         "[rollouts] the teacher's log-probability of id ", i, " of a text of ticket ", ticket.number,
                         " is ", text.teacher[i], "; a finite number, 0 at most, is needed");
    text.teacher[i] = std::min(text.teacher[i], 0.0f);
  }
}

KDLIB_FUNC const RolloutPlan& PlanBuffer::take(std::int64_t step) {
  const double begin = steady_seconds();
  std::unique_lock<std::mutex> lock(threads_->mutex);
  require<ConfigError>(!plans_.empty() && plans_.front()->step == step, "[rollouts] step ", step,
                       " is taken, but the next plan is of step ", plans_.empty() ? -1 : plans_.front()->step,
                       "; publish() and finish_step() come between two steps");
  RolloutPlan& plan = *plans_.front();
  const auto scored = [](const RolloutTicket& t) { return t.state == TicketState::scored; };
  while (!std::all_of(plan.tickets.begin(), plan.tickets.end(), scored)) {
    rethrow_error();
    check_stop();
    threads_->changed.wait_for(lock, std::chrono::milliseconds(50));
  }
  report_.staleness = step - plan.version;
  report_.ready = report_.open = 0;
  if (!settings_.deterministic)
    for (const auto& p : plans_)
      for (const RolloutTicket& t : p->tickets)
        if (p->step != step) (t.state == TicketState::scored ? report_.ready : report_.open) += t.samples;
  report_.level = plan.level;
  report_.wait_seconds = steady_seconds() - begin;
  report_.write_seconds = plan.write_seconds;
  report_.score_seconds = plan.score_seconds;
  return plan;
}

KDLIB_FUNC void PlanBuffer::finish_step(std::int64_t step, double work_seconds) {
  std::size_t to_write = 0, to_score = 0;
  int change = 0;
  {
    const std::lock_guard<std::mutex> lock(threads_->mutex);
    require<ConfigError>(!plans_.empty() && plans_.front()->step == step, "[rollouts] step ", step, " was not taken");
    plans_.erase(plans_.begin());
    for (const auto& plan : plans_)
      for (const RolloutTicket& t : plan->tickets)
        if (t.state == TicketState::open) ++to_write;
        else if (t.state == TicketState::written) ++to_score;
    if (!settings_.deterministic) change = pressure_.add_step(report_.wait_seconds, work_seconds);
  }
  if (change == 0) return;
  const int level = pressure_.level();
  say(concat("[rollouts] step ", step, ": the trainer ", change > 0 ? "waits for texts" : "hardly waits",
             "; back-pressure goes to level ", level,
             level == 1   ? " (shorter texts)"
             : level == 2 ? " (fewer of mode high)"
                          : "",
             level < 3             ? ""
             : to_score > to_write ? ": a second teacher replica would help"
                                   : ": writing is the bottleneck"));
}

KDLIB_FUNC void PlanBuffer::drain() {
  const double begin = steady_seconds();
  const bool running = threads_->writer.joinable();
  std::unique_lock<std::mutex> lock(threads_->mutex);
  const auto unfinished = [this] {
    Order order;
    return find(TicketState::open, order) || find(TicketState::written, order);
  };
  while (running && unfinished() && !threads_->error &&
         (settings_.deterministic || steady_seconds() - begin < settings_.drain_seconds))
    threads_->changed.wait_for(lock, std::chrono::milliseconds(50));
}

KDLIB_NAMESPACE_END

#include "kdlib/rollout/plan_state_inl.hpp"

#endif
