// SPDX-License-Identifier: Apache-2.0
// Tokenizer files: Hugging Face folders, GGUF metadata, the rules for added tokens, and what is refused.
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/vocabulary.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Ids = std::vector<std::int32_t>;

namespace {

/// A tokenizer of four tokens; `change` is applied to its text.
std::string tiny(const std::string& from = "", const std::string& to = "") {
  std::string text =
      R"({"version":"1.0","truncation":null,"padding":null,)"
      R"("added_tokens":[{"id":4,"content":"<e>","single_word":false,"lstrip":false,"rstrip":false,)"
      R"("normalized":false,"special":true}],)"
      R"("normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
      R"("use_regex":true},)"
      R"("post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
      R"("use_regex":true},)"
      R"("model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"",)"
      R"("end_of_word_suffix":"","fuse_unk":false,)"
      R"("byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":1,"Ġ":2,"ab":3},"merges":[["a","b"]]}})";
  if (from.empty()) return text;
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("tiny() has no " + from);
  return text.replace(at, from.size(), to);
}

Tokenizer load(const std::string& text) { return Tokenizer::from_json_text(text, "tokenizer.json"); }

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * i))));
}
void put_text(std::string& out, std::string_view text) {
  put(out, text.size(), 8);
  out += text;
}

/// GGUF bytes with the tokenizer keys that a conversion of this tokenizer.json would have.
std::string as_gguf(const Tokenizer& tokenizer, const Json& file, std::string_view pre) {
  const Json merges = file.at("model").at("merges");
  const auto n = static_cast<std::size_t>(tokenizer.vocab_size()) + 3;  // padding rows behind the last token
  std::string tokens, types, pairs, out = "GGUF";
  for (std::size_t i = 0; i < n; ++i) {
    const auto id = static_cast<std::int32_t>(i);
    const AddedToken* added = nullptr;
    for (const AddedToken& token : tokenizer.added_tokens())
      if (token.id == id) added = &token;
    put_text(tokens, added != nullptr          ? added->content
                     : tokenizer.has_token(id) ? kdlib::detail::to_alphabet(tokenizer.token_bytes(id))
                                               : "[PAD" + std::to_string(i) + "]");
    put(types, added != nullptr ? (added->special ? 3 : 4) : tokenizer.has_token(id) ? 1 : 5, 4);
  }
  for (const Json& merge : merges)
    put_text(pairs, merge.is_string() ? std::string(merge.as_string())
                                      : std::string(merge[0].as_string()) + " " + std::string(merge[1].as_string()));
  put(out, 3, 4);  // version
  put(out, 0, 8);  // tensors
  put(out, 7, 8);  // metadata
  const auto text = [&](std::string_view key, std::string_view value) {
    put_text(out, key);
    put(out, 8, 4);
    put_text(out, value);
  };
  const auto array = [&](std::string_view key, std::uint32_t kind, std::size_t count, const std::string& data) {
    put_text(out, key);
    put(out, 9, 4);
    put(out, kind, 4);
    put(out, count, 8);
    out += data;
  };
  text("tokenizer.ggml.model", "gpt2");
  text("tokenizer.ggml.pre", pre);
  array("tokenizer.ggml.tokens", 8, n, tokens);
  array("tokenizer.ggml.token_type", 5, n, types);
  array("tokenizer.ggml.merges", 8, merges.size(), pairs);
  put_text(out, "tokenizer.ggml.eos_token_id");
  put(out, 4, 4);
  put(out, static_cast<std::uint64_t>(*tokenizer.token_to_id(tokenizer.added_tokens()[0].content)), 4);
  text("tokenizer.chat_template", "{{ x }}");
  out.resize((out.size() + 31) / 32 * 32);
  return out;
}

}  // namespace

TEST_CASE("GGUF metadata give the tokenizer that tokenizer.json gives", "[text]") {
  const TemporaryDirectory folder;
  const std::pair<std::string, std::string> cases[] = {
      {"qwen3", "qwen2"}, {"gpt-oss", "gpt-4o"}, {"smollm2", "smollm"}};
  for (const auto& [name, pre] : cases) {
    INFO(name);
    const std::string path = reference_file("text/" + name + ".tokenizer.json");
    const Tokenizer json = Tokenizer::from_pretrained(path);
    write_file_atomically(folder / (name + ".gguf"), as_gguf(json, Json::parse_file(path), pre));
    const Tokenizer gguf = Tokenizer::from_pretrained(folder / (name + ".gguf"));
    CHECK(gguf.content_hash() == json.content_hash());
    CHECK(gguf.vocab_size() == json.vocab_size());
    CHECK(gguf.merge_count() == json.merge_count());
    CHECK(gguf.pre_tokenizer() == json.pre_tokenizer());
    CHECK(gguf.normalizes_nfc() == json.normalizes_nfc());
    CHECK(gguf.eos_id() == gguf.added_tokens()[0].id);
    Ids stop{gguf.added_tokens()[0].id};  // eos; the others are found by their texts, <|end|> of gpt-oss is none
    for (const char* text : {"<|endoftext|>", "<|im_end|>", "<|return|>", "<|call|>", "<|fim_pad|>", "<|repo_name|>",
                             "<reponame>", "<|file_sep|>"})
      if (const auto id = gguf.token_to_id(text)) stop.push_back(*id);
    std::sort(stop.begin(), stop.end());
    stop.erase(std::unique(stop.begin(), stop.end()), stop.end());
    CHECK(stop.size() >= 2);
    CHECK(gguf.stop_ids() == stop);
    CHECK(gguf.chat_template() == "{{ x }}");
    for (const Json& row : read_json_lines(reference_file("text/" + name + ".jsonl")))
      CHECK(gguf.encode(row.at("text").as_string()) == id_list(row.at("ids")));
  }
}

TEST_CASE("GGUF metadata that are not byte-level BPE are refused by key", "[text]") {
  const TemporaryDirectory folder;
  const Tokenizer small = load(tiny());
  const std::string good = as_gguf(small, Json::parse(tiny(), "tiny"), "gpt-2");
  const auto changed = [&](std::string from, const std::string& to) {
    std::string bytes = good;
    const std::size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    REQUIRE(from.size() == to.size());
    bytes.replace(at, from.size(), to);
    write_file_atomically(folder / "x.gguf", bytes);
    return folder / "x.gguf";
  };
  CHECK(Tokenizer::from_pretrained(changed("gpt2", "gpt2")).encode("ab") == Ids{3});
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(changed("gpt2", "bert")),
                    contains("x.gguf") && contains("tokenizer.ggml.model is \"bert\""));
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(changed("gpt-2", "dbrx ")), contains("tokenizer.ggml.pre is \"dbrx \""));
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(changed("tokenizer.ggml.merges", "tokenizer.ggml.merged")),
                    contains("tokenizer.ggml.merges"));
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(changed("a b", "a c")), contains("tokenizer.ggml.merges[0]"));
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(changed("a b", "a_b")), contains("tokenizer.ggml.merges[0]"));
}

TEST_CASE("a Hugging Face folder gives special ids, the template and the stop ids", "[text]") {
  const TemporaryDirectory folder;
  const auto write = [&](const std::string& name, std::string_view text) {
    write_file_atomically(folder / name, text);
  };
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(folder.path()), contains("tokenizer.json is not there"));
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(folder / "no_such_file"), contains("no_such_file"));
  write("tokenizer.json", tiny());
  const Tokenizer bare = Tokenizer::from_pretrained(folder.path());
  CHECK(!bare.eos_id());
  CHECK(bare.stop_ids().empty());
  CHECK(bare.chat_template().empty());

  write("tokenizer_config.json",
        R"({"bos_token":null,"eos_token":{"content":"<e>","special":true},"pad_token":"a","chat_template":"{{ 1 }}"})");
  write("generation_config.json", R"({"eos_token_id":[4,1]})");
  write("config.json", R"({"vocab_size":5,"eos_token_id":2})");
  const Tokenizer full = Tokenizer::from_pretrained(folder.path());
  CHECK(!full.bos_id());
  CHECK(full.eos_id() == 4);
  CHECK(full.pad_id() == 0);
  CHECK(full.stop_ids() == Ids{1, 4});
  CHECK(full.chat_template() == "{{ 1 }}");
  CHECK(full.prefix_ids().empty());
  for (const char* id : {"4294967297", "-1", "1.5", "[1, 4294967296]"}) {  // none is cut to 32 bits
    CAPTURE(id);
    write("generation_config.json", concat("{\"eos_token_id\":", id, "}"));
    CHECK_THROWS_WITH(Tokenizer::from_pretrained(folder.path()),
                      contains("generation_config.json") && contains("eos_token_id"));
  }
  write("generation_config.json", R"({"eos_token_id":[4,1]})");

  write("chat_template.jinja", "{{ 2 }}");
  CHECK(Tokenizer::from_pretrained(folder.path()).chat_template() == "{{ 2 }}");
  write("tokenizer_config.json", R"({"eos_token":"<f>"})");
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(folder.path()),
                    contains("tokenizer_config.json") && contains("eos_token") && contains("<f>"));
  write("tokenizer_config.json", "{}");
  write("config.json", R"({"vocab_size":4})");
  CHECK_THROWS_WITH(Tokenizer::from_pretrained(folder.path()),
                    contains("highest token id is 4") && contains("vocab_size 4"));
  // Reserved names beyond the model's rows are dropped.
  write("tokenizer.json", tiny("\"<e>\"", "\"<|reserved_4|>\""));
  CHECK(Tokenizer::from_pretrained(folder.path()).vocab_size() == 4);
}

TEST_CASE("added tokens: longest first, and the flags of an entry", "[text]") {
  const std::string two =
      R"({"id":4,"content":"<e>","FLAG":true,"special":true},{"id":5,"content":"<e>>","special":false})";
  const std::string one =
      R"({"id":4,"content":"<e>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true})";
  const auto with = [&](const std::string& flag) {
    std::string entries = two;
    return load(tiny(one, entries.replace(entries.find("FLAG"), 4, flag)));
  };
  const Tokenizer plain = with("unused");
  CHECK(plain.encode("a<e>b") == Ids{0, 4, 1});
  CHECK(plain.encode("<e>><e>") == Ids{5, 4});
  CHECK(plain.encode("ab <e> ab") == Ids{3, 2, 4, 2, 3});
  CHECK(plain.encode("a<e>b", SpecialTokens::plain) == Ids{0, 1});  // "<e>" has no bytes here
  CHECK(plain.encode("<e>><e>", SpecialTokens::special_text) == Ids{5});
  CHECK(with("lstrip").encode("ab \t<e> ab") == Ids{3, 4, 2, 3});
  CHECK(with("rstrip").encode("ab <e>\u3000 ab") == Ids{3, 2, 4, 3});
  CHECK(with("rstrip").encode("<e> <e>") == Ids{4, 4});
  CHECK(with("lstrip").encode("<e> <e>") == Ids{4, 4});
  CHECK(with("single_word").encode("a<e> <e> <e>b") == Ids{0, 2, 4, 2, 1});
  CHECK(with("normalized").encode("a<e>b<e>>") == Ids{0, 4, 1, 5});
}

TEST_CASE("an unknown-token name stands for bytes without a token", "[text]") {
  const Tokenizer tokenizer = load(tiny("\"unk_token\":null", "\"unk_token\":\" \""));
  CHECK(tokenizer.encode("axa") == Ids{0, 2, 0});
}

TEST_CASE("broken tokenizer.json files are refused with file and key", "[text]") {
  CHECK_NOTHROW(load(tiny()));
  const std::string regex =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"post)";
  const struct {
    std::string from, to, message;
  } cases[] = {
      {"\"1.0\"", "\"2.0\"", "version"},
      {"\"BPE\"", "\"Unigram\"", "model.type"},
      {"\"dropout\":null", "\"dropout\":0.1", "model.dropout"},
      {"\"continuing_subword_prefix\":\"\"", "\"continuing_subword_prefix\":\"##\"", "model.continuing_subword_prefix"},
      {"\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"</w>\"", "model.end_of_word_suffix"},
      {"\"byte_fallback\":false", "\"byte_fallback\":true", "model.byte_fallback"},
      {"\"fuse_unk\":false", "\"fuse_unk\":true", "model.fuse_unk"},
      {"\"unk_token\":null", "\"unk_token\":\"z\"", "model.unk_token"},
      {"[[\"a\",\"b\"]]", "[[\"a\",\"c\"]]", "model.merges[0]"},
      {"[[\"a\",\"b\"]]", "[[\"c\",\"b\"]]", "model.merges[0]"},
      {"[[\"a\",\"b\"]]", "[[\"b\",\"a\"]]", "model.merges[0]"},
      {"[[\"a\",\"b\"]]", "[\"a b\",\"ab\"]", "model.merges[1]"},
      {"[[\"a\",\"b\"]]", "[\"a  b\"]", "model.merges[0]"},
      {"[[\"a\",\"b\"]]", "[[\"a\",\"b\",\"a\"]]", "model.merges[0]"},
      {"[[\"a\",\"b\"]]", "[7]", "model.merges[0]"},
      {"[[\"a\",\"b\"]]", "{}", "model.merges"},
      {"\"ab\":3", "\"ab\":1", "model.vocab.ab"},
      {"\"ab\":3", "\"a\":3", "tokenizer.json"},
      {"\"ab\":3", "\"ab\":-1", "model.vocab.ab"},
      {"\"ab\":3", "\"ab\":3000000000", "model.vocab.ab"},
      {"\"ab\":3", "\"ab\":3.5", "model.vocab.ab"},
      {"\"ab\":3", "\"a b\":3", "model.vocab.a b"},
      {"\"ab\":3", "\"日\":3", "model.vocab"},
      {"\"ab\":3", "\"<e>\":3", "added_tokens"},
      {"\"id\":4", "\"id\":0", "added_tokens[0]"},
      {"\"content\":\"<e>\"", "\"content\":\"\"", "added_tokens[0]"},
      {"\"vocab\":{\"a\":0,\"b\":1,\"Ġ\":2,\"ab\":3}", "\"vocab\":{}", "model.vocab"},
      {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}", "normalizer.type"},
      {"\"pre_tokenizer\":{", "\"pre_tokenizer\":null,\"x\":{", "pre_tokenizer"},
      {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "pre_tokenizer.add_prefix_space"},
      {"\"use_regex\":true},\"post", "\"use_regex\":false},\"post", "pre_tokenizer"},
      {regex, R"({"type":"Whitespace"},"post)", "pre_tokenizer.type"},
      {regex, R"({"type":"Split","pattern":{"Regex":"\\d"},"behavior":"Isolated","invert":false},"post)", R"(\d)"},
      {regex, R"({"type":"Split","pattern":{"Regex":"\\d"},"behavior":"Removed","invert":false},"post)",
       "pre_tokenizer.behavior"},
      {regex, R"({"type":"Digits","individual_digits":false},"post)", "individual_digits"},
      {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"WordPiece\"", "decoder.type"},
      {"\"post_processor\":null", "\"post_processor\":{\"type\":\"BertProcessing\"}", "post_processor.cls"},
      {"\"post_processor\":null", "\"post_processor\":{\"type\":\"Other\"}", "post_processor.type"},
      {"{\"version\"", "[{\"version\"", "tokenizer.json"},
      {"\"merges\"", "\"merge\"", "model.merges is missing"},
  };
  for (const auto& c : cases) {
    INFO(c.from << " -> " << c.to);
    CHECK_THROWS_AS(load(tiny(c.from, c.to)), FormatError);
    CHECK_THROWS_WITH(load(tiny(c.from, c.to)), contains("tokenizer.json") && contains(c.message));
  }
  const std::string whole = tiny();
  for (std::size_t n = 0; n < whole.size(); n += 13) CHECK_THROWS_AS(load(whole.substr(0, n)), FormatError);
}

TEST_CASE("a template behind the model is applied where it is asked for", "[text]") {
  const Tokenizer tokenizer = load(tiny(
      "\"post_processor\":null",
      R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<e>","type_id":0}},)"
      R"({"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<e>":{"id":"<e>","ids":[4],"tokens":["<e>"]}}})"));
  CHECK(tokenizer.prefix_ids() == Ids{4});
  CHECK(tokenizer.encode("ab") == Ids{3});
}

TEST_CASE("tokens whose texts end answers are found beside those that GGUF metadata name", "[text]") {
  const auto path = shared_file("reference/field_cases/12-gguf-end-of-turn/eos_is_endoftext.gguf");
  if (!path) KDLIB_SKIP("reference/field_cases/12-gguf-end-of-turn is not here (set KDLIB_SHARED_DIR)");
  const Tokenizer tokenizer = Tokenizer::from_pretrained(*path);
  CHECK(tokenizer.eos_id() == 319);
  CHECK(tokenizer.stop_ids() == Ids{318, 319});  // <|im_end|>, <|endoftext|>
}
