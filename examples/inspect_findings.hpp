// SPDX-License-Identifier: Apache-2.0
// What inspect.cpp finds out of a model, and how it is printed.
#ifndef KDLIB_EXAMPLES_INSPECT_FINDINGS_HPP
#define KDLIB_EXAMPLES_INSPECT_FINDINGS_HPP

#include <kdlib/io/json_writer.hpp>
#include <kdlib/kdlib.hpp>
#include <kdlib/tools/process_start.hpp>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace inspect_program {

namespace kd = kdlib;

struct Fact {
  std::string group, name, value;
};
struct TensorRow {
  std::string name, type, shape, target;  // target: what the loader makes of the tensor
  std::uint64_t elements = 0, bytes = 0;
};
struct Findings {
  std::string path, kind;
  std::vector<Fact> facts;
  std::vector<TensorRow> tensors;
  std::vector<std::string> notes, problems;
  bool random = false;  // a model of a seed: there are no weights to check

  void add(const char* group, std::string name, std::string value) {
    facts.push_back({group, std::move(name), std::move(value)});
  }
};

struct TypeSum {
  std::string type;
  std::uint64_t tensors = 0, elements = 0, bytes = 0;
};
inline std::vector<TypeSum> by_type(const std::vector<TensorRow>& tensors) {
  std::vector<TypeSum> sums;
  for (const TensorRow& t : tensors) {
    auto at = std::find_if(sums.begin(), sums.end(), [&](const TypeSum& s) { return s.type == t.type; });
    if (at == sums.end()) at = sums.insert(at, TypeSum{t.type});
    ++at->tensors, at->elements += t.elements, at->bytes += t.bytes;
  }
  return sums;
}

inline void print_text(const Findings& found, bool tensors) {
  std::printf("%s: %s\n", kd::terminal_text(found.path).c_str(), found.kind.c_str());
  std::string group;
  for (const Fact& f : found.facts) {
    if (f.group != group) std::printf("\n%s\n", f.group.c_str());
    group = f.group;
    std::printf("  %-38s %s\n", kd::printable(f.name).c_str(), kd::terminal_text(f.value).c_str());
  }
  if (!found.tensors.empty()) std::printf("\ntensors\n");
  for (const TypeSum& s : by_type(found.tensors))
    std::printf("  %-8s %6llu tensors %14llu elements %10.1f MiB  %.2f bits an element\n", s.type.c_str(),
                static_cast<unsigned long long>(s.tensors), static_cast<unsigned long long>(s.elements),
                static_cast<double>(s.bytes) / 1048576.0,
                8.0 * static_cast<double>(s.bytes) / std::max(1.0, static_cast<double>(s.elements)));
  if (tensors)
    for (const TensorRow& t : found.tensors)
      std::printf("  %-60s %-7s %-16s %s%s\n", kd::printable(t.name).c_str(), t.type.c_str(), t.shape.c_str(),
                  t.target.empty() ? "" : "-> ", kd::terminal_text(t.target).c_str());
  for (const std::string& note : found.notes) std::printf("note: %s\n", kd::terminal_text(note).c_str());
  for (const std::string& problem : found.problems) std::printf("problem: %s\n", kd::terminal_text(problem).c_str());
}

/// JSON holds text alone: bytes of a file that are none are shown as \xHH.
inline std::string json_text(const std::string& text) {
  return kd::find_invalid_utf8(text) == text.npos ? text : kd::printable(text, text.size() * 4);
}
inline std::vector<std::string> json_texts(std::vector<std::string> texts) {
  for (std::string& text : texts) text = json_text(text);
  return texts;
}

inline void print_json(const Findings& found, bool tensors) {
  kd::JsonWriter json;
  json.begin_object().member("path", json_text(found.path)).member("kind", found.kind);
  std::string group;
  for (const Fact& f : found.facts) {
    if (f.group != group) (group.empty() ? json : json.end_object()).key(f.group).begin_object();
    group = f.group;
    json.member(json_text(f.name), json_text(f.value));
  }
  if (!group.empty()) json.end_object();
  json.key("types").begin_array();
  for (const TypeSum& s : by_type(found.tensors))
    json.begin_object()
        .member("type", s.type)
        .member("tensors", s.tensors)
        .member("elements", s.elements)
        .member("bytes", s.bytes)
        .end_object();
  json.end_array();
  if (tensors) {
    json.key("tensors").begin_array();
    for (const TensorRow& t : found.tensors)
      json.begin_object()
          .member("name", json_text(t.name))
          .member("type", t.type)
          .member("shape", t.shape)
          .member("bytes", t.bytes)
          .member("target", json_text(t.target))
          .end_object();
    json.end_array();
  }
  json.member("notes", json_texts(found.notes)).member("problems", json_texts(found.problems)).end_object();
  std::printf("%s\n", json.text().c_str());
}

}  // namespace inspect_program

#endif
