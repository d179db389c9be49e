// SPDX-License-Identifier: Apache-2.0
// Bodies of remote_probes.hpp.
#ifndef KDLIB_TEACHER_REMOTE_PROBES_INL_HPP
#define KDLIB_TEACHER_REMOTE_PROBES_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/teacher/remote_probes.hpp"
#include "kdlib/teacher/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Digits, white space, accents, signs beyond ASCII and code: what tokenizers cut differently.
inline constexpr const char* probe_texts[] = {"Hello, world!", " 12345 + 678 = ?",
                                              "na\u00efve caf\u00e9 \u4f60\u597d \u2615",
                                              "def f(x):\n\treturn x  # two\n", "  two  blanks\n\n- and a list"};

KDLIB_FUNC std::string ids_text(std::span<const std::int32_t> ids) {
  std::string out;
  for (const std::int32_t id : ids) out += concat(out.empty() ? "" : " ", id);
  return "[" + out + "]";
}

/// The ids that the server makes of a text; false where it cannot be asked.
KDLIB_FUNC bool tokenize_there(RemoteClient& client, const std::string& text, std::vector<std::int32_t>& ids) {
  const bool llama = client.facts().dialect == Dialect::llama_cpp;
  JsonWriter json;
  json.begin_object();
  if (!client.facts().model.empty() && !llama) json.member("model", client.facts().model);
  json.member(llama ? "content" : "prompt", text).member(llama ? "add_special" : "add_special_tokens", false);
  json.end_object();
  try {
    const Json answer = Json::parse(client.ask({"POST", "/tokenize", json.text()}), "/tokenize");
    ids.clear();
    for (const Json& id : answer.at("tokens")) ids.push_back(static_cast<std::int32_t>(id.as_int()));
    return true;
  } catch (const RemoteError&) {
    return false;
  } catch (const FormatError&) {
    return false;
  }
}

KDLIB_FUNC void check_texts(RemoteClient& client, const RemoteProbe& student, std::vector<std::string>& notes) {
  for (const char* text : probe_texts) {
    std::vector<std::int32_t> there;
    if (!tokenize_there(client, text, there)) {
      notes.push_back(concat(client.name(),
                             " makes no tokens of texts for others (POST /tokenize): whether it has the "
                             "student's tokenizer could not be asked"));
      return;
    }
    const std::vector<std::int32_t> here = student.tokenizer->encode(text);
    require<ConfigError>(there == here, "[RemoteTeacher] ", client.name(), " has another tokenizer than the student: '",
                         printable(text), "' is ", ids_text(there), " there and ", ids_text(here),
                         " here; only models with one tokenizer can be compared");
  }
}

/// Values of a batch's rows: those of the tokens, or of the K most probable ones from the largest on.
KDLIB_FUNC std::vector<float> probed_values(RemoteClient& client, const TokenBatch& batch, double temperature) {
  RemoteNeeds needs = client.needs();
  needs.temperature = temperature;
  RemoteClient::Ticket ticket = client.send(batch, needs);
  client.wait(ticket);
  return needs.want == RemoteWant::sampled ? ticket.rows->label : ticket.rows->log_probs;
}

KDLIB_FUNC double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] > -20 || b[i] > -20)
      most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return most;
}

KDLIB_FUNC TokenBatch probe_batch(const RemoteClient& client, std::int32_t first, std::int32_t count) {
  const auto V = static_cast<std::int32_t>(client.needs().vocabulary);
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < count; ++i) ids.push_back((first + 7 * i) % V);
  TokenBatch batch;
  batch.append(ids);
  return batch;
}

KDLIB_FUNC void check_repeats(RemoteClient& client) {
  constexpr double slack = 2e-2;  // of engines in bf16, whose sums depend on their batch
  const TokenBatch first = probe_batch(client, 11, 6);
  const double moved = largest_difference(probed_values(client, first, 0), probed_values(client, first, 1));
  require<ConfigError>(moved < slack, "[RemoteTeacher] ", client.name(),
                       " gives other log-probabilities at "
                       "temperature 0 than at 1 (by ",
                       moved,
                       "): it scales them by the sampling temperature. Start it "
                       "so that it gives raw ones (vLLM: --logprobs-mode raw_logprobs)");
  const TokenBatch cold = probe_batch(client, 23, 12), longer = probe_batch(client, 23, 24);
  const std::vector<float> before = probed_values(client, cold, 1), again = probed_values(client, cold, 1);
  probed_values(client, longer, 1);
  const std::vector<float> after = probed_values(client, cold, 1);
  const double changed = std::max(largest_difference(before, again), largest_difference(before, after));
  require<ConfigError>(changed < slack, "[RemoteTeacher] ", client.name(),
                       " gives other log-probabilities for a prompt "
                       "that it has seen before (by ",
                       changed,
                       "): its prefix cache changes them. Start it without "
                       "(vLLM: --no-enable-prefix-caching, SGLang: --disable-radix-cache)");
}

}  // namespace detail

KDLIB_FUNC std::vector<std::string> probe_remote_teacher(RemoteClient& client, const RemoteProbe& student) {
  std::vector<std::string> notes;
  const RemoteFacts& facts = client.facts();
  if (facts.dialect == Dialect::kdlib) {
    const bool both = student.tokenizer != nullptr && !facts.tokenizer_hash.empty();
    const std::string own = both ? tokenizer_hash(*student.tokenizer) : std::string();
    require<ConfigError>(!both || facts.tokenizer_hash == own, "[RemoteTeacher] ", client.name(),
                         " has another tokenizer (", facts.tokenizer_hash, ") than the student (", own,
                         "); only models with one tokenizer can be compared");
    require<ConfigError>(both || facts.vocabulary == student.rows, "[RemoteTeacher] ", client.name(), " has ",
                         facts.vocabulary, " tokens and the student ", student.rows,
                         "; without two tokenizers they must be equal");
    std::vector<std::int32_t> here = student.end_ids, there = facts.end_ids;
    std::sort(here.begin(), here.end());
    std::sort(there.begin(), there.end());
    if (here != there)
      notes.push_back(concat(client.name(), " ends its texts by ", detail::ids_text(there), ", the student by ",
                             detail::ids_text(here), ": a student that learns the teacher's end may not stop"));
    return notes;
  }
  if (student.tokenizer != nullptr) detail::check_texts(client, student, notes);
  if (facts.dialect != Dialect::llama_cpp) detail::check_repeats(client);
  return notes;
}

KDLIB_NAMESPACE_END

#endif
