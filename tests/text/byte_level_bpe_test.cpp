// SPDX-License-Identifier: Apache-2.0
// Tokenizers against the Hugging Face library on cut-down files (tests/reference/text), and the ids that are published.
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/vocabulary.hpp"

#include <thread>

#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Ids = std::vector<std::int32_t>;

namespace {

Tokenizer cut_down(const std::string& name) {
  return Tokenizer::from_pretrained(reference_file("text/" + name + ".tokenizer.json"));
}

/// The merge loop from its definition alone, over bytes: what encode() must equal on one piece of any length.
Ids merge_slowly(const Tokenizer& tokenizer, std::string_view piece, const Json& merges) {
  std::vector<std::string> parts;
  for (const char c : piece) parts.push_back(std::string(1, c));
  std::vector<std::pair<std::string, std::string>> order;
  for (const Json& m : merges) {
    std::string left, right;
    const std::string_view text = m.is_string() ? m.as_string() : std::string_view();
    REQUIRE(
        kdlib::detail::append_alphabet_bytes(m.is_string() ? text.substr(0, text.find(' ')) : m[0].as_string(), left));
    REQUIRE(kdlib::detail::append_alphabet_bytes(m.is_string() ? text.substr(text.find(' ') + 1) : m[1].as_string(),
                                                 right));
    order.emplace_back(left, right);
  }
  for (const auto& [left, right] : order) {
    // Ranks only fall behind: no later merge makes an earlier one possible, as each joins what earlier ones made.
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      if (parts[i] != left || parts[i + 1] != right) continue;
      parts[i] += parts[i + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(*tokenizer.token_to_id(part));
  return ids;
}

}  // namespace

TEST_CASE("any bytes come back from their ids", "[text]") {
  std::uint32_t state = 1;
  for (const std::string name : {"qwen3", "gpt-oss"}) {
    const Tokenizer tokenizer = Tokenizer::from_pretrained(reference_file("text/" + name + ".tokenizer.json"));
    for (std::size_t length = 0; length < 400; ++length) {
      std::string bytes;
      for (std::size_t i = 0; i < length; ++i) {
        state = state * 1664525u + 1013904223u;
        bytes += static_cast<char>(
            static_cast<unsigned char>((state >> 16 & 3) == 0 ? state >> 24 : "e\xCC\x81 <"[state >> 24 & 3]));
      }
      CHECK(tokenizer.decode_bytes(tokenizer.encode_bytes(bytes)) == bytes);
    }
    const std::string decomposed = "e\xCC\x81<|endoftext|>\xFF";
    CHECK(tokenizer.decode_bytes(tokenizer.encode_bytes(decomposed)) == decomposed);  // neither NFC nor special tokens
    for (const std::int32_t id : tokenizer.encode_bytes(decomposed)) CHECK_FALSE(tokenizer.is_special(id));
    const std::string text = "Hello  world, 12\n";
    CHECK(tokenizer.encode_bytes(text) == tokenizer.encode(text));
  }
  const Tokenizer smol = Tokenizer::from_pretrained(reference_file("text/smollm2.tokenizer.json"));
  CHECK_THROWS_AS(smol.encode_bytes("ab\xFF"), InputError);
  CHECK_THROWS_WITH(smol.encode_bytes("ab\xFF"), contains("byte 255 at offset 2"));
}

TEST_CASE("cut-down tokenizers give the library's ids in all three readings of added tokens", "[text]") {
  for (const std::string name : {"qwen3", "gpt-oss", "smollm2"}) {
    const Tokenizer tokenizer = cut_down(name);
    const std::vector<Json> rows = read_json_lines(reference_file("text/" + name + ".jsonl"));
    CHECK(rows.size() > 500);
    for (const Json& row : rows) {
      const std::string_view text = row.at("text").as_string();
      INFO(name << ": " << text);
      const Ids ids = id_list(row.at("ids"));
      CHECK(tokenizer.encode(text) == ids);
      CHECK(tokenizer.encode(text, SpecialTokens::special_text) ==
            id_list(row.find("ids_no_special").value_or(row.at("ids"))));
      CHECK(tokenizer.encode(text, SpecialTokens::plain) == id_list(row.find("ids_plain").value_or(row.at("ids"))));
      CHECK(tokenizer.decode(ids) == row.find("decoded").value_or(row.at("text")).as_string());
    }
  }
}

TEST_CASE("published ids come out", "[text]") {
  // Ids that other implementations publish for the whole tokenizers; the cut-down files keep what these texts need.
  const Tokenizer qwen = cut_down("qwen3"), o200k = cut_down("gpt-oss"), smol = cut_down("smollm2");
  CHECK(qwen.encode("Hello, world!") == Ids{9707, 11, 1879, 0});
  CHECK(qwen.encode("  two  spaces   end  ") == Ids{220, 1378, 220, 12621, 256, 835, 256});
  CHECK(qwen.encode("I'm we'LL don't IT'S") == Ids{40, 2776, 582, 6, 4086, 1513, 944, 8700, 13272});
  CHECK(qwen.encode("cafe\u0301") == Ids{924, 58858});  // normalised
  CHECK(qwen.encode("<|im_start|>user\nHi<|im_end|>\n") == Ids{151644, 872, 198, 13048, 151645, 198});
  CHECK(o200k.encode("Hello, world!") == Ids{13225, 11, 2375, 0});
  CHECK(o200k.encode("cafe\u0301") == Ids{66, 6903, 13430});  // not normalised
  CHECK(o200k.encode("3.14159 12345678") == Ids{18, 13, 16926, 4621, 220, 7633, 19354, 4388});
  CHECK(o200k.encode("camelCaseWORDSHere's") == Ids{178067, 6187, 175051, 53329});
  CHECK(smol.encode("1234567890 + 3.14159") ==
        Ids{33, 34, 35, 36, 37, 38, 39, 40, 41, 32, 1232, 216, 35, 30, 33, 36, 33, 37, 41});
  CHECK(smol.encode("don't can't won't I'm you're") == Ids{12420, 982, 416, 982, 3763, 982, 339, 5248, 346, 2316});
  CHECK(smol.encode("Mixed \u65e5\u672c\u8a9e and English in ONE sentence 123") ==
        Ids{61, 13609, 17097, 241, 115, 40993, 179, 120, 248, 284, 2321, 281, 24319, 6330, 216, 33, 34, 35});
  CHECK(smol.encode("").empty());
}

TEST_CASE("bytes without a token vanish before merging, are counted, and are refused in strict mode", "[text]") {
  const Tokenizer smol = cut_down("smollm2");
  Ids ids;
  CHECK(smol.encode_append("!\x04!", ids) == 1);
  CHECK(ids == smol.encode("!!"));
  CHECK(smol.encode_append("!!", ids) == 0);
  const std::size_t before = ids.size();
  CHECK_THROWS_WITH(smol.encode_append("a\x04\x06", ids, {SpecialTokens::parse, true}), contains("2 of 3 bytes"));
  CHECK(ids.size() == before);
  const Tokenizer qwen = cut_down("qwen3");
  ids.clear();
  std::string every;
  for (char32_t c = 1; c < 0x800; ++c) append_utf8(every, c);
  CHECK(qwen.encode_append(every, ids, {SpecialTokens::parse, true}) == 0);
}

TEST_CASE("decoding gives the bytes of the text back", "[text]") {
  const Tokenizer o200k = cut_down("gpt-oss");  // no normalisation and all bytes
  std::string text;
  for (char32_t c = 0; c < 0x30000; c += 7)
    if (c < 0xD800 || c > 0xDFFF) append_utf8(text, c);
  CHECK(o200k.decode_bytes(o200k.encode(text)) == text);
  CHECK(o200k.decode(o200k.encode("<|start|>user<|message|>Hi<|end|>"), true) == "userHi");
  CHECK(o200k.decode(o200k.encode("<|start|>user<|message|>Hi<|end|>")) == "<|start|>user<|message|>Hi<|end|>");
  const Tokenizer qwen = cut_down("qwen3");
  CHECK(qwen.decode(qwen.encode("<|im_start|><think>a</think>"), true) == "<think>a</think>");  // not special, so kept
}

TEST_CASE("streaming lets out whole characters only, and everything in the end", "[text]") {
  const Tokenizer qwen = cut_down("qwen3");
  Ids bytes;
  for (const char c : std::string("a\xF0\x9F\x98\x80\xE6\x97z\xFF\xC3"))
    bytes.push_back(*qwen.token_to_id(std::string(1, c)));
  StreamDecoder stream(qwen);
  const std::string bad = "\xEF\xBF\xBD";
  const std::vector<std::string> expected = {"a", "", "", "", "\U0001F600", "", "", bad + "z", bad, ""};
  std::vector<std::string> emitted;
  for (const std::int32_t id : bytes) emitted.push_back(stream.push(id));
  CHECK(emitted == expected);
  CHECK(stream.flush() == bad);
  CHECK(stream.flush() == "");
  CHECK(stream.push(-1) == "");
}

TEST_CASE("ids without a token add nothing unless they are checked", "[text]") {
  const Tokenizer qwen = cut_down("qwen3");
  CHECK(qwen.decode(Ids{9707, 151900, -5, 1879}) == "Hello world");
  CHECK_THROWS_WITH(qwen.check_ids(Ids{9707, 151900}),
                    contains("151900") && contains("position 1") && contains("151668"));
  CHECK_NOTHROW(qwen.check_ids(Ids{9707, 151668}));
}

TEST_CASE("text that is not UTF-8 is refused with the offset", "[text]") {
  CHECK_THROWS_WITH(cut_down("qwen3").encode("abc\xFF"), contains("byte 3 of 4"));
}

TEST_CASE("very long pieces are merged as short ones are", "[text]") {
  const Tokenizer smol = cut_down("smollm2");
  const Json file = Json::parse_file(reference_file("text/smollm2.tokenizer.json"));
  const Json merges = file.at("model").at("merges");
  std::string letters;
  for (int i = 0; letters.size() < 3000; ++i) letters += "thereinganderonationstheenedloverinthe"[(i * 7 + i / 5) % 38];
  for (const std::size_t n : {5u, 63u, 64u, 65u, 66u, 300u, 3000u}) {
    const std::string piece = letters.substr(0, n);
    INFO("letters: " << n);
    CHECK(smol.encode(piece) == merge_slowly(smol, piece, merges));
  }
  const std::string same(200000, 'e');
  CHECK(smol.decode_bytes(smol.encode(same)) == same);
  std::string half = same.substr(0, 300);
  CHECK(smol.encode(half) == merge_slowly(smol, half, merges));
}

TEST_CASE("several threads share one tokenizer", "[text]") {
  const Tokenizer qwen = cut_down("qwen3");
  const std::string text = "The quick brown fox jumps over the lazy dog. don't 12345 \u65e5\u672c\u8a9e";
  const Ids expected = qwen.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> equal(4, 0);
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) equal[t] += qwen.encode(text) == expected;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(equal == std::vector<int>(4, 200));
}

TEST_CASE("the content hash is of what ids mean", "[text]") {
  const Tokenizer qwen = cut_down("qwen3");
  CHECK(qwen.content_hash() == cut_down("qwen3").content_hash());
  CHECK(qwen.content_hash() != cut_down("gpt-oss").content_hash());
  std::string text = read_file(reference_file("text/qwen3.tokenizer.json"));
  const std::string from = "\"<tool_call>\"";
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), "\"<tool_cell>\"");
  CHECK(Tokenizer::from_json_text(text, "changed").content_hash() != qwen.content_hash());
}
