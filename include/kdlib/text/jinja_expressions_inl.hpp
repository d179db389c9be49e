// SPDX-License-Identifier: Apache-2.0
// How expressions of a template are evaluated.
#ifndef KDLIB_TEXT_JINJA_EXPRESSIONS_INL_HPP
#define KDLIB_TEXT_JINJA_EXPRESSIONS_INL_HPP

#include "kdlib/text/jinja_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC JinjaValue JinjaRun::value(const JinjaNode& node) {
  if (node.kind == Kind::constant) return node.value;
  if (node.kind == Kind::name) return name(node);
  const Depth depth(*this);
  heap_.step();
  place_ = node.place;
  switch (node.kind) {
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
      return collection(node);
    case Kind::attribute: {
      const JinjaValue object = value(*node.kids[0]);
      place_ = node.place;
      return attribute(object, node.value.view());
    }
    case Kind::item: {
      const JinjaValue object = value(*node.kids[0]), key = value(*node.kids[1]);
      place_ = node.place;
      return item(object, key);
    }
    case Kind::slice: {
      JinjaValue parts[4] = {{}, JinjaValue::none(), JinjaValue::none(), JinjaValue::none()};
      for (std::size_t i = 0; i < 4; ++i)
        if (node.kids[i] != nullptr) parts[i] = value(*node.kids[i]);
      place_ = node.place;
      return slice(parts[0], parts[1], parts[2], parts[3]);
    }
    case Kind::call:
      return call_node(node);
    case Kind::filter:
      return filter_node(node, nullptr);
    case Kind::test: {
      const JinjaValue subject = value(*node.kids[0]);
      const JinjaArguments given = arguments(node);
      place_ = node.place;
      if (node.run_test == nullptr) jinja_fail(JinjaError::Kind::unknown, "there is no test named ", node.value.view());
      return JinjaValue::of(node.run_test(*this, subject, given));
    }
    case Kind::unary:
      return unary(node);
    case Kind::binary:
      return binary(node);
    case Kind::compare:
      return compare(node);
    case Kind::conditional:
      if (truth(value(*node.kids[0]))) return value(*node.kids[1]);
      return node.kids[2] != nullptr ? value(*node.kids[2]) : node.value;
    default:
      return concatenate(node);
  }
}

KDLIB_FUNC JinjaValue JinjaRun::name(const JinjaNode& node) const {
  for (std::size_t i = locals_.size(); i-- > base_;)
    if (locals_[i].name == node.name) return locals_[i].value;
  const JinjaValue& found = top_[static_cast<std::size_t>(node.name)];
  return found.is(JinjaValue::Kind::undefined) && found.text == nullptr ? node.value : found;
}

KDLIB_FUNC JinjaValue JinjaRun::collection(const JinjaNode& node) {
  std::vector<JinjaValue> values;
  values.reserve(node.kids.size());
  for (const JinjaNode* kid : node.kids) values.push_back(value(*kid));
  if (node.kind == Kind::list) return heap_.list(values);
  if (node.kind == Kind::tuple) return heap_.list(values, JinjaValue::Kind::tuple);
  std::vector<JinjaMember> members;
  for (std::size_t i = 0; i < values.size(); i += 2) members.push_back({values[i], values[i + 1]});
  return heap_.dict(members);
}

KDLIB_FUNC JinjaValue JinjaRun::unary(const JinjaNode& node) {
  const JinjaValue v = value(*node.kids[0]);
  place_ = node.place;
  if (node.op == JinjaOp::logical_not) return JinjaValue::of(!truth(v));
  if (v.is(JinjaValue::Kind::undefined)) jinja_fail(JinjaError::Kind::undefined, v.view());
  if (!v.is_number() || v.is(JinjaValue::Kind::natural))
    jinja_fail(JinjaError::Kind::type, "a ", type_name(v), " has no sign");
  if (v.is(JinjaValue::Kind::real)) return JinjaValue::of(node.op == JinjaOp::negate ? -v.real : v.real);
  return arithmetic(node.op == JinjaOp::negate ? JinjaOp::subtract : JinjaOp::add, JinjaValue::of(std::int64_t{0}), v);
}

KDLIB_FUNC JinjaValue JinjaRun::binary(const JinjaNode& node) {
  const JinjaValue left = value(*node.kids[0]);
  if (node.op == JinjaOp::logical_and) return truth(left) ? value(*node.kids[1]) : left;
  if (node.op == JinjaOp::logical_or) return truth(left) ? left : value(*node.kids[1]);
  const JinjaValue right = value(*node.kids[1]);
  place_ = node.place;
  return node.op == JinjaOp::add ? add(left, right) : arithmetic(node.op, left, right);
}

KDLIB_FUNC JinjaValue JinjaRun::compare(const JinjaNode& node) {
  JinjaValue left = value(*node.kids[0]);
  for (std::size_t i = 1; i < node.kids.size(); ++i) {
    const JinjaValue right = value(*node.kids[i]->kids[0]);
    place_ = node.kids[i]->place;
    if (!compare(node.kids[i]->op, left, right)) return JinjaValue::of(false);
    left = right;
  }
  return JinjaValue::of(true);
}

KDLIB_FUNC bool JinjaRun::compare(JinjaOp op, const JinjaValue& a, const JinjaValue& b) {
  switch (op) {
    case JinjaOp::equal:
      return equal(heap_, a, b);
    case JinjaOp::not_equal:
      return !equal(heap_, a, b);
    case JinjaOp::less:
      return less(heap_, a, b);
    case JinjaOp::greater:
      return less(heap_, b, a);
    case JinjaOp::less_equal:
      return less(heap_, a, b) || equal(heap_, a, b);
    case JinjaOp::greater_equal:
      return less(heap_, b, a) || equal(heap_, a, b);
    case JinjaOp::in:
      return contains(b, a);
    default:
      return !contains(b, a);
  }
}

KDLIB_FUNC JinjaValue JinjaRun::concatenate(const JinjaNode& node) {
  std::string words;
  for (const JinjaNode* kid : node.kids) append_str(heap_, value(*kid), words);
  return text(words);
}

KDLIB_FUNC JinjaArguments JinjaRun::arguments(const JinjaNode& node, const JinjaValue* caller) {
  JinjaArguments out{node.value.is_string() ? node.value.view() : "the call", {}, {}};
  const std::size_t first = 1;
  if (node.kids.size() == first && node.keywords.empty() && node.spread == nullptr && node.spread_keywords == nullptr &&
      caller == nullptr)
    return out;
  std::vector<JinjaValue> values;
  std::vector<JinjaNamed> named;
  for (std::size_t i = first; i < node.kids.size(); ++i) values.push_back(value(*node.kids[i]));
  if (node.spread != nullptr) {
    const auto more = elements(value(*node.spread));
    values.insert(values.end(), more.begin(), more.end());
  }
  for (const auto& [name, kid] : node.keywords) named.push_back({name, value(*kid)});
  if (node.spread_keywords != nullptr) {
    const JinjaValue more = value(*node.spread_keywords);
    if (!more.is_dict()) jinja_fail(JinjaError::Kind::type, "** needs a dict, this is a ", type_name(more));
    for (const JinjaMember& m : more.dict->members()) named.push_back({string_of(m.key), m.value});
  }
  if (caller != nullptr) named.push_back({"caller", *caller});
  out.positional = heap_.list(values).list->elements();
  if (!named.empty()) {
    auto* kept = static_cast<JinjaNamed*>(heap_.allocate(named.size() * sizeof(JinjaNamed)));
    std::uninitialized_copy(named.begin(), named.end(), kept);
    out.named = {kept, named.size()};
  }
  return out;
}

KDLIB_FUNC JinjaValue JinjaRun::filter_node(const JinjaNode& node, const JinjaValue* subject) {
  const Depth depth(*this);
  const JinjaValue v = node.kids[0] == nullptr                                    ? *subject
                       : subject != nullptr && node.kids[0]->kind == Kind::filter ? filter_node(*node.kids[0], subject)
                                                                                  : value(*node.kids[0]);
  const JinjaArguments given = arguments(node);
  place_ = node.place;
  if (node.run_filter == nullptr) jinja_fail(JinjaError::Kind::unknown, "there is no filter named ", node.value.view());
  return node.run_filter(*this, v, given);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
