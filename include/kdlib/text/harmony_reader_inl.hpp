// SPDX-License-Identifier: Apache-2.0
// Reads a stream of Harmony ids into messages and notes what breaks the grammar; the rules about meaning are in
// harmony_inl.hpp.
#ifndef KDLIB_TEXT_HARMONY_READER_INL_HPP
#define KDLIB_TEXT_HARMONY_READER_INL_HPP

#include <algorithm>

#include "kdlib/text/harmony.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class HarmonyReader {
 public:
  HarmonyReader(const Tokenizer& tokenizer, std::span<const std::int32_t> ids, const HarmonyCheckOptions& options)
      : tokenizer_(tokenizer), tokens_(HarmonyTokens::of(tokenizer)), ids_(ids), options_(options) {}

  /// Where the parts of a message stand, for the rules about meaning.
  struct Places {
    std::size_t role = 0, channel = 0, recipient = 0, message = 0;  // indices into the ids
    bool has_channel = false, role_is_empty = false, known_role = false;
  };
  std::vector<HarmonyMessage> messages;
  std::vector<Places> places;  // beside messages
  std::vector<HarmonyProblem> problems;

  void read() {
    std::size_t end = ids_.size();
    while (end > 0 && ids_[end - 1] == tokens_.end_of_text) --end;  // [eod...]
    for (std::size_t i = 0; i < ids_.size(); ++i)
      if (ids_[i] == tokens_.start_of_text || (i < end && ids_[i] == tokens_.end_of_text))
        problem(HarmonyCode::eod, i,
                ids_[i] == tokens_.end_of_text ? "<|endoftext|> behind the last message only" : "no <|startoftext|>");
    std::size_t at = 0;
    if (options_.completion) at = message(0, end, true);
    while (at < end) {
      if (is_text_end(ids_[at])) {
        ++at;
      } else if (ids_[at] != tokens_.start) {
        problem(HarmonyCode::start, at, "<|start|>");
        while (at < end && ids_[at] != tokens_.start) ++at;
      } else {
        at = message(at, end, false);
      }
    }
  }

  void problem(HarmonyCode code, std::size_t position, std::string expected) {
    problems.push_back({code, position, 0, std::move(expected), show(position)});
  }

  static bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

  std::string show(std::size_t position) const {
    if (position >= ids_.size()) return "the end of the ids";
    const std::string bytes(tokenizer_.token_bytes(ids_[position]));
    if (tokenizer_.is_special(ids_[position])) return printable(bytes);
    return concat("\"", printable(bytes), "\" (id ", ids_[position], ")");
  }

 private:
  bool is_text_end(std::int32_t id) const { return id == tokens_.end_of_text || id == tokens_.start_of_text; }
  HarmonyTerminator terminator(std::int32_t id) const {
    return id == tokens_.end    ? HarmonyTerminator::end
           : id == tokens_.ret  ? HarmonyTerminator::ret
           : id == tokens_.call ? HarmonyTerminator::call
                                : HarmonyTerminator::none;
  }

  /// Reads one message from its <|start|> (or, for a completion, from behind its role) and returns where the next one
  /// begins.
  std::size_t message(std::size_t at, std::size_t end, bool role_given) {
    HarmonyMessage m;
    Places p;
    m.begin = at;
    const std::size_t header = role_given ? at : at + 1;
    std::size_t stop = header;
    while (stop < end && ids_[stop] != tokens_.message && ids_[stop] != tokens_.start &&
           terminator(ids_[stop]) == HarmonyTerminator::none)
      ++stop;
    p.message = stop;
    m.has_message_token = stop < end && ids_[stop] == tokens_.message;
    const bool surplus_is_content = options_.lenient && !m.has_message_token;
    read_header(header, stop, role_given, surplus_is_content, m, p);
    if (!m.has_message_token) {
      if (!options_.lenient || (stop < end && ids_[stop] == tokens_.start))
        problem(HarmonyCode::header, stop, "<|message|> behind a header");
      m.content_begin = m.content_end = stop;
    } else {
      m.content_begin = stop + 1;
      m.content_end = stop = content(stop + 1, end, m);
    }
    if (stop < end) m.terminator = terminator(ids_[stop]);
    if (m.terminator != HarmonyTerminator::none) {
      ++stop;
    } else if (stop >= end && m.has_message_token && !options_.lenient) {
      problem(HarmonyCode::trunc, stop, "<|end|>, <|return|> or <|call|> behind a content");
    }
    m.end = stop;
    messages.push_back(std::move(m));
    places.push_back(p);
    return stop;
  }

  std::size_t content(std::size_t at, std::size_t end, HarmonyMessage& m) {
    for (; at < end && terminator(ids_[at]) == HarmonyTerminator::none; ++at) {
      if (is_text_end(ids_[at])) continue;  // E_EOD already
      if (tokenizer_.is_special(ids_[at]) && !options_.special_in_content) {
        problem(HarmonyCode::content, at, "text, <|end|>, <|return|> or <|call|>");
        if (ids_[at] == tokens_.start) break;  // go on with what is most likely the next message
      }
      if (options_.whole_contents || is_blank(m.content)) m.content += tokenizer_.token_bytes(ids_[at]);
    }
    return at;
  }

  struct Word {
    std::string text;
    std::size_t position;  // of the token that it begins in
  };

  /// The words between white space of ids [begin, end), which hold no framing tokens. `first` is set to the text up to
  /// the first white space or '<' when it is given, and the words are those behind it.
  void words(std::size_t begin, std::size_t end, std::vector<Word>& out, std::string* first = nullptr) {
    bool open = false, naming = first != nullptr;
    for (std::size_t i = begin; i < end; ++i) {
      if (is_text_end(ids_[i])) continue;
      if (tokenizer_.is_special(ids_[i])) {
        problem(HarmonyCode::header, i, "text, <|channel|>, <|constrain|> or <|message|> in a header");
        continue;
      }
      for (const char c : tokenizer_.token_bytes(ids_[i])) {
        const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
        if (naming && !space && c != '<') {
          *first += c;
          continue;
        }
        naming = false;
        if (space) {
          open = false;
        } else {
          if (!open) out.push_back({{}, i});
          out.back().text += c;
          open = true;
        }
      }
    }
  }

  void read_header(std::size_t begin, std::size_t end, bool role_given, bool surplus_is_content, HarmonyMessage& m,
                   Places& p) {
    std::size_t channel = end, constrain = end;
    for (std::size_t i = begin; i < end; ++i) {
      std::size_t* place = ids_[i] == tokens_.channel ? &channel : ids_[i] == tokens_.constrain ? &constrain : nullptr;
      if (place == nullptr) continue;
      if (*place != end || (place == &channel && constrain != end)) {
        problem(HarmonyCode::header, i, "one <|channel|> and then one <|constrain|> at most in a header");
        end = i;  // what follows is not read
      } else {
        *place = i;
      }
    }
    std::vector<Word> rest;
    words(begin, std::min({channel, constrain, end}), rest);
    p.role = begin;
    if (role_given) {
      m.role = "assistant";
    } else if (rest.empty()) {
      p.role_is_empty = true;
    } else {
      p.role = rest.front().position;
      m.role = rest.front().text;
      rest.erase(rest.begin());
    }
    if (channel < end) {
      p.has_channel = true;
      p.channel = channel;
      words(channel + 1, std::min(constrain, end), rest, &m.channel);
    }
    if (constrain < end) {
      std::vector<Word> type;
      words(constrain + 1, end, type);
      rest.push_back({concat("<|constrain|>", type.empty() ? std::string() : type.front().text), constrain});
      for (std::size_t i = 1; i < type.size(); ++i) rest.push_back(type[i]);
    }
    if (surplus_is_content) {
      for (const Word& word : rest)
        if (!names_recipient(word.text)) m.content += m.content.empty() ? word.text : concat(" ", word.text);
      std::erase_if(rest, [](const Word& word) { return !names_recipient(word.text); });
    }
    assign(rest, m, p);
    name_role(m, p);
  }

  static bool names_recipient(std::string_view word) { return word.substr(0, 3) == "to="; }

  /// Recipient and content type from the words that are left, as openai-harmony does, but <|constrain|> is never a
  /// recipient.
  void assign(std::vector<Word>& rest, HarmonyMessage& m, Places& p) {
    const auto take_recipient = [&] {
      p.recipient = rest.back().position;
      const bool marked = names_recipient(rest.back().text);
      m.recipient = marked ? rest.back().text.substr(3) : rest.back().text;
      if (marked && m.recipient.empty()) problem(HarmonyCode::recipient, p.recipient, "a name behind to=");
      rest.pop_back();
    };
    const auto is_type = [](const Word& word) { return word.text.substr(0, 13) == "<|constrain|>"; };
    if (!rest.empty() && names_recipient(rest.back().text)) {
      take_recipient();
    } else if (!rest.empty() && (rest.size() > 1 || is_type(rest.back()))) {
      m.content_type = rest.back().text;
      rest.pop_back();
      if (!rest.empty()) take_recipient();
    } else if (!rest.empty()) {
      take_recipient();
    }
    if (!rest.empty()) {
      const bool second = names_recipient(rest.back().text);
      problem(second ? HarmonyCode::recipient : HarmonyCode::header, rest.back().position,
              second ? "one recipient (to=) in a header"
                     : "a role, a recipient (to=), a channel and a content type in a header");
    }
    if (m.recipient == "all") m.recipient.clear();
  }

  /// Splits role:name and finds tools: an unknown role that has a recipient.
  void name_role(HarmonyMessage& m, Places& p) {
    const std::string_view word = m.role;
    for (const std::string_view known : {"system", "developer", "user", "assistant"}) {
      if (word.substr(0, known.size()) != known || (word.size() > known.size() && word[known.size()] != ':')) continue;
      p.known_role = true;
      m.name = std::string(word.substr(std::min(word.size(), known.size() + 1)));
      m.role = std::string(known);
      return;
    }
    if (p.role_is_empty || m.recipient.empty()) return;
    m.name = m.role;
    m.role = "tool";
  }

  const Tokenizer& tokenizer_;
  HarmonyTokens tokens_;
  std::span<const std::int32_t> ids_;
  HarmonyCheckOptions options_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
