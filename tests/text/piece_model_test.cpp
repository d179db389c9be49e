// SPDX-License-Identifier: Apache-2.0
// SentencePiece tokenizers: BPE with byte fallback and Unigram, from tokenizer.json and from GGUF metadata.
#include "kdlib/text/piece_model.hpp"

#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/tokenizer_writer.hpp"
#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Ids = std::vector<std::int32_t>;

namespace {

/// A GGUF file with the metadata of SentencePiece's pieces, scores and types (one entry each).
struct PieceFile {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  std::vector<float> scores;
  bool space_prefix = true;

  static PieceFile reference() {
    PieceFile out;
    for (const Json& row : Json::parse_file(reference_file("text/pieces.scores.json"))) {
      out.tokens.emplace_back(row[0].as_string());
      out.scores.push_back(static_cast<float>(row[1].as_double()));
      out.types.push_back(static_cast<std::int32_t>(row[2].as_int()));
    }
    return out;
  }

  /// a, b, ab, U+2581 and the unknown token.
  static PieceFile tiny() { return {{"<unk>", "a", "b", "ab", "\u2581"}, {2, 1, 1, 1, 1}, {0, -3, -4, -1, -5}, true}; }

  Tokenizer load() const {
    const TemporaryDirectory folder;
    GgufWriter writer(folder / "x.gguf");
    writer.string("tokenizer.ggml.model", "llama");
    writer.strings("tokenizer.ggml.tokens", tokens).i32s("tokenizer.ggml.token_type", types);
    writer.f32s("tokenizer.ggml.scores", scores).boolean("tokenizer.ggml.add_space_prefix", space_prefix);
    writer.commit();
    return Tokenizer::from_pretrained(folder / "x.gguf");
  }
};

Tokenizer reference(const std::string& name) {
  if (name == "scores") return PieceFile::reference().load();
  const std::string end = name.rfind("model-", 0) == 0 ? ".model" : ".json";
  return Tokenizer::from_pretrained(reference_file("text/pieces." + name + end));
}

/// The text of a reference file with one change.
std::string changed(const std::string& name, const std::string& from, const std::string& to) {
  std::string text = read_file(reference_file("text/pieces." + name + ".json"));
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::logic_error(name + " has no " + from);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("SentencePiece tokenizers give the published libraries' ids and texts", "[text]") {
  std::size_t compared = 0;
  std::string name;
  std::optional<Tokenizer> tokenizer;
  for (const Json& row : read_json_lines(reference_file("text/pieces.jsonl"))) {
    if (row.at("tokenizer").as_string() != name) tokenizer = reference(name = row.at("tokenizer").as_string());
    const std::string_view text = row.at("text").as_string();
    INFO(name << ": " << text);
    const Ids ids = id_list(row.at("ids"));
    // sentencepiece itself knows no special tokens in a text.
    const bool plain = name == "scores" || name.rfind("model-", 0) == 0;
    CHECK(tokenizer->encode(text, plain ? SpecialTokens::plain : SpecialTokens::parse) == ids);
    const std::string decoded = tokenizer->decode(ids);
    if (const auto expected = row.find("decoded")) CHECK(decoded == expected->as_string());
    StreamDecoder stream(*tokenizer);
    std::string parts;
    for (const std::int32_t id : ids) parts += stream.push(id);
    CHECK(parts + stream.flush() == decoded);
    ++compared;
  }
  CHECK(compared == 12 * 70);
}

TEST_CASE("the kinds of tokenizers are told apart", "[text]") {
  CHECK(reference("bpe-llama").model() == TokenizerModel::character_bpe);
  CHECK(reference("unigram-split").model() == TokenizerModel::unigram);
  CHECK(reference("scores").model() == TokenizerModel::character_bpe);
  const Tokenizer qwen = Tokenizer::from_pretrained(reference_file("text/qwen3.tokenizer.json"));
  CHECK(qwen.model() == TokenizerModel::byte_level_bpe);
}

TEST_CASE("any bytes come back from a tokenizer with byte fallback", "[text]") {
  for (const char* name : {"bpe-llama", "bpe-gemma", "scores"}) {
    INFO(name);
    const Tokenizer tokenizer = reference(name);
    for (const std::string bytes : {"", " ", "  a b", "\xFF\xFE", "a\u2581b", "\u65e5\u672c <s>", "\n\n x"})
      CHECK(tokenizer.decode_bytes(tokenizer.encode_bytes(bytes)) == bytes);
  }
  CHECK_THROWS_AS(reference("bpe-split").encode_bytes("\xFF"), InputError);
}

TEST_CASE("tokens are known by their text and by their bytes", "[text]") {
  const Tokenizer tokenizer = reference("bpe-llama");
  CHECK(tokenizer.unknown_id() == 0);
  CHECK(tokenizer.token_to_id("<s>") == 1);
  CHECK(tokenizer.token_bytes(3) == std::string(1, '\0'));  // <0x00>
  CHECK(tokenizer.token_bytes(3 + 0xE2) == "\xE2");
  const auto space = tokenizer.token_to_id(" ");
  REQUIRE(space);
  CHECK(tokenizer.token_bytes(*space) == " ");
  CHECK(tokenizer.encode("<s>a", SpecialTokens::plain) != tokenizer.encode("<s>a"));
}

TEST_CASE("SentencePiece tokenizers are written so that the same ids come back", "[text]") {
  const TemporaryDirectory folder;
  for (const char* name :
       {"bpe-llama", "bpe-gemma", "bpe-split", "unigram-first", "unigram-split", "map-t5", "map-words", "scores"}) {
    INFO(name);
    const Tokenizer tokenizer = reference(name);
    const Tokenizer again = Tokenizer::from_json_text(tokenizer_json(tokenizer), "written");
    CHECK(again.content_hash() == tokenizer.content_hash());
    GgufWriter writer(folder / "x.gguf");
    if (std::string(name) == "scores") {
      write_gguf_tokenizer(tokenizer, tokenizer.vocab_size() + 2, writer);
      writer.commit();
    } else {
      CHECK_THROWS_WITH(write_gguf_tokenizer(tokenizer, tokenizer.vocab_size(), writer), contains("scores"));
    }
    for (const Json& row : read_json_lines(reference_file("text/pieces.jsonl"))) {
      if (row.at("tokenizer").as_string() != name) continue;
      const std::string_view text = row.at("text").as_string();
      CHECK(again.encode(text) == tokenizer.encode(text));
      CHECK(again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text)));
      if (std::string(name) == "scores")
        CHECK(Tokenizer::from_pretrained(folder / "x.gguf").encode(text) == tokenizer.encode(text));
    }
  }
}

TEST_CASE("scores: the highest joined piece first, the leftmost of equals", "[text]") {
  PieceFile file = PieceFile::tiny();
  CHECK(file.load().encode("ab") == Ids{4, 3});  // U+2581 in front, then a + b
  file.space_prefix = false;
  CHECK(file.load().encode("ab") == Ids{3});
  CHECK(file.load().encode("axxb") == Ids{1, 0, 2});
  CHECK(file.load().decode(Ids{4, 3, 4, 1}) == " ab a");
  file.tokens = {"<unk>", "a", "b", "aa", "\u2581", "xb"};  // x has no piece of its own
  file.types = {2, 1, 1, 1, 1, 1};
  file.scores = {0, -3, -4, -1, -5, -2};
  CHECK(file.load().encode("aaa") == Ids{3, 1});
  CHECK(file.load().encode("axb") == Ids{1, 5});
  CHECK(file.load().encode("ax") == Ids{1, 0});
}

TEST_CASE("a text of one long word takes no longer than many short ones", "[text]") {
  for (const char* name : {"bpe-llama", "unigram-first", "scores"}) {
    const Tokenizer tokenizer = reference(name);
    const std::string same(1 << 18, 'e'), spaces(1 << 18, ' ');
    CHECK(tokenizer.decode(tokenizer.encode(same)) == same);
    CHECK(tokenizer.decode(tokenizer.encode(spaces)).size() >= spaces.size() - 1);
  }
}

TEST_CASE("broken SentencePiece tokenizers are refused with file and key", "[text]") {
  const struct {
    std::string name, from, to, message;
  } cases[] = {
      {"bpe-llama", R"("unk_token": "<unk>")", R"("unk_token": "<none>")", "model.unk_token"},
      {"bpe-llama", R"("merges": [[)", R"("merges": [["zz", "y"], [)", "model.merges[0]"},
      {"bpe-llama", R"("merges": [[)", R"("merges": [["y"], [)", "model.merges[0]"},
      {"bpe-llama", R"("<s>": 1)", R"("<s>": 2)", "already"},
      {"bpe-llama", R"("<s>": 1)", R"("": 1)", "empty piece"},
      {"bpe-llama", R"({"id": 1,)", R"({"id": 7,)", "added_tokens[1]"},
      {"bpe-llama", R"("dropout": null)", R"("dropout": 0.5)", "model.dropout"},
      {"bpe-llama", R"("type": "Prepend")", R"("type": "Precompiled")", "precompiled_charsmap"},
      {"map-t5", R"("precompiled_charsmap": ")", R"("precompiled_charsmap": "*)", "base64"},
      {"map-t5", R"("precompiled_charsmap": ")", R"("precompiled_charsmap": "AAAA)", "map of characters"},
      {"map-t5", R"("strip_left": false)", R"("strip_left": 0)", "strip_left"},
      {"bpe-llama", R"("type": "Fuse")", R"("type": "CTC")", "CTC"},
      {"bpe-llama", R"("start": 1)", R"("start": 2)", "decoder"},
      {"bpe-gemma", R"({"String": " "}, "behavior")", R"({"String": "x"}, "behavior")", "pre_tokenizer"},
      {"bpe-split", R"("prepend_scheme": "always")", R"("prepend_scheme": "seldom")", "prepend_scheme"},
      {"bpe-split", R"("type": "Metaspace")", R"("type": "Whitespace")", "pre_tokenizer.type"},
      {"unigram-first", R"("unk_id": 0)", R"("unk_id": 100000)", "model.unk_id"},
      {"unigram-first", R"("unk_id": 0)", R"("unk_id": null)", "unk_id"},
      {"unigram-first", R"("vocab": [[)", R"("vocab": [["x"], [)", "model.vocab[0]"},
      {"unigram-first", R"("vocab": [["<unk>", 0.0])", R"("vocab": [["<unk>", "0"])", "model.vocab[0]"},
  };
  for (const auto& c : cases) {
    INFO(c.name << ": " << c.from << " -> " << c.to);
    const std::string text = changed(c.name, c.from, c.to);
    CHECK_THROWS_AS(Tokenizer::from_json_text(text, "x.json"), FormatError);
    CHECK_THROWS_WITH(Tokenizer::from_json_text(text, "x.json"), contains("x.json") && contains(c.message));
  }
  const std::string whole = read_file(reference_file("text/pieces.unigram-first.json"));
  for (std::size_t n = 0; n < whole.size(); n += 997)
    CHECK_THROWS_AS(Tokenizer::from_json_text(whole.substr(0, n), "x.json"), FormatError);
}

TEST_CASE("broken GGUF pieces are refused with the key", "[text]") {
  const auto refused = [](const PieceFile& file, const std::string& message) {
    INFO(message);
    CHECK_THROWS_AS(file.load(), FormatError);
    CHECK_THROWS_WITH(file.load(), contains("tokenizer.ggml") && contains(message));
  };
  PieceFile file = PieceFile::tiny();
  file.scores.pop_back();
  refused(file, "entries for 5 tokens");
  file = PieceFile::tiny();
  file.scores[1] = std::numeric_limits<float>::quiet_NaN();
  refused(file, "scores[1] is not finite");
  file = PieceFile::tiny();
  file.tokens[2] = "a";
  refused(file, "tokens[2] is there twice");
  file = PieceFile::tiny();
  file.types[4] = 6;
  refused(file, "not written as a byte");
  file = PieceFile::tiny();
  file.types[4] = 9;
  refused(file, "type 9");
  file = PieceFile::tiny();
  file.types[0] = 1;
  refused(file, "neither an unknown token");
  file = PieceFile::tiny();
  file.tokens[3] = std::string(600, 'a');
  refused(file, "600 bytes");
  file = PieceFile::tiny();
  file.tokens[3] = "\xFF";
  refused(file, "no UTF-8");
}
