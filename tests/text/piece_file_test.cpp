// SPDX-License-Identifier: Apache-2.0
// tokenizer.model, the sentencepiece library's own file: fields, what stands around a text, folders, broken files. Ids
// are compared with the library's in piece_model_test.cpp.
#include <cstring>

#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/chars_map.hpp"
#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/tokenizer_writer.hpp"
#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Ids = std::vector<std::int32_t>;

namespace {

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 128; value >>= 7) out.push_back(static_cast<char>(value | 128));
  return out += static_cast<char>(value);
}
std::string number(unsigned field, std::uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes(unsigned field, const std::string& text) {
  return varint(field << 3 | 2) + varint(text.size()) + text;
}
std::string piece(const std::string& text, float score, unsigned type) {
  std::string value(4, '\0');
  std::memcpy(value.data(), &score, 4);
  return bytes(1, bytes(1, text) + varint(2 << 3 | 5) + value + number(3, type));
}

/// <unk>, <s>, </s>, U+2581, a, b, ab; BPE without a map of characters.
std::string pieces() {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581", -3, 1) + piece("a", -4, 1) +
         piece("b", -5, 1) + piece("ab", -1, 1);
}
std::string trainer(std::uint64_t type = 2) { return bytes(2, number(3, type)); }
std::string plain_normalizer() { return bytes(3, number(3, 0) + number(4, 0)); }

Tokenizer load(const std::string& file) { return Tokenizer::from_piece_bytes(file, "x.model"); }

}  // namespace

TEST_CASE("the fields of tokenizer.model", "[text]") {
  const Tokenizer plain = load(pieces() + trainer() + plain_normalizer());
  CHECK(plain.model() == TokenizerModel::character_bpe);
  CHECK(plain.vocab_size() == 7);
  CHECK(plain.encode("ab b") == Ids{6, 3, 5});
  CHECK(plain.encode("axxb") == Ids{4, 0, 5});
  CHECK(plain.encode("a<s>") == Ids{4, 1});
  CHECK(plain.encode("a<s>", SpecialTokens::plain) == Ids{4, 0});
  CHECK(plain.decode(Ids{3, 6}) == " ab");
  CHECK(plain.bos_id() == 1);
  CHECK(plain.eos_id() == 2);
  CHECK_FALSE(plain.pad_id());
  CHECK(plain.stop_ids() == Ids{2});
  CHECK(plain.prefix_ids() == Ids{1});

  const Tokenizer defaults = load(pieces() + trainer());  // a dummy prefix, and no more spaces than needed
  CHECK(defaults.encode("  ab   b ") == Ids{3, 6, 3, 5});
  CHECK(defaults.decode(Ids{3, 6, 3, 5}) == "ab b");
  CHECK(defaults.encode("  ").empty());
  CHECK(load(pieces() + trainer(1)).model() == TokenizerModel::unigram);
  // Fields that kdlib does not know are passed over, in any order.
  CHECK(load(number(99, 5) + trainer() + bytes(77, "x") + varint(50 << 3 | 1) + std::string(8, 'y') + pieces())
            .encode("ab") == Ids{3, 6});
  // Other ids of bos and eos.
  const Tokenizer other =
      load(pieces() + bytes(2, number(3, 2) + number(41, 2) + varint(42 << 3) + std::string(9, '\xFF') + '\1'));
  CHECK(other.bos_id() == 2);
  CHECK_FALSE(other.eos_id());  // -1
}

TEST_CASE("pieces that users have defined are found first and never joined", "[text]") {
  const std::string defined = pieces() + piece("ba", 0, 4);
  CHECK(load(defined + trainer() + plain_normalizer()).encode("aba") == Ids{4, 7});
  CHECK(load(defined + trainer(1) + plain_normalizer()).encode("aba") == Ids{4, 7});
  CHECK(load(pieces() + trainer() + plain_normalizer()).encode("aba") == Ids{6, 4});
}

TEST_CASE("a folder with tokenizer.model", "[text]") {
  const TemporaryDirectory folder;
  write_file_atomically(folder / "tokenizer.model", pieces() + trainer() + plain_normalizer());
  CHECK(Tokenizer::from_pretrained(folder.path()).prefix_ids() == Ids{1});
  CHECK(Tokenizer::from_pretrained(folder / "tokenizer.model").encode("ab") == Ids{6});
  write_file_atomically(
      folder / "tokenizer_config.json",
      "{\"add_bos_token\": false, \"add_eos_token\": true, \"eos_token\": \"</s>\", \"chat_template\": "
      "\"{{ messages[0].content }}\"}");
  const Tokenizer configured = Tokenizer::from_pretrained(folder.path());
  CHECK(configured.prefix_ids().empty());
  CHECK(configured.suffix_ids() == Ids{2});
  CHECK(configured.chat_template() == "{{ messages[0].content }}");
  for (const char* name : {"x.model.v3", "x.spm"}) {
    write_file_atomically(folder / name, pieces() + trainer() + plain_normalizer());
    CHECK(Tokenizer::from_pretrained(folder / name).encode("ab") == Ids{6});
  }
  write_file_atomically(folder / "tokenizer_config.json", "{\"tokenizer_class\": \"T5Tokenizer\"}");
  CHECK(Tokenizer::from_pretrained(folder.path()).prefix_ids().empty());
  CHECK(Tokenizer::from_pretrained(folder.path()).suffix_ids() == Ids{2});
  const TemporaryDirectory t5;
  write_file_atomically(t5 / "spiece.model", pieces() + trainer(1));
  CHECK(Tokenizer::from_pretrained(t5.path()).model() == TokenizerModel::unigram);
}

TEST_CASE("tokenizer.model as GGUF and as tokenizer.json", "[text]") {
  const TemporaryDirectory folder;
  const Tokenizer from_file = Tokenizer::from_pretrained(reference_file("text/pieces.model-plain.model"));
  GgufWriter writer(folder / "x.gguf");
  write_gguf_tokenizer(from_file, from_file.vocab_size(), writer);
  writer.commit();
  CHECK(has_gguf_form(from_file));
  const Tokenizer again = Tokenizer::from_pretrained(folder / "x.gguf");
  CHECK(again.content_hash() == from_file.content_hash());
  const std::string text = "for (int i = 0;  i < n; ++i) Gr\u00f6\u00dfe";
  CHECK(again.encode(text) == from_file.encode(text));
  for (const char* name : {"model-unigram", "model-bpe"}) {
    const Tokenizer mapped = Tokenizer::from_pretrained(reference_file(std::string("text/pieces.") + name + ".model"));
    GgufWriter other(folder / "y.gguf");
    CHECK_FALSE(has_gguf_form(mapped));
    CHECK_THROWS_WITH(write_gguf_tokenizer(mapped, mapped.vocab_size(), other), contains("no map of characters"));
    CHECK_THROWS_WITH(tokenizer_json(mapped), contains("only tokenizer.model can say"));
  }
}

TEST_CASE("broken tokenizer.model files are refused with file and byte", "[text]") {
  const auto refused = [](const std::string& file, const std::string& message) {
    INFO(message);
    CHECK_THROWS_AS(load(file), FormatError);
    CHECK_THROWS_WITH(load(file), contains("x.model") && contains(message));
  };
  refused("", "has no pieces");
  refused(trainer(), "has no pieces");
  refused("{\"version\": \"1.0\"}", "at byte 0");
  refused(pieces() + trainer(3), "model_type is 3");
  refused(pieces() + bytes(2, number(3, 2) + number(24, 1)), "treat_whitespace_as_suffix");
  refused(pieces() + trainer() + bytes(3, number(5, 0)), "escape_whitespaces");
  refused(pieces() + trainer() + bytes(5, bytes(2, "abcd")), "when text is decoded");
  refused(pieces() + bytes(2, number(3, 2) + number(35, 1)), "some bytes have no piece");
  refused(pieces() + trainer() + bytes(3, bytes(2, "abcdefgh")), "map of characters has 8 bytes");
  refused(pieces() + trainer() + bytes(3, bytes(2, std::string("\4\0\0\0abcdef", 10))), "do not end with a zero byte");
  refused(piece("a", 0, 1) + trainer(), "no piece is of type unknown");
  refused(pieces() + piece("a", 0, 1), "is there twice");
  refused(pieces() + piece("\xFF", 0, 1), "no UTF-8");
  refused(pieces() + piece("x", std::numeric_limits<float>::infinity(), 1), "score");
  refused(pieces() + piece("x", 0, 9), "type 9");
  refused(pieces() + bytes(1, number(1, 3)), "of another type");
  refused(pieces() + std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 11), "more than 64 bits");
  refused(pieces() + "\x0B", "wire type 3");
  refused(pieces() + number(0, 1), "number 0");
  const std::string whole = read_file(reference_file("text/pieces.model-bpe.model"));
  std::size_t cuts = 0, errors = 0;
  for (std::size_t n = 0; n < whole.size(); n += 211, ++cuts) {
    try {
      load(whole.substr(0, n));  // between two pieces: a file of fewer pieces
    } catch (const FormatError&) {
      ++errors;
    }
  }
  CHECK(errors > cuts / 2);
}

TEST_CASE("base64 and grapheme clusters", "[text]") {
  // RFC 4648, section 10.
  const std::pair<const char*, const char*> vectors[] = {{"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
                                                         {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, coded] : vectors) {
    std::string out;
    CHECK(detail::encode_base64(plain) == coded);
    CHECK(detail::decode_base64(coded, out));
    CHECK(out == plain);
  }
  std::string out;
  CHECK_FALSE(detail::decode_base64("Zg=", out));
  CHECK_FALSE(detail::decode_base64("Zg*=", out));
  // Unicode Standard Annex 29: accents stay with letters, line ends are one cluster, controls stand alone.
  CHECK(detail::grapheme_end("e\u0301\u0301x", 0) == 5);
  CHECK(detail::grapheme_end("\r\n\n", 0) == 2);
  CHECK(detail::grapheme_end("\n\u0301", 0) == 1);
  CHECK(detail::grapheme_end("\u0600e\u0301", 0) == 5);
  CHECK(detail::grapheme_end("a\u200bb", 0) == 1);
  CHECK(detail::grapheme_end("ab", 0) == 1);
}
