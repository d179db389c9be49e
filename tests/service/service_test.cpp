// SPDX-License-Identifier: Apache-2.0
// Parts of the service without sockets or processes.
#include "kdlib/tools/service/fields.hpp"
#include "kdlib/tools/service/flag_table.hpp"
#include "kdlib/tools/service/guard.hpp"
#include "kdlib/tools/service/metrics_tail.hpp"
#include "kdlib/tools/service/run_queue.hpp"
#include "kdlib/tools/service/run_record.hpp"
#include "kdlib/tools/service/run_store.hpp"
#include "kdlib/tools/status_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <random>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/utf8.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using kdlib_tests::TemporaryDirectory;

TEST_CASE("ten thousand random events: one run a device, none lost, first come first served", "[service]") {
  std::mt19937_64 rng(7);
  RunQueue queue(1, 3);
  std::vector<std::string> waiting[2], running[2];
  int made = 0, ended = 0, refused = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::size_t d = rng() % 2;
    const std::string device = d == 0 ? "a" : "b";
    switch (rng() % 4) {
      case 0: {
        const std::string id = std::to_string(i);
        const bool full = waiting[0].size() + waiting[1].size() >= 3;
        REQUIRE(queue.add(id, device) == !full);
        if (full) ++refused;
        else waiting[d].push_back(id), ++made;
        break;
      }
      case 1:
        if (!running[d].empty()) {
          REQUIRE(queue.remove(running[d][0]));
          running[d].clear();
          ++ended;
        }
        break;
      case 2:
        if (!waiting[d].empty()) {
          const std::size_t at = rng() % waiting[d].size();
          REQUIRE(queue.position(waiting[d][at]) == at + 1);
          REQUIRE(queue.remove(waiting[d][at]));
          waiting[d].erase(waiting[d].begin() + static_cast<std::ptrdiff_t>(at));
          ++ended;
        }
        break;
      default:
        for (std::string id; !(id = queue.start_next()).empty();) {
          const std::size_t of = !waiting[0].empty() && waiting[0][0] == id ? 0 : 1;
          REQUIRE((!waiting[of].empty() && waiting[of][0] == id && running[of].empty()));
          running[of].push_back(id);
          waiting[of].erase(waiting[of].begin());
        }
    }
    REQUIRE(queue.running("a") == running[0].size());
    REQUIRE(queue.running("b") == running[1].size());
    REQUIRE(queue.waiting() == waiting[0].size() + waiting[1].size());
  }
  CHECK(made == ended + static_cast<int>(queue.waiting() + queue.running("a") + queue.running("b")));
  CHECK((made > 1000 && refused > 0));
}

TEST_CASE("metrics cut at any byte and written on are read as the file stands", "[service]") {
  const TemporaryDirectory folder;
  const std::string path = join_path(folder.path(), "metrics.jsonl");
  std::string before, after;
  std::vector<std::size_t> ends;
  for (int step = 1; step <= 6; ++step) {
    before += "{\"step\":" + std::to_string(step) + ",\"x\":" + std::to_string(step * 11) + "}\n";
    ends.push_back(before.size());
  }
  for (std::size_t cut = 0; cut <= before.size(); ++cut) {
    write_file_atomically(path, before);
    MetricsTail tail(path);
    REQUIRE(tail.refresh());
    REQUIRE(tail.size() == 6);
    REQUIRE(tail.step(5) == 6);
    const std::uint64_t generation = tail.generation();
    std::size_t whole = 0;
    while (whole < ends.size() && ends[whole] <= cut) ++whole;
    after = before.substr(0, whole == 0 ? 0 : ends[whole - 1]);
    for (int step = static_cast<int>(whole) + 1; step <= 8; ++step)
      after += "{\"step\":" + std::to_string(step) + ",\"x\":-1}\n";
    if (cut % 2 == 0) {  // with a look at the shorter file in between, and without
      write_file_atomically(path, before.substr(0, cut));
      tail.refresh();
      REQUIRE(tail.size() == whole);
    }
    write_file_atomically(path, after);
    tail.refresh();
    REQUIRE(tail.size() == 8);
    REQUIRE(tail.text(0, 8) == after);
    REQUIRE(tail.kept_since(generation) == (whole == 6 ? std::size_t{8} : whole));
  }
  MetricsTail half(path);
  write_file_atomically(path, "{\"step\":1}\n{\"st");
  half.refresh();
  CHECK(half.size() == 1);
}

TEST_CASE("points that are left out are never the extremes", "[service]") {
  std::vector<double> values(1000, 1.0);
  values[137] = -5, values[802] = 9, values[500] = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::size_t> kept = keep_extremes(values, 50);
  CHECK(kept.size() <= 50);
  CHECK(kept.front() == 0);
  CHECK(kept.back() == 999);
  for (const std::size_t peak : {std::size_t{137}, std::size_t{802}})
    CHECK(std::find(kept.begin(), kept.end(), peak) != kept.end());
  CHECK(std::is_sorted(kept.begin(), kept.end()));
  CHECK(keep_extremes({1, 2, 3}, 50).size() == 3);
}

TEST_CASE("a record reads back as it was written", "[service]") {
  const TemporaryDirectory folder;
  RunRecord r;
  r.id = "a-1", r.label = "\xE2\x80\xAE <b>\n\"", r.tags = {"x", ""}, r.arguments = {"--a=b c", "--d=\n"};
  r.state = RunState::stopping, r.order = 12, r.stop_asked = true, r.created = 1.5, r.total_steps = 9;
  write_file_atomically(join_path(folder.path(), "r.json"), r.json());
  CHECK(RunRecord::read(join_path(folder.path(), "r.json")).json() == r.json());
  write_file_atomically(join_path(folder.path(), "r.json"), "{\"id\":\"a\",\"state\":\"asleep\"}");
  CHECK_THROWS_AS(RunRecord::read(join_path(folder.path(), "r.json")), FormatError);
  for (int s = 0; s < 8; ++s) CHECK(run_state(run_state_name(static_cast<RunState>(s))) == static_cast<RunState>(s));
}

TEST_CASE("a right token passes beside any number of wrong ones, which are slowed down", "[service]") {
  ServiceSettings settings;
  settings.token = std::string(64, 'a');
  ServiceGuard guard(settings);
  std::string wrong = settings.token;
  wrong[63] = 'b';
  for (int i = 0; i < 10; ++i) CHECK(guard.check_token(wrong, 1.0 + i)->status() == 401);
  CHECK(guard.check_token(wrong, 11)->status() == 429);
  CHECK_FALSE(guard.check_token(settings.token, 11));
  CHECK(guard.check_token("", 11)->status() == 401);
  CHECK(guard.check_token(wrong, 100)->status() == 401);
}

TEST_CASE("addresses of requests are decoded once and refused where they are no text", "[service]") {
  ServiceRequest r;
  CHECK(read_target("/a%20b?x=1+2&y=%26&z", r));
  CHECK(r.path == "/a b");
  CHECK(r.query == std::vector<std::pair<std::string, std::string>>{{"x", "1 2"}, {"y", "&"}, {"z", ""}});
  for (const char* bad : {"", "a", "http://x/", "/%", "/%4", "/%zz", "/%00", "/%ff", "/?a=%c0%80"}) {
    ServiceRequest other;
    CHECK_FALSE(read_target(bad, other));
  }
  ServiceRequest twice;
  CHECK(read_target("/%252e%252e", twice));
  CHECK(twice.path == "/%2e%2e");
}

TEST_CASE("settings are checked against the options of distil", "[service]") {
  const FlagTable flags(Json::parse(R"({"options":[
    {"name":"steps","type":"integer","at_least":1},{"name":"rate","type":"number","above":0},
    {"name":"save","type":"text","choices":["last","best"]},{"name":"loss","type":"list"},
    {"name":"merge","type":"switch"},{"name":"out","type":"text"}]})",
                                    "schema"));
  const auto problems = [&](const char* text) {
    std::vector<FieldProblem> out;
    flags.check(Json::parse(text, "settings"), "settings", out);
    return out.size();
  };
  CHECK(problems(R"({"steps":1,"rate":0.5,"save":"best","loss":["a"],"merge":true})") == 0);
  for (const char* bad : {R"({"steps":0})", R"({"steps":1.5})", R"({"steps":"1"})", R"({"rate":0})", R"({"save":"x"})",
                          R"({"loss":[]})", R"({"loss":"a"})", R"({"loss":[""]})", R"({"merge":1})",
                          R"({"out":"/tmp"})", R"({"unknown":1})", R"({"save":"a\u0000"})"})
    CHECK(problems(bad) == 1);
  std::string odd = "a";  // a long text that begins at an odd byte is cut, but not inside a character
  for (int i = 0; i < 100; ++i) odd += "\xc3\xa9";
  std::vector<FieldProblem> out;
  flags.check(Json::parse("{\"save\":\"" + odd + "\"}", "settings"), "settings", out);
  REQUIRE(out.size() == 1);
  CHECK(find_invalid_utf8(out[0].message) == std::string::npos);
}

TEST_CASE("a status file tells the phase and the end of a run, whatever the disk says", "[service]") {
  const TemporaryDirectory folder;
  const std::string path = join_path(folder.path(), "status");
  const auto last = [&] { return last_status(path); };
  CHECK(last_status(path).is_null());
  {
    StatusFile file(path);
    file.on_phase(SessionPhase::loading);
    CHECK(last().string_or("phase", "") == "loading");
    file.on_writing({"the teacher writes", 20, 3, 90, 1.0});
    CHECK(last().string_or("phase", "") == "writing");
    CHECK((last().int_or("done", 0) == 3 && last().int_or("total", 0) == 20));
    for (int i = 4; i < 20; ++i) file.on_writing({"the teacher writes", 20, i, 90, 1.0});
    CHECK(last().int_or("done", 0) == 3);  // once a second is enough
    file.on_writing({"the teacher writes", 20, 20, 90, 1.0});
    CHECK(last().string_or("phase", "") == "loading");
    file.failed(IoError("[write] out/x: No space left on device; free some space"));
    CHECK((last().string_or("error", "") == "IoError" && last().int_or("errno", 0) == ENOSPC));
    CHECK(last().int_or("status", 0) == 1);
  }
  StatusFile again(path);
  again.on_phase(SessionPhase::training);
  const std::string text = read_file(path);
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  write_file_atomically(path, text + "{\"phase\":\"fin");  // half a line is not read
  CHECK(last().string_or("phase", "") == "training");
  write_file_atomically(path, text + "no JSON\n");
  CHECK(last().string_or("phase", "") == "training");
  again.ended(0);
  StatusFile full("/dev/full");
  full.on_phase(SessionPhase::training);
  full.ended(1);
  CHECK_THROWS_AS(StatusFile(join_path(folder.path(), "none/status")), IoError);
  CHECK(detail::error_kind(std::bad_alloc()) == std::string("bad_alloc"));
}
