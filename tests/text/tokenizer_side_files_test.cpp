// SPDX-License-Identifier: Apache-2.0
// Hugging Face folders whose added tokens stand beside tokenizer.json, and what post-processors put around a text.
#include "kdlib/io/gguf.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/tokenizer_writer.hpp"
#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Ids = std::vector<std::int32_t>;

namespace {

Ids with_special(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids;
  tokenizer.encode_append(text, ids, {.add_special_tokens = true});
  return ids;
}

/// The files of one line of side_files.jsonl in a folder, with `change` applied to one of them.
class Folder {
 public:
  explicit Folder(const std::string& name) {
    for (const Json& row : read_json_lines(reference_file("text/side_files.jsonl"))) {
      if (row.at("name").as_string() != name) continue;
      for (const auto& [stem, text] : row.at("files").members()) write(std::string(stem) + ".json", text.as_string());
      return;
    }
    throw std::logic_error("no case " + name);
  }
  void write(const std::string& file, std::string_view text) { write_file_atomically(folder_ / file, text); }
  void replace(const std::string& file, const std::string& from, const std::string& to) {
    std::string text = read_file(folder_ / file);
    const std::size_t at = text.find(from);
    if (at == std::string::npos) throw std::logic_error(file + " has no " + from);
    write(file, text.replace(at, from.size(), to));
  }
  Tokenizer load() const { return Tokenizer::from_pretrained(folder_.path()); }
  std::string operator/(const std::string& name) const { return folder_ / name; }

 private:
  TemporaryDirectory folder_;
};

}  // namespace

TEST_CASE("folders with side files and post-processors give transformers' ids", "[text]") {
  std::size_t compared = 0;
  for (const Json& row : read_json_lines(reference_file("text/side_files.jsonl"))) {
    const std::string name(row.at("name").as_string());
    INFO(name);
    const Tokenizer tokenizer = Folder(name).load();
    const std::string_view text = row.at("text").as_string();
    const Ids ids = id_list(row.at("ids"));
    // The library repeats a text that the template has twice even where no special tokens are wanted.
    const bool twice = name == "text twice";
    if (!twice) CHECK(tokenizer.encode(text) == ids);
    CHECK(with_special(tokenizer, text) == id_list(row.at("with_special")));
    CHECK(tokenizer.decode(ids, true) == row.at("skipped").as_string());
    // The written tokenizer.json alone says the same.
    if (name == "split_special_tokens") continue;
    const Tokenizer again = Tokenizer::from_json_text(tokenizer_json(tokenizer), "written");
    if (!twice) CHECK(again.encode(text) == ids);
    CHECK(with_special(again, text) == id_list(row.at("with_special")));
    ++compared;
  }
  CHECK(compared == 31);
}

TEST_CASE("prefix and suffix are what stands around the text", "[text]") {
  const Tokenizer repeated = Folder("text twice").load();
  CHECK(repeated.prefix_ids() == Ids{8, 0, 1});
  CHECK(repeated.suffix_ids().empty());
  CHECK(repeated.post_processor().pair.size() == 2);
  const Tokenizer behind = Folder("token behind").load();
  CHECK(behind.prefix_ids().empty());
  CHECK(behind.suffix_ids() == Ids{8});
  const Tokenizer bert = Folder("BertProcessing").load();
  CHECK(bert.prefix_ids() == Ids{0});
  CHECK(bert.suffix_ids() == Ids{8});
  CHECK(bert.post_processor().pair.size() == 5);
  CHECK(Folder("RobertaProcessing").load().post_processor().pair.size() == 6);
  CHECK(Folder("nothing").load().prefix_ids().empty());
}

TEST_CASE("GGUF keeps bos in front and eos behind, and refuses what it has no place for", "[text]") {
  Folder folder("token in front");
  folder.write("tokenizer_config.json", R"({"bos_token":"<n>"})");
  const auto written = [&](const Tokenizer& tokenizer) {
    GgufWriter writer(folder / "x.gguf");
    write_gguf_tokenizer(tokenizer, 12, writer);
    writer.commit();
    return Tokenizer::from_pretrained(folder / "x.gguf");
  };
  CHECK(with_special(written(folder.load()), "ab") == Ids{8, 3});
  CHECK(written(folder.load()).prefix_ids() == Ids{8});
  folder.write("tokenizer_config.json", R"({"bos_token":"a"})");
  CHECK_THROWS_WITH(written(folder.load()), contains("post_processor"));
  Folder suffix("token behind");
  CHECK_THROWS_WITH(written(suffix.load()), contains("post_processor"));
  suffix.write("tokenizer_config.json", R"({"eos_token":"<n>"})");
  CHECK(with_special(written(suffix.load()), "ab") == Ids{3, 8});
  // Readers of GGUF files, this one among them, want merges.
  Folder none("nothing");
  none.replace("tokenizer.json", R"([["a","b"],["\u0120","a"]])", "[]");
  CHECK_THROWS_WITH(written(none.load()), contains("no merges"));
}

TEST_CASE("side files that clash are refused with file and key", "[text]") {
  const struct {
    std::string name, file, text, message;
  } cases[] = {
      {"added_tokens", "added_tokens.json", R"({"<n>":9})", "has the id 8"},
      {"added_tokens", "added_tokens.json", R"({"<m>":8})", "which another token has"},
      {"nothing", "added_tokens.json", R"({"ab":9})", "tokenizer.json gives 3"},
      {"nothing", "added_tokens.json", R"({"<m>":9,"<n>":9})", "which another token has"},
      {"nothing", "added_tokens.json", R"({"<m>":4194304})", "added_tokens.json"},
      {"nothing", "added_tokens.json", R"({"":8})", "empty token"},
      {"nothing", "added_tokens.json", R"(["<n>"])", "must be an object"},
      {"nothing", "tokenizer_config.json", R"({"added_tokens_decoder":{"x":{"content":"<n>"}}})", "token id"},
      {"nothing", "tokenizer_config.json", R"({"added_tokens_decoder":{"3":{"content":"<n>"}}})",
       "which another token has"},
      {"nothing", "tokenizer_config.json", R"({"added_tokens_decoder":{"99999999":{"content":"<n>"}}})", "token id"},
      {"nothing", "tokenizer_config.json", R"({"added_tokens_decoder":{"8":{"content":""}}})", "empty content"},
      {"nothing", "tokenizer_config.json", R"({"additional_special_tokens":"<n>"})", "must be an array"},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    Folder folder(c.name);
    folder.write(c.file, c.text);
    CHECK_THROWS_AS(folder.load(), FormatError);
    CHECK_THROWS_WITH(folder.load(), contains(c.file) && contains(c.message));
  }
  Folder folder("special_tokens_map");
  folder.write("config.json", R"({"vocab_size":8})");
  CHECK_THROWS_WITH(folder.load(), contains("special_tokens_map.json") && contains("eos_token") && contains("<n>") &&
                                       contains("vocab_size 8"));
}

TEST_CASE("post-processors that cannot be applied are refused with the key", "[text]") {
  const auto refused = [](const std::string& from, const std::string& to, const std::string& message) {
    INFO(to);
    Folder folder("token in front");
    folder.replace("tokenizer.json", from, to);
    CHECK_THROWS_AS(folder.load(), FormatError);
    CHECK_THROWS_WITH(folder.load(), contains("post_processor") && contains(message));
  };
  const std::string ids = R"("ids":[8])";
  const std::string single =
      R"("single":[{"SpecialToken":{"id":"<n>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}])";
  refused(ids, R"("ids":[77])", "which no token has");
  refused(ids, R"("ids":[])", "ids");
  refused(ids, R"("ids":[-1])", "ids");
  refused(single, R"("single":[])", "no place for the text");
  refused(single, R"("single":[{"SpecialToken":{"id":"<m>"}},{"Sequence":{"id":"A"}}])", "<m>");
  refused(single, R"("single":[{"Sequence":{"id":"B"}}])", "needed is A");
  refused(single, R"("single":[{"Word":{"id":"B"}}])", "neither");
  refused(R"("type":"TemplateProcessing")", R"("type":"PairProcessing")", "PairProcessing");
  Folder twice("ByteLevel behind");
  twice.replace("tokenizer.json",
                R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}])",
                R"({"type":"BertProcessing","sep":["a",0],"cls":["a",0]}])");
  CHECK_THROWS_WITH(twice.load(), contains("post_processor.processors[1]") && contains("second step"));
}

TEST_CASE("field cases 08 and 09: texts get the ids that their reports ask for", "[text][shared]") {
  const auto cases = shared_file("reference/field_cases");
  if (!cases) KDLIB_SKIP("reference/field_cases is not here (set KDLIB_SHARED_DIR)");
  const auto at = [&](const std::string& name) { return Tokenizer::from_pretrained(*cases + "/" + name); };
  CHECK(with_special(at("08-template-processing/eos_suffix"), "the word") == Ids{257, 265, 318});
  CHECK(with_special(at("08-template-processing/bos_noconf"), "the word") == Ids{317, 257, 265});
  CHECK(with_special(at("08-template-processing/bos_is_other"), "the word") == Ids{318, 257, 265});
  for (const char* place :
       {"added_tokens_decoder", "added_tokens_json", "additional_special_tokens", "special_tokens_map"}) {
    INFO(place);
    CHECK(at(std::string("09-added-tokens-in-side-files/") + place).encode("the <new> word") ==
          Ids{257, 220, 317, 265});
  }
}
