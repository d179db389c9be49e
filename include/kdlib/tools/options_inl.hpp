// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/options.hpp.
#ifndef KDLIB_TOOLS_OPTIONS_INL_HPP
#define KDLIB_TOOLS_OPTIONS_INL_HPP

#include <algorithm>
#include <charconv>
#include <limits>

#include "kdlib/core/fields.hpp"
#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// Shortest text that reads back as the same number.
template <class N>
std::string number_text(N number) {
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, number);
  return std::string(buffer, result.ptr);
}

/// The whole text as a number, or false.
template <class N>
bool read_number(const std::string& text, N& number) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto result = std::from_chars(begin, end, number);
  return result.ec == std::errc() && result.ptr == end && begin != end;
}

inline bool read_switch(const std::string& text, bool& value) {
  if (text == "on" || text == "true" || text == "yes" || text == "1") return value = true, true;
  if (text == "off" || text == "false" || text == "no" || text == "0") return value = false, true;
  return false;
}

/// A double-quoted YAML (and JSON) string.
inline std::string quoted(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (u < 0x20 || u == 0x7F) ((out += "\\u00") += hex[u >> 4]) += hex[u & 15u];
    else out += c;
  }
  return out + "\"";
}

inline std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += separator;
    out += part;
  }
  return out;
}

}  // namespace detail

inline Options::Options(std::string program, std::string purpose)
    : program_(std::move(program)), purpose_(std::move(purpose)) {}

inline Options& Options::group(std::string title) {
  group_ = std::move(title);
  return *this;
}

inline Options& Options::push(const char* name, Kind kind, void* target, const char* value_name, const char* help,
                              const char* unit) {
  require<Error>(find(name) == nullptr, "[Options] --", name, " is declared twice");
  Item item;
  item.name = name;
  item.kind = kind;
  item.target = target;
  item.value_name = value_name;
  item.help = help;
  item.unit = unit;
  item.group = group_;
  item.default_text = text_of(item);
  items_.push_back(std::move(item));
  return *this;
}

inline Options& Options::add(const char* n, std::string& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::text, &t, v, h, u);
}
inline Options& Options::add(const char* n, int& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::int32, &t, v, h, u);
}
inline Options& Options::add(const char* n, std::int64_t& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::int64, &t, v, h, u);
}
inline Options& Options::add(const char* n, std::uint64_t& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::uint64, &t, v, h, u);
}
inline Options& Options::add(const char* n, float& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::real32, &t, v, h, u);
}
inline Options& Options::add(const char* n, double& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::real64, &t, v, h, u);
}
inline Options& Options::add(const char* n, std::optional<bool>& t, const char* h) {
  return push(n, Kind::optional_boolean, &t, "on|off|auto", h, "");
}
inline Options& Options::add(const char* n, std::vector<std::string>& t, const char* v, const char* h) {
  return push(n, Kind::list, &t, v, h, "");
}
inline Options& Options::add(const char* n, bool& t, const char* h) { return push(n, Kind::boolean, &t, "", h, ""); }

inline Options& Options::positional(const char* name, std::string& target, const char* help) {
  push(name, Kind::text, &target, "", help, "");
  last().positional = last().required = true;
  return *this;
}

inline Options::Item& Options::last() {
  require<Error>(!items_.empty(), "[Options] a rule without an option before it");
  return items_.back();
}
inline Options& Options::required() { return last().required = true, *this; }
inline Options& Options::at_least(double bound) { return last().least = bound, *this; }
inline Options& Options::at_most(double bound) { return last().most = bound, *this; }
inline Options& Options::above(double bound) { return last().above = bound, *this; }
inline Options& Options::choices(std::initializer_list<const char*> allowed) {
  last().choices.assign(allowed.begin(), allowed.end());
  return *this;
}

inline Options& Options::common(int& threads, std::uint64_t& seed) {
  return add("threads", threads, "N", "threads; 0: all CPUs that the process may use")
      .at_least(0)
      .add("seed", seed, "N", "seed of every random number of the run");
}

inline Options& Options::config_file(std::vector<FileSetting> (*read)(const std::string& path)) {
  read_config_ = read;
  return add("config", config_, "FILE", "YAML file whose keys are these option names; the command line wins");
}

inline Options& Options::presets(std::string& target, std::initializer_list<const char*> names,
                                 void (*set)(void*, const std::string&), void* context) {
  preset_ = &target;
  apply_preset_ = set;
  preset_context_ = context;
  return add("preset", target, "NAME", "a set of defaults; config file and command line win over it").choices(names);
}

inline const Options::Item* Options::find(std::string_view name) const {
  for (const Item& item : items_)
    if (item.name == name) return &item;
  return nullptr;
}

inline Options::Item& Options::find_or_refuse(std::string_view name, const std::string& where) {
  if (const Item* item = find(name); item != nullptr && !(item->positional && where.empty()))
    return const_cast<Item&>(*item);
  const Item* nearest = nullptr;
  std::size_t best = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (const Item& item : items_) {
    const std::size_t distance = item.positional ? best : detail::edit_distance(name, item.name);
    if (distance < best) best = distance, nearest = &item;
  }
  const std::string hint = nearest == nullptr
                               ? "; see --help"
                               : "; did you mean " + std::string(where.empty() ? "--" : "") + nearest->name + "?";
  fail<UsageError>(where, where.empty() ? "unknown option --" : "unknown key ", name, hint);
}

inline std::vector<FileSetting> Options::read_command_line(int argc, const char* const* argv) {
  std::vector<FileSetting> out;
  std::vector<Item*> open;  // positional arguments not yet seen
  for (Item& item : items_)
    if (item.positional) open.push_back(&item);
  std::size_t taken = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help" || word == "-h") throw HelpRequested(help());
    if (word.rfind("--", 0) != 0) {
      require<UsageError>(taken < open.size(), "unexpected argument '", word, "'\n", usage());
      out.push_back({open[taken++]->name, {word}});
      continue;
    }
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    const Item& item = find_or_refuse(name, "");
    FileSetting setting{name, {}};
    if (equals != std::string::npos) {
      setting.values.push_back(word.substr(equals + 1));
    } else if (item.kind == Kind::boolean) {
      setting.values.emplace_back("on");
    } else {
      while (i + 1 < argc && std::string_view(argv[i + 1]).rfind("--", 0) != 0) {
        setting.values.emplace_back(argv[++i]);
        if (item.kind != Kind::list) break;
      }
      require<UsageError>(!setting.values.empty(), "--", name, " needs a value (", item.value_name, ")");
    }
    const auto same = std::find_if(out.begin(), out.end(), [&](const FileSetting& s) { return s.key == name; });
    if (same != out.end() && item.kind == Kind::list) {
      same->values.insert(same->values.end(), setting.values.begin(), setting.values.end());
    } else {
      require<UsageError>(same == out.end(), "--", name, " is given twice");
      out.push_back(std::move(setting));
    }
  }
  return out;
}

inline void Options::parse(int argc, const char* const* argv) {
  const std::vector<FileSetting> flags = read_command_line(argc, argv);
  std::vector<FileSetting> file;
  const auto value_in = [](const std::vector<FileSetting>& all, const char* key) {
    for (const FileSetting& s : all)
      if (s.key == key && s.values.size() == 1) return s.values[0];
    return std::string();
  };
  std::string where;
  if (const std::string path = value_in(flags, "config"); read_config_ != nullptr && !path.empty()) {
    where = path + ": ";
    file = read_config_(path);
  }
  if (apply_preset_ != nullptr) {
    std::string name = value_in(flags, "preset");
    if (name.empty()) name = value_in(file, "preset");
    if (name.empty()) name = *preset_;
    if (!name.empty()) {
      Item& item = find_or_refuse("preset", where);
      const bool given = item.given;
      assign(item, {name}, "");
      item.given = given;
      apply_preset_(preset_context_, name);
    }
  }
  apply(file, where);
  apply(flags, "");
  for (const Item& item : items_) {
    require<UsageError>(!item.required || item.given, item.positional ? "missing argument " : "missing option --",
                        item.name, "\n", usage());
    check_rules(item, item.given ? "" : "default of ");
  }
}

inline void Options::apply(const std::vector<FileSetting>& settings, const std::string& where) {
  for (const FileSetting& setting : settings) {
    const Item* known = find(setting.key);  // positional names are valid keys here: read_command_line has resolved them
    Item& item = known != nullptr && (known->positional || where.empty()) ? const_cast<Item&>(*known)
                                                                          : find_or_refuse(setting.key, where);
    assign(item, setting.values, where);
    item.given = true;
  }
}

inline void Options::assign(Item& item, const std::vector<std::string>& values, const std::string& where) {
  if (item.kind == Kind::list) {
    *static_cast<std::vector<std::string>*>(item.target) = values;
    return check_rules(item, where);
  }
  require<UsageError>(values.size() == 1, where, "--", item.name, " takes one value, got ", values.size());
  const std::string& value = values[0];
  bool on = false;
  switch (item.kind) {
    case Kind::text:
      *static_cast<std::string*>(item.target) = value;
      break;
    case Kind::boolean:
      require<UsageError>(detail::read_switch(value, on), where, "--", item.name, " is '", value,
                          "'; it must be on or off");
      *static_cast<bool*>(item.target) = on;
      break;
    case Kind::optional_boolean:
      if (value == "auto") static_cast<std::optional<bool>*>(item.target)->reset();
      else {
        require<UsageError>(detail::read_switch(value, on), where, "--", item.name, " is '", value,
                            "'; it must be on, off or auto");
        *static_cast<std::optional<bool>*>(item.target) = on;
      }
      break;
    default:
      assign_number(item, value, where);
  }
  check_rules(item, where);
}

inline void Options::assign_number(Item& item, const std::string& value, const std::string& where) {
  bool ok = false;
  const char* kind = "a whole number";
  switch (item.kind) {
    case Kind::int32:
      ok = detail::read_number(value, *static_cast<int*>(item.target));
      break;
    case Kind::int64:
      ok = detail::read_number(value, *static_cast<std::int64_t*>(item.target));
      break;
    case Kind::uint64:
      ok = detail::read_number(value, *static_cast<std::uint64_t*>(item.target)), kind = "a whole number >= 0";
      break;
    case Kind::real32:
      ok = detail::read_number(value, *static_cast<float*>(item.target)), kind = "a number";
      break;
    default:
      ok = detail::read_number(value, *static_cast<double*>(item.target)), kind = "a number";
      break;
  }
  require<UsageError>(ok, where, "--", item.name, " is '", value, "'; it must be ", kind);
}

inline void Options::check_rules(const Item& item, const std::string& where) const {
  double value = 0;
  switch (item.kind) {
    case Kind::int32:
      value = *static_cast<const int*>(item.target);
      break;
    case Kind::int64:
      value = static_cast<double>(*static_cast<const std::int64_t*>(item.target));
      break;
    case Kind::uint64:
      value = static_cast<double>(*static_cast<const std::uint64_t*>(item.target));
      break;
    case Kind::real32:
      value = static_cast<double>(*static_cast<const float*>(item.target));
      break;
    case Kind::real64:
      value = *static_cast<const double*>(item.target);
      break;
    case Kind::text: {
      const std::string& text = *static_cast<const std::string*>(item.target);
      if (item.choices.empty() || std::find(item.choices.begin(), item.choices.end(), text) != item.choices.end())
        return;
      if (text == item.default_text) return;  // an empty default: nothing chosen
      fail<UsageError>(where, "--", item.name, " is '", text, "'; it must be one of ",
                       detail::joined(item.choices, ", "));
    }
    default:
      return;
  }
  const auto refuse = [&](const char* relation, double bound) {
    fail<UsageError>(where, "--", item.name, " is ", detail::number_text(value), "; it must be ", relation,
                     detail::number_text(bound));
  };
  require<UsageError>(value == value, where, "--", item.name, " is not a number");
  if (item.least && value < *item.least) refuse(">= ", *item.least);
  if (item.most && value > *item.most) refuse("<= ", *item.most);
  if (item.above && !(value > *item.above)) refuse("> ", *item.above);
}

inline bool Options::given(std::string_view name) const {
  const Item* item = find(name);
  require<Error>(item != nullptr, "[Options] no option is called --", name);
  return item->given;
}

inline std::string Options::text_of(const Item& item) {
  switch (item.kind) {
    case Kind::text:
      return *static_cast<const std::string*>(item.target);
    case Kind::boolean:
      return *static_cast<const bool*>(item.target) ? "on" : "off";
    case Kind::optional_boolean: {
      const auto& value = *static_cast<const std::optional<bool>*>(item.target);
      return !value ? "auto" : *value ? "on" : "off";
    }
    case Kind::int32:
      return detail::number_text(*static_cast<const int*>(item.target));
    case Kind::int64:
      return detail::number_text(*static_cast<const std::int64_t*>(item.target));
    case Kind::uint64:
      return detail::number_text(*static_cast<const std::uint64_t*>(item.target));
    case Kind::real32:
      return detail::number_text(*static_cast<const float*>(item.target));
    case Kind::real64:
      return detail::number_text(*static_cast<const double*>(item.target));
    case Kind::list:
      return detail::joined(*static_cast<const std::vector<std::string>*>(item.target), " ");
  }
  return {};
}

inline std::vector<std::pair<std::string, std::string>> Options::settings() const {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Item& item : items_) out.emplace_back(item.name, text_of(item));
  return out;
}

inline std::string Options::yaml() const {
  std::string out;
  for (const Item& item : items_) {
    if (item.name == "config") continue;  // what it said is in the other lines
    out += item.name + ": ";
    if (item.kind == Kind::list) {
      std::vector<std::string> parts;
      for (const std::string& part : *static_cast<const std::vector<std::string>*>(item.target))
        parts.push_back(detail::quoted(part));
      out += "[" + detail::joined(parts, ", ") + "]";
    } else {
      out += item.kind == Kind::text ? detail::quoted(text_of(item)) : text_of(item);
    }
    if (!item.unit.empty()) out += "  # " + item.unit;
    out += "\n";
  }
  return out;
}

inline std::string Options::usage() const {
  std::string out = "usage: " + program_;
  for (const Item& item : items_)
    if (item.required) out += item.positional ? " <" + item.name + ">" : " --" + item.name + " " + item.value_name;
  return out + " [options]; see --help";
}

inline std::string Options::help() const {
  std::string out = program_ + ": " + purpose_ + "\n\n" + usage().substr(0, usage().find(';')) + "\n";
  std::string group;
  for (const Item& item : items_) {
    if (item.group != group) out += "\n" + (group = item.group) + "\n";
    std::string left = item.positional ? "  <" + item.name + ">"
                                       : "  --" + item.name + (item.value_name.empty() ? "" : " " + item.value_name);
    left.resize(std::max<std::size_t>(left.size() + 2, 32), ' ');
    std::vector<std::string> notes;
    if (!item.unit.empty()) notes.push_back(item.unit);
    if (!item.choices.empty()) notes.push_back(detail::joined(item.choices, " | "));
    if (item.least) notes.push_back(">= " + detail::number_text(*item.least));
    if (item.above) notes.push_back("> " + detail::number_text(*item.above));
    if (item.most) notes.push_back("<= " + detail::number_text(*item.most));
    if (item.required) notes.push_back("required");
    else if (!item.default_text.empty()) notes.push_back("default " + item.default_text);
    out += left + item.help + (notes.empty() ? "" : " (" + detail::joined(notes, "; ") + ")") + "\n";
  }
  return out + "\n  --help                        this text\n\nExit status: 0 done, 1 failed, 2 bad usage.\n";
}

KDLIB_NAMESPACE_END

#endif
