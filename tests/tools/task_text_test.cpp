// SPDX-License-Identifier: Apache-2.0
// Strings as lm-evaluation-harness treats them. Expected texts: Python 3.11 on the harness's own functions (0.4.13),
// unless a comment says otherwise.
#include "kdlib/tools/task_text.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/tools/choice_tasks.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;

TEST_CASE("white space is Python's", "[tools]") {
  CHECK(strip(" \t\n a b\xC2\xA0\xE3\x80\x80\x1C ") == "a b");
  CHECK(strip(" \xE2\x80\x89 ").empty());
  CHECK(trailing_space("ab \xC2\x85") == 3);
  CHECK(trailing_space("ab") == 0);
  CHECK(count_characters("na\xC3\xAFve \xF0\x9F\x99\x82") == 7);
  CHECK(count_words("") == 1);
  CHECK(count_words("a") == 1);
  CHECK(count_words(" a  b\n") == 4);  // '', 'a', 'b', ''
  CHECK(count_words("a\xC2\xA0"
                    "b") == 2);
}

TEST_CASE("capitalize lowers all but the first character", "[tools]") {
  CHECK(capitalize("he Then STIRS") == "He then stirs");
  CHECK(capitalize("") == "");
  CHECK(capitalize(" aB") == " ab");
  CHECK(capitalize("\xC3\x84RGERLICH \xD0\x96\xD0\x90") == "\xC3\x84rgerlich \xD0\xB6\xD0\xB0");
  CHECK(capitalize("\xC7\x84"
                   "A") ==
        "\xC7\x85"
        "a");                                           // U+01C4 has a title case of its own, U+01C5
  CHECK_THROWS_AS(capitalize("\xC3\x9F"), InputError);  // becomes "Ss"
  CHECK_THROWS_AS(capitalize("a\xC4\xB0"), InputError);
}

TEST_CASE("hellaswag's clean-up drops marks on one line only", "[tools]") {
  CHECK(hellaswag_text("Baking: A man [step] mixes dough. He then stirs") ==
        "Baking: A man mixes dough. He then stirs");
  CHECK(hellaswag_text(" a [title] b [substeps] c ") == "a. b c");
  CHECK(hellaswag_text("[a\n] b [c]") == "[a\n] b ");
  CHECK(hellaswag_text("[x[y]z] w") == "z] w");
  CHECK(hellaswag_text("a     b") == "a   b");  // five spaces: two pairs and one
}

TEST_CASE("wikitext pages are detokenised as the harness does", "[tools]") {
  CHECK(wikitext_text(" = The Lamp = \n It , in 1 @,@ 904 ( a  2 @.@ 5 m flame ) . \n") ==
        " = The Lamp =\nIt, in 1,904 (a  2.5 m flame).\n");
  CHECK(wikitext_text("said : \" it is \" . = = A = = ( x") == "said: \"it is\". == A == ( x");
  CHECK(wikitext_text("the ' old ' days , 4 \xC2\xB0 C N N") ==
        "the 'old' days, 4\xC2\xB0"
        "C 1 N");
  CHECK(wikitext_text("boats ' [ y\n ] { z } = = = B = = = q 's") == "boats'[y] {z} === B === q's");
}

TEST_CASE("lines of tasks that cannot be scored are refused with file, line and field", "[tools]") {
  const kdlib_tests::TemporaryDirectory dir;
  const auto refuses = [&](const std::string& task, const std::string& line, const std::string& part) {
    write_file_atomically(dir / (task + ".jsonl"), line + "\n");
    try {
      read_choice_task(task, dir.path());
    } catch (const Error& error) {
      INFO(error.what());
      CHECK(std::string(error.what()).find(part) != std::string::npos);
      CHECK(std::string(error.what()).find(task + ".jsonl") != std::string::npos);
      return;
    }
    FAIL("not refused: " << line);
  };
  refuses("winogrande", R"({"sentence":"no blank","option1":"a","option2":"b","answer":"1"})", "sentence has no blank");
  refuses("winogrande", R"({"sentence":"a _ b","option1":"a","option2":"b","answer":""})", "answer must be");
  refuses("hellaswag", R"({"activity_label":"a","ctx_a":"b","ctx_b":"c","endings":["d","e"],"label":""})",
          "label is empty");
  refuses("hellaswag", R"({"activity_label":"a","ctx_a":"b","ctx_b":"c","endings":["d","e"],"label":"2"})",
          "label is not the index");
  refuses("arc_easy", R"({"question":"q","choices":{"text":["a","b"],"label":["A","B"]},"answerKey":"C"})",
          "answerKey is not one of");
  refuses("arc_easy", R"({"question":"q","choices":{"text":["a","b"],"label":["A"]},"answerKey":"A"})",
          "label has 1 entries");
  refuses("mmlu", R"({"question":"q","subject":"s","choices":["a","b","c"],"answer":0})", "choices has 3 entries");
  refuses("mmlu", R"({"question":"q","choices":["a","b","c","d"],"answer":0})", "subject");
  refuses("mmlu", "", "holds no documents");
  CHECK_THROWS_AS(read_choice_task("arc_challenge", dir.path()), IoError);
  CHECK_THROWS_AS(read_choice_task("piqa", dir.path()), ConfigError);
}
