// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/options.hpp.
#ifndef KDLIB_TOOLS_OPTIONS_INL_HPP
#define KDLIB_TOOLS_OPTIONS_INL_HPP

#include <algorithm>

#include "kdlib/core/fields.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/tools/option_values_inl.hpp"
#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC Options::Options(std::string program, std::string purpose)
    : program_(std::move(program)), purpose_(std::move(purpose)) {}

KDLIB_TOOLS_FUNC Options& Options::group(std::string title) {
  group_ = std::move(title);
  return *this;
}

KDLIB_TOOLS_FUNC Options& Options::push(const char* name, Kind kind, void* target, const char* value_name,
                                        const char* help, const char* unit) {
  require<Error>(find(name) == nullptr, "[Options] --", name, " is declared twice");
  Item item;
  item.name = name;
  item.kind = kind;
  item.target = target;
  item.value_name = value_name;
  item.help = help;
  item.unit = unit;
  item.group = group_;
  item.default_text = detail::option_text(item);
  items_.push_back(std::move(item));
  return *this;
}

KDLIB_TOOLS_FUNC Options& Options::add(const char* n, std::string& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::text, &t, v, h, u);
}
KDLIB_TOOLS_FUNC Options& Options::add(const char* n, int& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::int32, &t, v, h, u);
}
KDLIB_TOOLS_FUNC Options& Options::add(const char* n, std::int64_t& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::int64, &t, v, h, u);
}
KDLIB_TOOLS_FUNC Options& Options::add(const char* n, std::uint64_t& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::uint64, &t, v, h, u);
}
KDLIB_TOOLS_FUNC Options& Options::add(const char* n, float& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::real32, &t, v, h, u);
}
KDLIB_TOOLS_FUNC Options& Options::add(const char* n, double& t, const char* v, const char* h, const char* u) {
  return push(n, Kind::real64, &t, v, h, u);
}
KDLIB_TOOLS_FUNC Options& Options::add(const char* n, std::optional<bool>& t, const char* h) {
  return push(n, Kind::optional_boolean, &t, "on|off|auto", h, "");
}
KDLIB_TOOLS_FUNC Options& Options::add(const char* n, std::vector<std::string>& t, const char* v, const char* h) {
  return push(n, Kind::list, &t, v, h, "");
}
KDLIB_TOOLS_FUNC Options& Options::add(const char* n, bool& t, const char* h) {
  return push(n, Kind::boolean, &t, "", h, "");
}

KDLIB_TOOLS_FUNC Options& Options::positional(const char* name, std::string& target, const char* help) {
  push(name, Kind::text, &target, "", help, "");
  last().positional = last().required = true;
  return *this;
}

KDLIB_TOOLS_FUNC Options::Item& Options::last() {
  require<Error>(!items_.empty(), "[Options] a rule without an option before it");
  return items_.back();
}
KDLIB_TOOLS_FUNC Options& Options::required() { return last().required = true, *this; }
KDLIB_TOOLS_FUNC Options& Options::at_least(double bound) { return last().least = bound, *this; }
KDLIB_TOOLS_FUNC Options& Options::at_most(double bound) { return last().most = bound, *this; }
KDLIB_TOOLS_FUNC Options& Options::above(double bound) { return last().above = bound, *this; }
KDLIB_TOOLS_FUNC Options& Options::choices(std::initializer_list<const char*> allowed) {
  last().choices.assign(allowed.begin(), allowed.end());
  return *this;
}

KDLIB_TOOLS_FUNC Options& Options::names() {
  last().names = true;
  last().help += " (separated by spaces or commas)";
  return *this;
}

KDLIB_TOOLS_FUNC Options& Options::common(int& threads, std::uint64_t& seed) {
  return add("threads", threads, "N", "threads; 0: all CPUs that the process may use")
      .at_least(0)
      .add("seed", seed, "N", "seed of every random number of the run");
}

KDLIB_TOOLS_FUNC Options& Options::config_file(std::vector<FileSetting> (*read)(const std::string& path)) {
  read_config_ = read;
  return add("config", config_, "FILE", "YAML file whose keys are these option names; the command line wins");
}

KDLIB_TOOLS_FUNC Options& Options::presets(std::string& target, std::initializer_list<const char*> names,
                                           void (*set)(void*, const std::string&), void* context) {
  preset_ = &target;
  apply_preset_ = set;
  preset_context_ = context;
  return add("preset", target, "NAME", "a set of defaults; config file and command line win over it").choices(names);
}

KDLIB_TOOLS_FUNC const Options::Item* Options::find(std::string_view name) const {
  for (const Item& item : items_)
    if (item.name == name) return &item;
  return nullptr;
}

KDLIB_TOOLS_FUNC Options::Item& Options::find_or_refuse(std::string_view name, const std::string& where) {
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

/// The option argv[i] with its values; i stays on the last word of it.
KDLIB_TOOLS_FUNC FileSetting Options::read_option(int argc, const char* const* argv, int& i) {
  const std::string word = argv[i];
  const std::size_t equals = word.find('=');
  const std::string name = word.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
  const Item& item = find_or_refuse(name, "");
  FileSetting setting{name, {}};
  if (equals != std::string::npos) {
    setting.values.push_back(word.substr(equals + 1));
    return setting;
  }
  if (item.kind == Kind::boolean) {
    setting.values.emplace_back("on");
    return setting;
  }
  while (i + 1 < argc && std::string_view(argv[i + 1]).rfind("--", 0) != 0) {
    setting.values.emplace_back(argv[++i]);
    if (item.kind != Kind::list) break;
  }
  require<UsageError>(!setting.values.empty(), "--", name, " needs a value (", item.value_name, ")");
  return setting;
}

/// A text that a shell's unset variable left empty would silently mean "not given". Lists may hold empty texts.
KDLIB_TOOLS_FUNC void refuse_empty_text(const FileSetting& setting, OptionKind kind) {
  require<UsageError>(kind != OptionKind::text || setting.values.empty() || !setting.values[0].empty(), "--",
                      setting.key,
                      " is given an empty value; leave the option out (is a variable of the shell not set?)");
}

KDLIB_TOOLS_FUNC std::vector<FileSetting> Options::read_command_line(int argc, const char* const* argv) {
  std::vector<FileSetting> out;
  std::vector<Item*> open;  // positional arguments not yet seen
  for (Item& item : items_)
    if (item.positional) open.push_back(&item);
  std::size_t taken = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--help" || word == "-h") throw HelpRequested(help());
    if (word == "--schema") throw HelpRequested(schema() + "\n");
    if (word == "--version") throw HelpRequested(concat(program_, " of kdlib ", KDLIB_VERSION_STRING, "\n"));
    if (word == "--json-schema") throw HelpRequested(json_schema());
    if (word.rfind("--", 0) != 0) {
      require<UsageError>(taken < open.size(), "unexpected argument '", word, "'\n", usage());
      out.push_back({open[taken++]->name, {word}});
      continue;
    }
    FileSetting setting = read_option(argc, argv, i);
    const std::string& name = setting.key;
    const Item& item = *find(name);
    refuse_empty_text(setting, item.kind);
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

namespace detail {
/// The only value of a key, or an empty text.
KDLIB_TOOLS_FUNC std::string single_value(const std::vector<FileSetting>& all, const char* key) {
  for (const FileSetting& s : all)
    if (s.key == key && s.values.size() == 1) return s.values[0];
  return {};
}
}  // namespace detail

KDLIB_TOOLS_FUNC void Options::parse(int argc, const char* const* argv) {
  const std::vector<FileSetting> flags = read_command_line(argc, argv);
  std::vector<FileSetting> file;
  std::string where;
  if (const std::string path = detail::single_value(flags, "config"); read_config_ != nullptr && !path.empty()) {
    where = path + ": ";
    file = reading_config_file("--config", [&] { return read_config_(path); });
  }
  apply_preset(flags, file, where);
  apply(file, where);
  apply(flags, "");
  for (const Item& item : items_) {
    require<UsageError>(!item.required || item.set, item.positional ? "missing argument " : "missing option --",
                        item.name, "\n", usage());
    detail::check_option(item, item.set ? "" : "default of ");
  }
}

KDLIB_TOOLS_FUNC void Options::apply_preset(const std::vector<FileSetting>& flags, const std::vector<FileSetting>& file,
                                            const std::string& where) {
  if (apply_preset_ == nullptr) return;
  std::string name = detail::single_value(flags, "preset");
  if (name.empty()) name = detail::single_value(file, "preset");
  if (name.empty()) name = *preset_;
  if (name.empty()) return;
  Item& item = find_or_refuse("preset", where);
  detail::assign_option(item, {name}, "");
  item.given = name != item.default_text;
  apply_preset_(preset_context_, name);
}

KDLIB_TOOLS_FUNC void Options::apply(const std::vector<FileSetting>& settings, const std::string& where) {
  for (const FileSetting& setting : settings) {
    const Item* known = find(setting.key);  // positional names are valid keys here: read_command_line has resolved them
    Item& item = known != nullptr && (known->positional || where.empty()) ? const_cast<Item&>(*known)
                                                                          : find_or_refuse(setting.key, where);
    const std::string before = detail::option_text(item);
    detail::assign_option(item, setting.values, where);
    item.set = true;
    item.given = item.given || where.empty() || detail::option_text(item) != before;
  }
}

KDLIB_TOOLS_FUNC bool Options::given(std::string_view name) const {
  const Item* item = find(name);
  require<Error>(item != nullptr, "[Options] no option is called --", name);
  return item->given;
}

KDLIB_TOOLS_FUNC void Options::check_needs(const std::vector<OptionNeeds>& table) const {
  for (const OptionNeeds& line : table) {
    if (line.met) continue;
    for (const char* name : line.names) {
      const Item* item = find(name);
      require<Error>(item != nullptr, "[Options] no option is called --", name);
      const bool is_switch = item->kind == Kind::boolean || item->kind == Kind::optional_boolean;
      const bool asked = item->given && !(is_switch && detail::option_text(*item) != "on");
      require<UsageError>(!asked, "[", program_, "] --", name, " would have no effect: ", line.otherwise);
    }
  }
}

KDLIB_TOOLS_FUNC std::vector<std::pair<std::string, std::string>> Options::settings() const {
  std::vector<std::pair<std::string, std::string>> out;
  for (const Item& item : items_) out.emplace_back(item.name, detail::option_text(item));
  return out;
}

KDLIB_TOOLS_FUNC std::vector<SettingDifference> Options::differences(const std::vector<FileSetting>& file) const {
  std::vector<SettingDifference> out;
  for (const FileSetting& setting : file) {
    const Item* item = find(setting.key);
    if (item == nullptr) continue;
    std::string in_file = detail::canonical_option_text(*item, setting.values, ""), now = detail::option_text(*item);
    if (in_file != now) out.push_back({item->name, std::move(in_file), std::move(now)});
  }
  return out;
}

KDLIB_TOOLS_FUNC std::string Options::yaml() const {
  std::string out;
  for (const Item& item : items_) {
    if (item.name == "config") continue;  // what it said is in the other lines
    out += item.name + ": ";
    if (item.kind == Kind::list) {
      std::vector<std::string> parts;
      for (const std::string& part : *static_cast<const std::vector<std::string>*>(item.target))
        parts.push_back(detail::quoted_value(part));
      out += "[" + detail::joined(parts, ", ") + "]";
    } else {
      out += item.kind == Kind::text ? detail::quoted_value(detail::option_text(item)) : detail::option_text(item);
    }
    if (!item.unit.empty()) out += "  # " + item.unit;
    out += "\n";
  }
  return out;
}

KDLIB_TOOLS_FUNC std::string Options::usage() const {
  std::string out = "usage: " + program_;
  for (const Item& item : items_)
    if (item.required) out += item.positional ? " <" + item.name + ">" : " --" + item.name + " " + item.value_name;
  return out + " [options]; see --help";
}

KDLIB_TOOLS_FUNC std::string Options::help() const {
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
    if (item.least) notes.push_back(">= " + detail::shortest_number_text(*item.least));
    if (item.above) notes.push_back("> " + detail::shortest_number_text(*item.above));
    if (item.most) notes.push_back("<= " + detail::shortest_number_text(*item.most));
    if (item.required) notes.push_back("required");
    else if (!item.default_text.empty()) notes.push_back("default " + item.default_text);
    out += left + item.help + (notes.empty() ? "" : " (" + detail::joined(notes, "; ") + ")") + "\n";
  }
  return out +
         "\n  --help                        this text\n"
         "  --version                     the version of kdlib\n"
         "  --schema                      these options as JSON, for other programs\n"
         "  --json-schema                 the options as JSON Schema of a config file\n\n"
         "Exit status: 0 done; 1 failed while working; 2 the command line, a config file or settings cannot be used; "
         "75 a training stopped since memory ran short or a rank was lost, what was done is saved; 128 + N stopped by "
         "signal N.\n";
}

namespace detail {
KDLIB_TOOLS_FUNC const char* option_type_name(OptionKind kind) {
  switch (kind) {
    case OptionKind::text:
      return "text";
    case OptionKind::boolean:
      return "switch";
    case OptionKind::optional_boolean:
      return "choice";
    case OptionKind::list:
      return "list";
    case OptionKind::real32:
    case OptionKind::real64:
      return "number";
    default:
      return "integer";
  }
}
}  // namespace detail

KDLIB_TOOLS_FUNC std::string Options::schema() const {
  JsonWriter json;
  json.begin_object().member("program", program_).member("purpose", purpose_).key("options").begin_array();
  for (const Item& item : items_) {
    json.begin_object().member("name", item.name).member("type", detail::option_type_name(item.kind));
    json.member("value", item.value_name).member("unit", item.unit).member("help", item.help);
    json.member("group", item.group).member("default", item.default_text);
    if (!item.choices.empty()) json.member("choices", item.choices);
    if (item.least) json.member("at_least", *item.least);
    if (item.most) json.member("at_most", *item.most);
    if (item.above) json.member("above", *item.above);
    json.member("required", item.required).member("positional", item.positional).end_object();
  }
  return json.end_array().end_object().text();
}

KDLIB_NAMESPACE_END

#endif
