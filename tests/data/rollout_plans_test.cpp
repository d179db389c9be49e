// SPDX-License-Identifier: Apache-2.0
// Writers, a teacher and a trainer at the same time: the bound on stale weights, order, what is kept over a kill, and
// equal bits in deterministic runs. The parties are toys whose texts follow from ticket and version.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <thread>

#include "kdlib/core/clock.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/rollout/plan_buffer.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

CurriculumSettings small_curriculum() {
  CurriculumSettings s;
  s.rollouts = 4;
  s.tokens = 400;
  s.caps = {3, 5, 7};
  return s;
}

/// Texts whose ids are {ticket, sample, version} and whose teacher's log-probabilities follow from them.
struct Toy {
  std::int64_t version = -1;
  double write_ms = 0, score_ms = 0;
  std::vector<std::string> messages;
  std::atomic<int> failing{0};

  static void wait(double ms) {
    if (ms > 0) std::this_thread::sleep_for(std::chrono::microseconds(static_cast<std::int64_t>(1000 * ms)));
  }
  RolloutWork work() {
    RolloutWork w;
    w.take_weights = [this](std::int64_t v) { version = v; };
    w.write = [this](const RolloutTicket& ticket) {
      wait(write_ms);
      std::vector<RolloutText> texts;
      for (std::int64_t s = 0; s < ticket.samples; ++s) {
        RolloutText text;
        text.ids = {static_cast<std::int32_t>(ticket.number), static_cast<std::int32_t>(s),
                    static_cast<std::int32_t>(version)};
        text.log_probs = {-1.0f, -0.5f / static_cast<float>(ticket.number + 1), -0.25f};
        text.stopped = ticket.number % 2 == 0;
        texts.push_back(text);
      }
      return texts;
    };
    w.score = [this](const RolloutTicket& ticket, const RolloutText& text) {
      wait(score_ms);
      if (failing > 0 && failing-- > 0) fail<IoError>("the teacher is away");
      return std::vector<float>(text.ids.size(), -1.0f / static_cast<float>(ticket.number + 2));
    };
    w.message = [this](const std::string& text) { messages.push_back(text); };
    return w;
  }
};

/// What a step trained on, as a line: step, versions, tickets, modes, numbers.
std::string line_of(const RolloutPlan& plan, bool with_versions) {
  std::string out = concat("step ", plan.step, " ", setting_text(plan.point.fraction), ":");
  for (const RolloutTicket& t : plan.tickets) {
    out += concat(" ", t.number, "LMH"[static_cast<std::size_t>(t.mode)], t.cap, "x", t.texts.size());
    for (const RolloutText& text : t.texts) {
      REQUIRE(text.ids[0] == t.number);
      REQUIRE(text.teacher.size() == 3);
      REQUIRE(text.ids[2] == t.version);
      if (with_versions)
        out += concat("@", text.ids[2], "/", setting_text(text.log_probs[1]), "/", setting_text(text.teacher[0]),
                      text.stopped ? "s" : "c");
    }
  }
  return out;
}

/// One trainer: `steps` steps from where the state in `folder` stands, its "checkpoint" a file that is replaced at once
/// with the state beside it. Appends a line a step to `log`.
void train(const std::string& folder, std::int64_t steps, PlanBufferSettings settings, std::int64_t save_every,
           double write_ms = 0, double score_ms = 0, double train_ms = 0) {
  Toy toy;
  toy.write_ms = write_ms;
  toy.score_ms = score_ms;
  PlanBuffer buffer(Curriculum(small_curriculum()), toy.work(), settings);
  std::int64_t step = 0, tokens = 0;
  std::string log;
  if (path_exists(folder + "/latest")) {
    const std::string saved = folder + "/" + read_file(folder + "/latest");
    const Json state = Json::parse_file(saved + "/trainer.json");
    step = state.at("step").as_int();
    tokens = state.at("tokens").as_int();
    log = state.at("log").as_string();
    buffer.restore(saved);
  }
  for (; step < steps; ++step) {
    buffer.publish(step, static_cast<double>(tokens));
    const std::int64_t done = step + 1;
    if (buffer.is_rollout_step(step)) {
      const RolloutPlan& plan = buffer.take(step);
      REQUIRE(plan.version <= step);
      REQUIRE(step - plan.version <= settings.staleness);
      log += line_of(plan, settings.deterministic) + "\n";
      for (const RolloutTicket& t : plan.tickets) tokens += 3 * static_cast<std::int64_t>(t.texts.size());
      Toy::wait(train_ms);
      buffer.finish_step(step, train_ms / 1000);
    } else {
      log += concat("step ", step, " anchor\n");
      Toy::wait(train_ms);
    }
    if (done % save_every != 0 && done != steps) continue;
    const std::string name = concat("at", done), at = folder + "/" + name;
    remove_tree(at);
    make_directories(at);
    buffer.save(at);
    JsonWriter json;
    json.begin_object().member("step", done).member("tokens", tokens).member("log", log).end_object();
    write_file_atomically(at + "/trainer.json", json.text());
    write_file_atomically(folder + "/latest", name);
  }
}

std::string log_of(const std::string& folder) {
  return std::string(
      Json::parse_file(folder + "/" + read_file(folder + "/latest") + "/trainer.json").at("log").as_string());
}

}  // namespace

TEST_CASE("texts never come from weights older than the bound, every ticket is trained once and in order",
          "[rollout][plans]") {
  for (const std::int64_t staleness : {0, 1, 3}) {
    CAPTURE(staleness);
    const TemporaryDirectory folder;
    train(folder.path(), 24, {.staleness = staleness, .sync_every = std::min<std::int64_t>(staleness + 1, 2)}, 100);
    std::int64_t ticket = 0;
    const std::string log = log_of(folder.path());
    for (std::size_t at = log.find(": "); at != std::string::npos; at = log.find(": ", at + 1)) {
      const std::string line = log.substr(at + 1, log.find('\n', at) - at - 1);
      for (std::size_t i = 0; i < line.size(); ++i)
        if (line[i] == ' ') CHECK(std::stoll(line.substr(i + 1)) == ticket++);
    }
    CHECK(ticket == 84);  // 21 of 24 steps, 4 texts each, one a prompt: 252 of 400 tokens are below two thirds
    CHECK_THAT(log, contains("step 6 anchor") && contains("step 13 anchor"));
  }
}

TEST_CASE("a deterministic run has equal bits whatever is slow, saved or not", "[rollout][plans]") {
  const PlanBufferSettings settings{.staleness = 2, .deterministic = true};
  const TemporaryDirectory plain, saved, slow;
  train(plain.path(), 20, settings, 100);
  train(saved.path(), 20, settings, 3, 0.2, 0);
  train(slow.path(), 20, settings, 7, 0, 0.3, 0.2);
  CHECK_THAT(log_of(plain.path()), contains("step 19"));
  CHECK(log_of(saved.path()) == log_of(plain.path()));
  CHECK(log_of(slow.path()) == log_of(plain.path()));
}

TEST_CASE("a run that is killed thirty times trains on every ticket once, in order, and ends with the same bits",
          "[rollout][plans]") {
  for (const bool deterministic : {true, false}) {
    CAPTURE(deterministic);
    const PlanBufferSettings settings{.staleness = 1, .deterministic = deterministic, .drain_seconds = 0.002};
    const std::int64_t steps = 40;
    const TemporaryDirectory plain, killed;
    train(plain.path(), steps, settings, 2);
    int kills = 0;
    for (int attempt = 0;; ++attempt) {
      REQUIRE(attempt < 400);
      const pid_t child = ::fork();
      if (child == 0) {
        try {
          train(killed.path(), steps, settings, 2, 0.3, 0.3, 0.5);
        } catch (...) {
          ::_exit(9);
        }
        ::_exit(0);
      }
      if (kills < 30) {  // somewhere in the first steps behind the last checkpoint
        std::this_thread::sleep_for(std::chrono::microseconds(4000 + attempt * 7919 % 11000));
        ::kill(child, SIGKILL);
      }
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      if (WIFSIGNALED(status)) ++kills;
      else REQUIRE((WIFEXITED(status) && WEXITSTATUS(status) == 0));
      if (WIFEXITED(status)) break;
    }
    WARN("killed " << kills << " times");
    CHECK(log_of(killed.path()) == log_of(plain.path()));
  }
}

TEST_CASE("the writer and the teacher go on while the trainer holds a step", "[rollout][plans]") {
  Toy toy;
  std::atomic<int> scored{0};
  RolloutWork work = toy.work();
  work.score = [&scored, score = work.score](const RolloutTicket& ticket, const RolloutText& text) {
    auto out = score(ticket, text);
    ++scored;
    return out;
  };
  PlanBuffer buffer(Curriculum(small_curriculum()), work, {.staleness = 2, .anchor_share = 0});
  buffer.publish(0, 0);
  CHECK(buffer.take(0).version == 0);
  while (scored < 12) std::this_thread::yield();  // steps 1 and 2 are written and scored before step 0 is trained
  buffer.finish_step(0, 0);
  buffer.publish(1, 12);
  CHECK(buffer.take(1).version == 0);
  while (scored < 16) std::this_thread::yield();
  buffer.finish_step(1, 0);
  buffer.publish(2, 24);
  CHECK(buffer.take(2).version == 0);
  CHECK(buffer.report().staleness == 2);
  while (scored < 20) std::this_thread::yield();
  buffer.finish_step(2, 0);
  buffer.publish(3, 36);
  CHECK(buffer.take(3).version == 1);
}

TEST_CASE("tickets of a plan are written side by side, each is scored as soon as it is whole", "[rollout][plans]") {
  for (const std::int64_t together : {0, 1, 3, 9}) {
    CAPTURE(together);
    Toy toy;
    RolloutWork work = toy.work();
    std::vector<std::size_t> groups;
    std::atomic<int> scored{0};
    work.write_together = [&](std::span<const RolloutTicket> tickets, const RolloutWork::Done& done) {
      groups.push_back(tickets.size());
      for (std::size_t i = tickets.size(); i-- > 0;) {  // the last one is whole first
        const int before = scored;
        done(i, work.write(tickets[i]));
        while (scored == before) std::this_thread::yield();
      }
    };
    work.score = [&scored, score = work.score](const RolloutTicket& ticket, const RolloutText& text) {
      auto out = score(ticket, text);
      ++scored;
      return out;
    };
    std::string lines;
    {
      PlanBuffer buffer(Curriculum(small_curriculum()), work,
                        {.staleness = 0, .anchor_share = 0, .side_by_side = together});
      for (std::int64_t step = 0; step < 3; ++step) {
        buffer.publish(step, 0);
        lines += line_of(buffer.take(step), true) + "\n";
        buffer.finish_step(step, 0);
      }
    }
    const std::vector<std::size_t> one(12, 1), three{3, 1, 3, 1, 3, 1}, all(3, 4);
    CHECK(groups == (together == 3 ? three : together == 9 ? all : one));  // an eighth of four is one
    Toy alone;
    PlanBuffer buffer(Curriculum(small_curriculum()), alone.work(), {.staleness = 0, .anchor_share = 0});
    std::string expected;
    for (std::int64_t step = 0; step < 3; ++step) {
      buffer.publish(step, 0);
      expected += line_of(buffer.take(step), true) + "\n";
      buffer.finish_step(step, 0);
    }
    CHECK(lines == expected);
  }
  // Who writes must give the texts of every ticket, once.
  for (const int times : {0, 2}) {
    Toy toy;
    RolloutWork work = toy.work();
    work.write_together = [&](std::span<const RolloutTicket> tickets, const RolloutWork::Done& done) {
      for (int k = 0; k < times; ++k) done(0, work.write(tickets[0]));
    };
    PlanBuffer buffer(Curriculum(small_curriculum()), work, {.anchor_share = 0});
    buffer.publish(0, 0);
    CHECK_THROWS_WITH(buffer.take(0), contains("ticket 0 has") && contains("asked for"));
  }
  CHECK_THROWS_WITH(PlanBuffer(Curriculum(small_curriculum()), Toy().work(), {.side_by_side = -1}),
                    contains("-1 texts side by side"));
}

// Not run by default: test_data "[overlap]" measures (docs/results/vpmoe_pipeline.md).
TEST_CASE("the time of a step against the longest of writing, scoring and training", "[.overlap]") {
  struct Case {
    std::int64_t texts, staleness, together;  // together: 0 writes by RolloutWork::write
    double write_ms, score_ms, train_ms;      // a step
  };
  for (const Case& c : {Case{4, 1, 0, 400, 400, 400}, Case{8, 1, 0, 400, 400, 400}, Case{16, 1, 0, 400, 400, 400},
                        Case{64, 1, 0, 400, 400, 400}, Case{64, 1, 8, 400, 400, 400}, Case{64, 2, 64, 400, 400, 400},
                        Case{4, 2, 0, 400, 400, 400}, Case{4, 1, 0, 8, 8, 8}, Case{64, 1, 0, 100, 400, 200},
                        Case{64, 1, 8, 100, 400, 200}, Case{16, 0, 0, 200, 200, 200}}) {
    Toy toy;
    const auto n = static_cast<double>(c.texts);
    toy.write_ms = c.write_ms / n;
    toy.score_ms = c.score_ms / n;
    RolloutWork work = toy.work();
    if (c.together > 0)
      work.write_together = [&](std::span<const RolloutTicket> tickets, const RolloutWork::Done& done) {
        Toy::wait(c.write_ms / n * static_cast<double>(tickets.size()));  // all are whole at the end
        toy.write_ms = 0;
        for (std::size_t i = 0; i < tickets.size(); ++i) done(i, work.write(tickets[i]));
      };
    CurriculumSettings curriculum = small_curriculum();
    curriculum.rollouts = c.texts;
    curriculum.tokens = 1e9;  // one text a prompt
    PlanBuffer buffer(Curriculum(curriculum), work,
                      {.staleness = c.staleness, .anchor_share = 0, .side_by_side = c.together});
    constexpr std::int64_t steps = 12, first = 2;
    double begin = 0, wrote = 0, scored = 0, trained = 0;
    for (std::int64_t step = 0; step < steps; ++step) {
      if (step == first) begin = steady_seconds();
      buffer.publish(step, 0);
      buffer.take(step);
      const PlanBufferReport report = buffer.report();
      const double start = steady_seconds();
      Toy::wait(c.train_ms);
      if (step >= first) {
        wrote += report.write_seconds;
        scored += report.score_seconds;
        trained += steady_seconds() - start;
      }
      buffer.finish_step(step, steady_seconds() - start);
    }
    const double took = steady_seconds() - begin, longest = std::max({wrote, scored, trained});
    WARN(c.texts << " texts, staleness " << c.staleness << ", together " << c.together << ", " << c.write_ms << "/"
                 << c.score_ms << "/" << c.train_ms << " ms: step " << 1000 * took / (steps - first) << " ms, "
                 << took / longest << " of the longest");
  }
}

TEST_CASE("a teacher that fails a few times is asked again, one that stays away ends the run without losing texts",
          "[rollout][plans]") {
  Toy toy;
  toy.failing = 3;
  CurriculumSettings few = small_curriculum();
  const PlanBufferSettings settings{.staleness = 0, .anchor_share = 0, .score_attempts = 5};
  const TemporaryDirectory folder;
  {
    PlanBuffer buffer(Curriculum(few), toy.work(), settings);
    buffer.publish(0, 0);
    CHECK(buffer.take(0).tickets.size() == 4);
    CHECK(toy.messages.size() == 3);
    buffer.finish_step(0, 0);
    toy.failing = 5;
    buffer.publish(1, 12);
    CHECK_THROWS_AS(buffer.take(1), StopRequested);
    buffer.save(folder.path());
  }
  PlanBuffer again(Curriculum(few), toy.work(), settings);
  again.restore(folder.path());
  again.publish(1, 12);
  CHECK(again.take(1).tickets.front().number == 4);
  CHECK(again.next_ticket() == 8);
  CHECK_THROWS_WITH(again.restore(folder.path()), contains("before the first publish"));
  // A state that lost its texts, or is of another form.
  const std::string state = read_file(folder / "rollouts.json");
  write_file_atomically(folder / "rollouts.json", "{\"schema\":\"x\"}");
  PlanBuffer third(Curriculum(few), toy.work(), settings);
  CHECK_THROWS_AS(third.restore(folder.path()), FormatError);
  CHECK_THROWS_WITH(PlanBuffer(Curriculum(few), toy.work(), {.staleness = 9}), contains("0 to 8"));
  CHECK_THROWS_WITH(PlanBuffer(Curriculum(few), toy.work(), {.staleness = 1, .sync_every = 3}), contains("for ever"));
}
