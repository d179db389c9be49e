// SPDX-License-Identifier: Apache-2.0
// Command lines, presets and config files: who wins, what is refused and how it is said.
#include "kdlib/tools/options.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "kdlib/tools/args.hpp"
#include "kdlib/tools/yaml_settings.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;

namespace {

struct Flags {
  std::string teacher, loss = "forward_kl", preset;
  int steps = 30;
  double rate = 1e-3;
  std::uint64_t seed = 1;
  int threads = 0;
  bool dry_run = false;
  std::optional<bool> t_squared;
  std::vector<std::string> models;
  int rank = 16;
  double share = 1;
};

Options make(Flags& f) {
  Options options{"prog", "Does things."};
  options.group("Models")
      .add("teacher", f.teacher, "MODEL", "the teacher")
      .required()
      .add("models", f.models, "M...", "models");
  options.group("Training")
      .add("steps", f.steps, "N", "optimiser steps", "steps")
      .at_least(1)
      .add("learning-rate", f.rate, "X", "peak rate")
      .above(0)
      .add("rank", f.rank, "N", "rank")
      .at_least(1)
      .at_most(65535)
      .add("share", f.share, "X", "share")
      .above(0)
      .at_most(1)
      .add("loss", f.loss, "NAME", "divergence")
      .choices({"forward_kl", "jsd"})
      .add("t-squared", f.t_squared, "multiply by T^2")
      .add("dry-run", f.dry_run, "plan only")
      .common(f.threads, f.seed)
      .config_file(read_yaml_settings)
      .presets(
          f.preset, {"fast", "quality"},
          [](void* context, const std::string& name) {
            if (name == "quality") static_cast<Flags*>(context)->steps = 300;
          },
          &f);
  return options;
}

void parse(Options& options, std::vector<const char*> words) {
  words.insert(words.begin(), "prog");
  options.parse(static_cast<int>(words.size()), words.data());
}

std::string refusal(std::vector<const char*> words) {
  Flags f;
  Options options = make(f);
  try {
    parse(options, std::move(words));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "(accepted)";
}

void write(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  REQUIRE(file != nullptr);
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
}

}  // namespace

TEST_CASE("values of every kind are read from a command line", "[tools]") {
  Flags f;
  Options options = make(f);
  parse(options, {"--teacher", "T", "--steps=5", "--learning-rate", "2.5e-4", "--seed", "18446744073709551615",
                  "--dry-run", "--t-squared", "off", "--models", "a", "b", "--models", "c", "--loss", "jsd"});
  CHECK(f.teacher == "T");
  CHECK(f.steps == 5);
  CHECK(f.rate == 2.5e-4);
  CHECK(f.seed == 18446744073709551615ull);
  CHECK(f.dry_run);
  CHECK(f.t_squared == std::optional<bool>(false));
  CHECK(f.models == std::vector<std::string>{"a", "b", "c"});
  CHECK(options.given("steps"));
  CHECK_FALSE(options.given("threads"));
}

TEST_CASE("a command line that cannot be used is refused with the reason", "[tools]") {
  CHECK(refusal({"--teacher", "T", "--stepz", "3"}) == "unknown option --stepz; did you mean --steps?");
  CHECK(refusal({"--teacher", "T", "--xyzzy-plugh"}) == "unknown option --xyzzy-plugh; see --help");
  CHECK(refusal({"--steps", "3"}).find("missing option --teacher") == 0);
  CHECK(refusal({"--teacher", "T", "--steps", "3x"}) == "--steps is '3x'; it must be a whole number");
  CHECK(refusal({"--teacher", "T", "--steps", "99999999999"}) == "--steps is '99999999999'; it must be a whole number");
  CHECK(refusal({"--teacher", "T", "--seed", "-1"}) == "--seed is '-1'; it must be a whole number >= 0");
  CHECK(refusal({"--teacher", "T", "--steps", "0"}) == "--steps is 0; it must be >= 1");
  CHECK(refusal({"--teacher", "T", "--learning-rate", "0"}) == "--learning-rate is 0; it must be > 0");
  for (const char* number : {"nan", "inf", "-inf", "1e999"})
    CHECK(refusal({"--teacher", "T", "--learning-rate", number}) ==
          std::string("--learning-rate is '") + number + "'; it must be a number");
  CHECK(refusal({"--teacher", "T", "--rank", "100000"}) == "--rank is 100000; it must be from 1 to 65535");
  CHECK(refusal({"--teacher", "T", "--share", "0"}) == "--share is 0; it must be above 0 and at most 1");
  CHECK(refusal({"--teacher", "T\xFF"}).find("--teacher is not UTF-8 text") == 0);
  CHECK(refusal({"--teacher", "T", "--loss", "kl"}) == "--loss is 'kl'; it must be one of forward_kl, jsd");
  CHECK(refusal({"--teacher", "T", "--preset", "slow"}) == "--preset is 'slow'; it must be one of fast, quality");
  CHECK(refusal({"--teacher"}) == "--teacher needs a value (MODEL)");
  CHECK(refusal({"--teacher", "T", "--steps", "1", "--steps", "2"}) == "--steps is given twice");
  CHECK(refusal({"--teacher", "T", "stray"}).find("unexpected argument 'stray'") == 0);
  CHECK(refusal({"--teacher", "T", "--dry-run=maybe"}) == "--dry-run is 'maybe'; it must be on or off");
}

TEST_CASE("the command line wins over the config file, which wins over the preset", "[tools]") {
  const kdlib_tests::TemporaryDirectory folder;
  const std::string path = folder / "c.yaml";
  write(path, "teacher: T\nsteps: 70\npreset: quality\nmodels: [x, \"y z\"]\ndry-run: true\n");
  {
    Flags f;
    Options options = make(f);
    parse(options, {"--config", path.c_str(), "--steps", "80"});
    CHECK(f.steps == 80);
    CHECK(f.dry_run);
    CHECK(f.models == std::vector<std::string>{"x", "y z"});
  }
  {
    Flags f;
    Options options = make(f);
    parse(options, {"--config", path.c_str()});
    CHECK(f.steps == 70);
  }
  {
    Flags f;
    Options options = make(f);
    parse(options, {"--teacher", "T", "--preset", "quality"});
    CHECK(f.steps == 300);
  }
}

TEST_CASE("settings written as YAML read back as the same settings", "[tools]") {
  const kdlib_tests::TemporaryDirectory folder;
  Flags f;
  Options options = make(f);
  parse(options, {"--teacher", "a \"b\": #c", "--learning-rate", "0.1", "--models", "m 1", "--t-squared", "on"});
  write(folder / "c.yaml", options.yaml());
  Flags g;
  Options again = make(g);
  parse(again, {"--config", (folder / "c.yaml").c_str()});
  CHECK(g.teacher == "a \"b\": #c");
  CHECK(g.rate == 0.1);
  CHECK(again.yaml() == options.yaml());
}

TEST_CASE("a key of a config file counts as given where its value is not what it would be without", "[tools]") {
  const kdlib_tests::TemporaryDirectory folder;
  const std::string path = folder / "c.yaml";
  write(path, "teacher: T\nsteps: 300\nlearning-rate: 1e-3\nloss: jsd\npreset: quality\nmodels: [a, b]\n");
  Flags f;
  Options options = make(f);
  parse(options, {"--config", path.c_str(), "--seed", "1"});
  CHECK(options.given("teacher"));
  CHECK(options.given("loss"));
  CHECK(options.given("models"));
  CHECK(options.given("seed"));                 // typed, although it is the default
  CHECK_FALSE(options.given("learning-rate"));  // the default in another spelling
  CHECK_FALSE(options.given("steps"));          // the preset's
}

TEST_CASE("what a config file has otherwise is named; spellings of one value are equal", "[tools]") {
  Flags f;
  Options options = make(f);
  parse(options, {"--teacher", "T", "--models", "q_proj", "v proj", "", "--learning-rate", "0.01"});
  const std::vector<FileSetting> same{{"models", {"q_proj", "v proj", ""}},
                                      {"learning-rate", {"1e-2"}},
                                      {"dry-run", {"false"}},
                                      {"t-squared", {"auto"}},
                                      {"unknown", {"x"}},
                                      {"seed", {"1"}}};
  CHECK(options.differences(same).empty());
  const auto different = options.differences(
      {{"models", {"q_proj v", "proj", ""}}, {"steps", {"31"}}, {"dry-run", {"on"}}, {"t-squared", {"off"}}});
  REQUIRE(different.size() == 4);
  CHECK(different[0].name == "models");
  CHECK(different[0].in_file == "\"q_proj v\" proj \"\"");
  CHECK(different[0].now == "q_proj \"v proj\" \"\"");
  CHECK(different[1].in_file == "31");
  CHECK(different[1].now == "30");
  CHECK(different[2].in_file == "on");
  CHECK(different[3].now == "auto");
  CHECK(f.models.size() == 3);  // looking changes nothing
  CHECK(f.steps == 30);
  CHECK_THROWS_AS(options.differences({{"steps", {"many"}}}), UsageError);
}

TEST_CASE("a broken config file is refused with file and line", "[tools]") {
  const kdlib_tests::TemporaryDirectory folder;
  const std::string path = folder / "c.yaml";
  const auto said = [&](const std::string& text) {
    write(path, text);
    return refusal({"--config", path.c_str()});
  };
  CHECK(said("teacher: T\nstepz: 1\n") == path + ": unknown key stepz; did you mean steps?");
  CHECK(said("steps: [1, 2]\n").find("takes one value, got 2") != std::string::npos);
  CHECK(said("steps: {a: 1}\n") == path + ":1: steps must be a value or a list of values");
  CHECK(said("steps: 1\nsteps: 2\n").find("given twice") != std::string::npos);
  CHECK(said("a: [1\n").find(path + ":") == 0);
  CHECK(said("- a\n").find("the top level must be a mapping") != std::string::npos);
  Flags f;
  Options options = make(f);
  CHECK_THROWS_WITH(parse(options, {"--config", "/nonexistent/x.yaml"}), contains("--config") && contains("x.yaml"));
  CHECK_THROWS_AS(parse(options, {"--teacher", ""}), UsageError);
}

TEST_CASE("a list of names takes spaces and commas, a list of paths keeps its commas", "[tools]") {
  std::vector<std::string> tasks, models;
  Options options{"evaluate", "Measures."};
  options.add("tasks", tasks, "LIST", "tasks").names().add("models", models, "MODEL", "models");
  parse(options, {"--tasks", "a,b", "c", "--models", "x,y", "--tasks", "d"});
  CHECK(tasks == std::vector<std::string>{"a", "b", "c", "d"});
  CHECK(models == std::vector<std::string>{"x,y"});
  CHECK(options.differences({{"tasks", {"a", "b,c,d"}}, {"models", {"x", "y"}}}).size() == 1);
  CHECK_THROWS_AS(parse(options, {"--tasks", "a,,b"}), UsageError);
  CHECK_THROWS_AS(parse(options, {"--tasks", "a,"}), UsageError);
}

TEST_CASE("help names every option with its unit and default, and ends with status 0", "[tools]") {
  Flags f;
  Options options = make(f);
  const std::string help = options.help();
  CHECK_THAT(help, contains("--steps N"));
  CHECK_THAT(help, contains("optimiser steps (steps; >= 1; default 30)"));
  CHECK_THAT(help, contains("--teacher MODEL"));
  CHECK_THAT(help, contains("forward_kl | jsd"));
  CHECK_THROWS_AS(parse(options, {"--help"}), HelpRequested);
  CHECK_THROWS_WITH(parse(options, {"--version"}), contains("kdlib " KDLIB_VERSION_STRING));
}

TEST_CASE("control characters of unknown text do not reach a terminal", "[tools]") {
  CHECK(terminal_text("a\x1b[31mred\x07\tb\nc\x7f") == "a\\x1B[31mred\\x07\\x09b\nc\\x7F");
  CHECK(terminal_text("\xC2\x9B"
                      "2J \xC3\xA9 \xE2\x82\xAC \xC2") == "\\xC2\\x9B2J \xC3\xA9 \xE2\x82\xAC \\xC2");
}

TEST_CASE("a program whose standard output is lost ends with status 1 and says so", "[tools]") {
  const kdlib_tests::TemporaryDirectory folder;
  const std::string long_text(100'000, 'h');  // more than stdio keeps: the loss shows before the last flush
  for (const std::string& text : {std::string("short"), long_text}) {
    for (const bool closed : {false, true}) {
      const std::string messages = folder / "messages";
      const pid_t child = ::fork();
      if (child == 0) {
        ::dup2(::open(messages.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
        if (closed) ::close(1);
        else ::dup2(::open("/dev/full", O_WRONLY), 1);
        const int help = report(HelpRequested(text));
        std::fputs(text.c_str(), stdout);
        const int failed = finish(130);  // a status that tells more stays
        ::_exit(help == 1 && failed == 130 ? 0 : 9);
      }
      int status = -1;
      REQUIRE(::waitpid(child, &status, 0) == child);
      CHECK(status == 0);
      std::FILE* file = std::fopen(messages.c_str(), "rb");
      REQUIRE(file != nullptr);
      char line[200] = {};
      CHECK(std::fgets(line, sizeof line, file) != nullptr);
      std::fclose(file);
      CHECK_THAT(std::string(line), contains("standard output could not be written"));
    }
  }
  CHECK(finish(0) == 0);
  CHECK(finish(3) == 3);
}

TEST_CASE("an error ends a program with status 1, bad usage with 2, help with 0", "[tools]") {
  CHECK(report(IoError("disk full")) == 1);
  CHECK(report(UsageError("no such flag")) == 2);
  CHECK(report(SettingsError("settings that do not fit")) == 2);
  CHECK(report(ConfigError("a model's config.json")) == 1);
  CHECK(report(HelpRequested("")) == 0);
  try {
    checking_settings([] { fail<ConfigError>("[quantize] groups of 0 are not possible"); });
    FAIL("nothing was thrown");
  } catch (const SettingsError& error) {
    CHECK(std::string(error.what()) == "[quantize] groups of 0 are not possible");
  }
  CHECK_THROWS_AS(checking_settings([] { fail<IoError>("disk full"); }), IoError);
  CHECK(checking_settings([] { return 3; }) == 3);
}

TEST_CASE("an option that nothing would read is refused by name, one that asks for nothing is not", "[tools]") {
  const auto said = [](const std::vector<std::string>& words) {
    std::string rule = "plain";
    std::int64_t rank = 4;
    bool merge = false;
    std::optional<bool> squared;
    Options o{"prog", "Does it."};
    o.add("rule", rule, "RULE", "of codes").add("rank", rank, "N", "of the adapter").add("merge", merge, "join them");
    o.add("squared", squared, "or not");
    std::vector<const char*> argv{"prog"};
    for (const std::string& word : words) argv.push_back(word.c_str());
    o.parse(static_cast<int>(argv.size()), argv.data());
    try {
      o.check_needs({{{"rule"}, true, "never said"}, {{"rank", "merge", "squared"}, false, "there is no adapter"}});
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(said({}) == "");
  CHECK(said({"--rule", "other"}) == "");
  CHECK(said({"--rank", "8"}) == "[prog] --rank would have no effect: there is no adapter");
  CHECK(said({"--rank", "4"}) == "[prog] --rank would have no effect: there is no adapter");  // asked for all the same
  CHECK(said({"--merge"}) == "[prog] --merge would have no effect: there is no adapter");
  CHECK(said({"--merge=off"}) == "");
  CHECK(said({"--squared", "on"}) != "");
  CHECK(said({"--squared", "auto"}) == "");
}

TEST_CASE("named arguments are taken in order and counted", "[tools]") {
  const char* three[] = {"prog", "s", "c", "o"};
  const Args args{4, three, {"student", "cache", "out"}};
  CHECK(args["student"] == "s");
  CHECK(args["out"] == "o");
  CHECK_THROWS_WITH(args["teacher"], "[Args] no argument is called 'teacher'");
  CHECK_THROWS_WITH((Args{3, three, {"student", "cache", "out"}}), contains("usage: prog <student> <cache> <out>"));
  const char* help[] = {"prog", "--help"};
  CHECK_THROWS_AS((Args{2, help, {"student"}}), HelpRequested);
  const auto count = [](const char* text) {
    const char* one[] = {"prog", text};
    return Args{2, one, {"steps"}}.count("steps");
  };
  CHECK(count("150") == 150);
  for (const char* wrong : {"0", "-3", "ten", "1.5", "7 ", "", "99999999999999999999"}) {
    CHECK_THROWS_AS(count(wrong), UsageError);
    CHECK_THROWS_WITH(count(wrong), contains(std::string("<steps> is '") + wrong + "'"));
  }
}
