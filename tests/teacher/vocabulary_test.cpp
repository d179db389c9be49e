// SPDX-License-Identifier: Apache-2.0
// Teacher and student must speak of the same tokens.
#include "kdlib/teacher/vocabulary.hpp"

#include "kdlib/io/atomic_file.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;

namespace {

struct Added {
  int id;
  std::string content;
  bool special = true;
};

/// A tokenizer of the letters a and b, of ab, and of added tokens.
Tokenizer tokenizer_of(const std::vector<Added>& added, const std::string& vocabulary = R"("a":0,"b":1,"ab":2)") {
  std::string list;
  for (const Added& t : added)
    list += concat(list.empty() ? "" : ",", R"({"id":)", t.id, R"(,"content":")", t.content,
                   R"(","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":)",
                   t.special ? "true" : "false", "}");
  const std::string byte_level =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
  const kdlib_tests::TemporaryDirectory dir;
  write_file_atomically(
      dir / "tokenizer.json",
      concat(R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)", list,
             R"(],"normalizer":null,"pre_tokenizer":)", byte_level, R"(,"post_processor":null,"decoder":)", byte_level,
             R"(,"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"",)",
             R"("end_of_word_suffix":"","fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{)",
             vocabulary, R"(},"merges":[["a","b"]]}})"));
  return Tokenizer::from_pretrained(dir / "tokenizer.json");
}

std::string refusal(const Tokenizer& teacher, const Tokenizer& student) {
  try {
    share_vocabulary({16, &teacher}, {16, &student});
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("models without tokenizers need equal numbers of rows", "[teacher]") {
  REQUIRE(common_vocabulary({320, nullptr}, {320, nullptr}) == 320);
  REQUIRE_THROWS_AS(common_vocabulary({320, nullptr}, {321, nullptr}), ConfigError);
  REQUIRE_THROWS_WITH(common_vocabulary({320, nullptr}, {321, nullptr}),
                      contains("320 rows and no tokenizer") && contains("321 rows") && contains("one family"));
}

TEST_CASE("equal tokenizers share their ids however the heads are padded, different ones are refused by name and hash",
          "[teacher]") {
  const Tokenizer a = Tokenizer::from_pretrained(kdlib_tests::reference_file("text/smollm2.tokenizer.json"));
  const Tokenizer again = Tokenizer::from_pretrained(kdlib_tests::reference_file("text/smollm2.tokenizer.json"));
  const Tokenizer b = Tokenizer::from_pretrained(kdlib_tests::reference_file("text/qwen3.tokenizer.json"));
  const std::int64_t ids = a.vocab_size();
  REQUIRE(common_vocabulary({ids, &a}, {ids, &again}) == ids);
  REQUIRE(common_vocabulary({ids + 64, &a}, {ids + 128, &again}) == ids);
  REQUIRE(common_vocabulary({ids + 64, &a}, {ids + 64, &again}) == ids + 64);
  const std::int64_t rows = b.vocab_size();
  REQUIRE_THROWS_WITH(common_vocabulary({rows, &b}, {rows, &a}),
                      contains("qwen3") && contains("smollm2") && contains("hash"));
}

TEST_CASE("a tokenizer with more ids than the model has rows is refused", "[teacher]") {
  const Tokenizer a = Tokenizer::from_pretrained(kdlib_tests::reference_file("text/smollm2.tokenizer.json"));
  REQUIRE_NOTHROW(check_tokenizer_fits(a, a.vocab_size()));
  REQUIRE_THROWS_WITH(check_tokenizer_fits(a, 320), contains("320 rows") && contains("belongs to the model"));
  REQUIRE_THROWS_AS(common_vocabulary({320, &a}, {320, nullptr}), ConfigError);
}

TEST_CASE("added tokens of one side are named, and the ids both have are compared", "[teacher]") {
  const Tokenizer plain = tokenizer_of({{3, "<end>"}, {4, "<start>"}});
  const Tokenizer more = tokenizer_of({{3, "<end>"}, {4, "<start>"}, {5, "<tool>"}, {6, "<think>"}});
  for (const bool teacher_has_more : {true, false}) {
    const SharedVocabulary shared =
        share_vocabulary({16, teacher_has_more ? &more : &plain}, {16, teacher_has_more ? &plain : &more});
    CHECK(shared.ids == 5);
    REQUIRE(shared.notes.size() == 2);
    CHECK_THAT(shared.notes[0], contains(teacher_has_more ? "only the teacher's" : "only the student's") &&
                                    contains("5 \"<tool>\", 6 \"<think>\""));
    CHECK_THAT(shared.notes[1], contains("the first 5 ids"));
  }
  // A token in between that one side lacks, or holds as a reserved name.
  const Tokenizer gap = tokenizer_of({{4, "<start>"}}),
                  reserved = tokenizer_of({{3, "<|reserved_special_token_0|>"}, {4, "<start>"}});
  CHECK(share_vocabulary({16, &plain}, {16, &gap}).ids == 5);
  CHECK(share_vocabulary({16, &reserved}, {16, &plain}).ids == 5);
  CHECK_THAT(share_vocabulary({16, &reserved}, {16, &plain}).notes[0],
             contains("only the student's") && contains("3 \"<end>\""));
  // Both at once, and heads of other widths.
  const SharedVocabulary both = share_vocabulary({16, &more}, {8, &gap});
  CHECK(both.ids == 5);
  CHECK_THAT(both.notes[0], contains("3 \"<end>\", 5 \"<tool>\", 6 \"<think>\""));
  CHECK_THAT(both.notes[1], contains("the teacher has 16 rows, the student 8"));
}

TEST_CASE("a token that is special on one side only is told", "[teacher]") {
  const Tokenizer a = tokenizer_of({{3, "<end>"}, {4, "<tool>", false}}),
                  b = tokenizer_of({{3, "<end>"}, {4, "<tool>"}});
  const SharedVocabulary shared = share_vocabulary({16, &a}, {16, &b});
  CHECK(shared.ids == 5);
  CHECK_THAT(shared.notes[0], contains("special in one tokenizer only") && contains("4 \"<tool>\""));
}

TEST_CASE("one id for two tokens, moved tokens and other base vocabularies are refused", "[teacher]") {
  const Tokenizer base = tokenizer_of({{3, "<end>"}, {4, "<start>"}});
  CHECK_THAT(refusal(base, tokenizer_of({{3, "<end>"}, {4, "<other>"}})),
             contains("id 4 is \"<start>\" for the teacher and \"<other>\" for the student") && contains("hash"));
  CHECK_THAT(refusal(base, tokenizer_of({{3, "<start>"}, {4, "<end>"}})), contains("id 3 is \"<end>\""));
  CHECK_THAT(refusal(base, tokenizer_of({{3, "<end>"}, {7, "<start>"}})),
             contains("\"<start>\" is id 4 for the teacher and id 7 for the student"));
  CHECK_THAT(refusal(base, tokenizer_of({{3, "<end>"}}, R"("a":0,"b":1,"ab":2,"c":4)")), contains("id 4 is"));
  CHECK_THAT(refusal(base, tokenizer_of({{3, "<end>"}, {4, "<start>"}}, R"("a":0,"b":1,"ab":2,"c":5)")),
             contains("id 5 is \"c\" in the student's base vocabulary, and no token of the teacher's"));
}
