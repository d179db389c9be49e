// SPDX-License-Identifier: Apache-2.0
// Text to ids and back on one thread, in megabytes of text a second, and chat templates in microseconds for four turns.
// The peer is benchmarks/peers/hf_tokenize.py with the same files. Checked before it is timed: the ids decode to the
// text (to its NFC where the tokenizer normalises). Where ids do not hold the whole text (normalisers of SentencePiece,
// unknown characters), --fingerprint takes what the peer printed, and the ids must be the peer's.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/mapped_file.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/chat_template.hpp"
#include "kdlib/text/nfc.hpp"
#include "kdlib/tools/options.hpp"

namespace kd = kdlib;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Lines joined to documents of at least `bytes` bytes: what a data pipeline gives a tokenizer.
std::vector<std::string_view> documents_of(std::string_view text, std::size_t bytes) {
  std::vector<std::string_view> list;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t line = text.find('\n', std::min(begin + bytes, text.size()));
    const std::size_t end = line == std::string_view::npos ? text.size() : line + 1;
    list.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return list;
}

/// FNV-1a over the ids of all documents, as the peer computes it.
std::uint64_t fingerprint(const std::vector<std::int32_t>& ids) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const std::int32_t id : ids)
    for (int shift = 0; shift < 32; shift += 8)
      h = (h ^ (static_cast<std::uint32_t>(id) >> shift & 0xFF)) * 0x100000001b3u;
  return h;
}

template <class F>
double median_seconds(int repeats, F&& work) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const double begin = now();
    work();
    seconds.push_back(now() - begin);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

/// Microseconds to render four turns with the generation prompt; the template is parsed once.
double template_microseconds(const kd::ChatTemplate& chat, int repeats) {
  const std::vector<kd::ChatMessage> talk = {{"system", "You answer in one short sentence."},
                                             {"user", "What is the boiling point of water at sea level?"},
                                             {"assistant", "100 degrees Celsius, or 212 degrees Fahrenheit."},
                                             {"user", "And on Mont Blanc?"}};
  kd::RenderOptions options;
  options.add_generation_prompt = true;
  const std::string expected = chat.render(talk, options);
  for (const kd::ChatMessage& m : talk)
    kd::require<kd::FormatError>(expected.find(m.content) != std::string::npos,
                                 "[bench_tokenize] a message is not in the rendered text: ", m.content);
  constexpr int times = 1000;
  bool same = true;
  const double seconds = median_seconds(repeats, [&] {
    for (int i = 0; i < times; ++i) same = chat.render(talk, options) == expected && same;
  });
  kd::require<kd::FormatError>(same, "[bench_tokenize] a second rendering is another text");
  return seconds / times * 1e6;
}

struct Work {
  std::string tokenizer, text, chat_template, fingerprint;
  int repeats = 5, document_bytes = 4096;
};

/// Each document's ids decode to it, but for what SentencePiece writes alike (U+2581 and a space).
bool decodes(const kd::Tokenizer& tokenizer, const std::vector<std::string_view>& documents) {
  for (const std::string_view d : documents) {
    if (tokenizer.model() != kd::TokenizerModel::byte_level_bpe && d.find("\u2581") != d.npos) continue;
    if (tokenizer.decode_bytes(tokenizer.encode(d)) != (tokenizer.normalizes_nfc() ? kd::nfc(d) : std::string(d)))
      return false;
  }
  return true;
}

void run(const Work& work) {
  const auto tokenizer = kd::Tokenizer::from_pretrained(work.tokenizer);
  const kd::MappedFile mapped(work.text);
  const std::string text = kd::replace_invalid_utf8(
      std::string_view(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()));
  const std::vector<std::string_view> documents = documents_of(text, static_cast<std::size_t>(work.document_bytes));
  std::vector<std::int32_t> all, ids;
  const double first = median_seconds(1, [&] {
    for (const std::string_view d : documents) tokenizer.encode_append(d, all);
  });
  const std::string fingerprint_of_all = kd::concat(fingerprint(all));
  if (work.fingerprint.empty())
    kd::require<kd::FormatError>(decodes(tokenizer, documents), "[bench_tokenize] the ids do not decode to the text; ",
                                 "give --fingerprint of the peer (benchmarks/peers/hf_tokenize.py) instead");
  else
    kd::require<kd::FormatError>(work.fingerprint == fingerprint_of_all,
                                 "[bench_tokenize] the ids have the "
                                 "fingerprint ",
                                 fingerprint_of_all, ", the peer's ", work.fingerprint);
  const double encode = median_seconds(work.repeats, [&] {
    ids.clear();
    for (const std::string_view d : documents) tokenizer.encode_append(d, ids);
  });
  kd::require<kd::FormatError>(ids == all, "[bench_tokenize] a second run gives other ids");
  std::string decoded;
  const double decode = median_seconds(work.repeats, [&] { decoded = tokenizer.decode_bytes(all); });
  const double size = static_cast<double>(text.size()) * 1e-6;
  kd::JsonWriter out;
  out.begin_object()
      .member("text_bytes", static_cast<std::int64_t>(text.size()))
      .member("documents", static_cast<std::int64_t>(documents.size()));
  out.member("ids", static_cast<std::int64_t>(all.size())).member("fingerprint", fingerprint_of_all);
  out.member("first_mb_per_s", size / first)
      .member("encode_mb_per_s", size / encode)
      .member("decode_mb_per_s", size / decode);
  if (!work.chat_template.empty() || !tokenizer.chat_template().empty())
    out.member("template_us",
               template_microseconds(kd::chat_template_from(work.chat_template, tokenizer), work.repeats));
  out.end_object();
  std::printf("%s\n", out.text().c_str());
}

}  // namespace

int main(int argc, char** argv) try {
  Work work;
  int threads = 1;
  std::uint64_t seed = 0;
  kd::Options options{"bench_tokenize", "Measures encoding and decoding on one thread."};
  options.add("tokenizer", work.tokenizer, "PATH", "directory, tokenizer.json or GGUF file")
      .required()
      .add("text", work.text, "FILE", "UTF-8 text")
      .required()
      .add("template", work.chat_template, "NAME|FILE",
           "chat template to time; default: the tokenizer's own, if it has one")
      .add("repeats", work.repeats, "N", "measured runs; the median counts")
      .add("document-bytes", work.document_bytes, "BYTES", "text is cut at the first line end behind so many bytes")
      .add("fingerprint", work.fingerprint, "N", "the peer's, checked instead of decoding; default: ids must decode");
  options.common(threads, seed).parse(argc, argv);
  run(work);
  return 0;
} catch (const std::exception& error) {
  return kd::report(error);
}
