// SPDX-License-Identifier: Apache-2.0
// All of reference/tokenizers of the shared folder: ids, texts, bytes and streams of the published tokenizers, exactly.
#include "kdlib/text/chat_template.hpp"

#include "support/catch.hpp"
#include "text/reference_files.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

std::string skip_reason(const std::string& what) {
  return what + ": the shared folder (KDLIB_SHARED_DIR) or xz is not here";
}

/// The published tokenizer.json of the shared folder, unpacked; empty when it is not there.
std::optional<Tokenizer> published(const std::string& name) {
  const auto path = shared_maybe_packed("data/tokenizers/" + name + "/tokenizer.json");
  if (!path || !have_xz()) return std::nullopt;
  return Tokenizer::from_json_text(read_maybe_packed(*path), *path);
}

void check_strings(const Tokenizer& tokenizer, const std::string& name) {
  const std::vector<Json> strings = read_json_lines(*shared_maybe_packed("reference/tokenizers/strings.jsonl"));
  const std::vector<Json> rows = read_json_lines(*shared_maybe_packed("reference/tokenizers/" + name + ".ids.jsonl"));
  REQUIRE(rows.size() == strings.size());
  std::size_t compared = 0;
  for (const Json& row : rows) {
    const Json string = strings.at(static_cast<std::size_t>(row.at("i").as_int()));
    const std::string_view text = string.at("text").as_string();
    INFO("string " << row.at("i").as_int() << " of class " << string.at("class").as_string());
    const std::vector<std::int32_t> ids = id_list(row.at("ids"));
    const Json plain = row.find("ids_plain").value_or(row.at("ids_no_special"));
    CHECK(tokenizer.encode(text) == ids);
    CHECK(tokenizer.encode(text, SpecialTokens::special_text) == id_list(row.at("ids_no_special")));
    CHECK(tokenizer.encode(text, SpecialTokens::plain) == id_list(plain));
    CHECK(tokenizer.decode(ids) == row.at("decoded").as_string());
    ++compared;
  }
  CHECK(compared == 603 + 60);  // all of strings.jsonl
}

void check_bytes(const Tokenizer& tokenizer, const std::string& name) {
  std::size_t compared = 0;
  for (const Json& row : read_json_lines(*shared_maybe_packed("reference/tokenizers/bytes.jsonl"))) {
    if (row.at("tokenizer").as_string() != name) continue;
    ++compared;
    const std::vector<std::int32_t> ids = id_list(row.at("ids"));
    if (row.at("class").as_string() == "not_utf8_alone") {
      std::vector<std::int32_t> found;
      for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id)
        if (find_invalid_utf8(tokenizer.token_bytes(id)) != std::string_view::npos) found.push_back(id);
      CHECK(found == ids);
      for (std::size_t i = 0; i < ids.size(); ++i)
        CHECK(hex(tokenizer.token_bytes(ids[i])) == row.at("hex")[i].as_string());
      continue;
    }
    const std::string bytes = tokenizer.decode_bytes(ids);
    CHECK(hex(bytes) == row.at("hex").as_string());
    if (name != "smollm2") CHECK(tokenizer.decode_bytes(tokenizer.encode_bytes(bytes)) == bytes);
    CHECK(tokenizer.decode(ids) == row.at("text").as_string());
    StreamDecoder stream(tokenizer);
    const Json emit = row.at("emit");
    REQUIRE(emit.size() == ids.size() + 1);
    for (std::size_t i = 0; i < ids.size(); ++i) CHECK(stream.push(ids[i]) == emit[i].as_string());
    CHECK(stream.flush() == emit[ids.size()].as_string());
  }
  CHECK(compared > 300);
}

}  // namespace

TEST_CASE("qwen3: ids, texts and streams equal the reference", "[text][shared]") {
  const auto tokenizer = published("qwen3");
  if (!tokenizer) KDLIB_SKIP(skip_reason("qwen3 of reference/tokenizers"));
  CHECK(tokenizer->vocab_size() == 151669);
  check_strings(*tokenizer, "qwen3");
  check_bytes(*tokenizer, "qwen3");
}

TEST_CASE("gpt-oss: ids, texts and streams equal the reference", "[text][shared]") {
  const auto tokenizer = published("gpt-oss");
  if (!tokenizer) KDLIB_SKIP(skip_reason("gpt-oss of reference/tokenizers"));
  CHECK(tokenizer->vocab_size() == 200019);
  check_strings(*tokenizer, "gpt-oss");
  check_bytes(*tokenizer, "gpt-oss");
}

TEST_CASE("smollm2: ids, texts, streams and chats equal the reference", "[text][shared]") {
  const auto chats = shared_maybe_packed("reference/tokenizers/chat.jsonl");
  const char* given = ::getenv("KDLIB_SMOLLM2_GGUF");
  const std::string path = given != nullptr ? given : source_dir() + "/build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!chats || !have_xz()) KDLIB_SKIP(skip_reason("smollm2 of reference/tokenizers"));
  if (!exists(path))
    KDLIB_SKIP("smollm2 of reference/tokenizers: no GGUF file (KDLIB_SMOLLM2_GGUF, or scripts/demo fetches it)");
  const Tokenizer tokenizer = Tokenizer::from_pretrained(path);
  CHECK(tokenizer.vocab_size() == 49152);
  CHECK(tokenizer.merge_count() == 48900);
  CHECK(tokenizer.eos_id() == 2);
  CHECK(tokenizer.prefix_ids().empty());
  check_strings(tokenizer, "smollm2");
  check_bytes(tokenizer, "smollm2");
  const ChatTemplate chat = ChatTemplate::of(tokenizer);
  std::size_t compared = 0;
  for (const Json& row : read_json_lines(*chats)) {
    if (row.at("template").as_string() != "smollm2") continue;
    ++compared;
    INFO(row.at("name").as_string());
    const std::vector<ChatMessage> messages = chat_messages_from_json(row.at("messages"));
    RenderOptions options;
    options.add_generation_prompt = row.at("add_generation_prompt").as_bool();
    CHECK(chat.render(messages, options) == row.at("text").as_string());
    CHECK(chat.render_ids(tokenizer, messages, options, {}, SpecialTokens::parse).ids == id_list(row.at("ids")));
    CHECK(chat.render_ids(tokenizer, messages, options).ids ==
          id_list(row.find("ids_content_plain").value_or(row.at("ids"))));
  }
  CHECK(compared > 50);
}
