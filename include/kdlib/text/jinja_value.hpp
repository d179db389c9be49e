// SPDX-License-Identifier: Apache-2.0
// Values of a template that is being rendered, and the memory that holds them until the rendering ends.
#ifndef KDLIB_TEXT_JINJA_VALUE_HPP
#define KDLIB_TEXT_JINJA_VALUE_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/io/json.hpp"
#include "kdlib/text/jinja_types.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct JinjaList;
struct JinjaDict;
struct JinjaSpace;
struct JinjaLoop;
struct JinjaMacro;
struct JinjaMethod;

/// Thrown if something goes wrong inside an expression. JinjaRun adds the template's name and the place.
struct JinjaFailure {
  JinjaError::Kind kind;
  std::string words;
};

template <class... Parts>
[[noreturn]] void jinja_fail(JinjaError::Kind kind, const Parts&... parts) {
  throw JinjaFailure{kind, concat(parts...)};
}

/// One value, cheap to copy. Texts, lists and other large parts are stored in a JinjaHeap, in the source of the
/// template or in the caller's data. They never change, except a JinjaSpace.
struct JinjaValue {
  enum class Kind : std::uint8_t {
    undefined,  // `text` holds the reason
    none,
    boolean,
    integer,
    natural,  // an integer above the range of int64; it can be printed and compared, but not calculated with
    real,
    string,
    list,
    tuple,
    dict,
    space,  // namespace(...)
    loop,
    macro,
    method,   // a method of a value that is not called yet
    function  // range, dict, namespace ...; the name is in `text`
  };
  Kind kind = Kind::undefined;
  bool markup = false;     // true: a string that the filter `safe` marked; `+` escapes a text that is joined to it
  std::uint32_t size = 0;  // size of a string in bytes
  union {
    const char* text = nullptr;
    bool boolean;
    std::int64_t integer;
    std::uint64_t natural;
    double real;
    const JinjaList* list;
    const JinjaDict* dict;
    JinjaSpace* space;
    const JinjaLoop* loop;
    const JinjaMacro* macro;
    const JinjaMethod* method;
  };

  bool is(Kind k) const { return kind == k; }
  bool is_string() const { return kind == Kind::string; }
  bool is_dict() const { return kind == Kind::dict; }
  bool is_sequence() const { return kind == Kind::list || kind == Kind::tuple; }
  bool is_integer() const { return kind == Kind::integer || kind == Kind::boolean; }  // as in Python
  bool is_number() const { return is_integer() || kind == Kind::real || kind == Kind::natural; }
  std::string_view view() const { return {text, size}; }  // for string, undefined and function
  std::int64_t as_integer() const { return kind == Kind::boolean ? static_cast<std::int64_t>(boolean) : integer; }
  double as_real() const {
    return kind == Kind::real      ? real
           : kind == Kind::natural ? static_cast<double>(natural)
                                   : static_cast<double>(as_integer());
  }

  static JinjaValue none() { return of_kind(Kind::none); }
  static JinjaValue of(bool b) {
    JinjaValue v = of_kind(Kind::boolean);
    v.boolean = b;
    return v;
  }
  static JinjaValue of(std::int64_t i) {
    JinjaValue v = of_kind(Kind::integer);
    v.integer = i;
    return v;
  }
  static JinjaValue of(double d) {
    JinjaValue v = of_kind(Kind::real);
    v.real = d;
    return v;
  }
  /// Makes a value of a string that outlives the rendering: a literal, or a text in the source, in the caller's data or
  /// in the heap.
  static JinjaValue of(std::string_view text, Kind kind = Kind::string) {
    if (text.size() > UINT32_MAX) jinja_fail(JinjaError::Kind::limit, "a text is longer than 4 GiB");
    JinjaValue v = of_kind(kind);
    v.text = text.data();
    v.size = static_cast<std::uint32_t>(text.size());
    return v;
  }
  static JinjaValue of_kind(Kind kind) {
    JinjaValue v;
    v.kind = kind;
    return v;
  }
};

/// A list, a tuple or a generator. A generator is what Python makes element by element (`select`, `map` ...): it is
/// always true, has no length, and its elements can be visited only once.
struct JinjaList {
  const JinjaValue* items = nullptr;
  std::size_t size = 0;
  unsigned depth = 1;  // nesting of lists and dicts; 1: no list or dict inside
  bool generator = false;
  mutable bool used = false;

  std::span<const JinjaValue> elements() const { return {items, size}; }
};

struct JinjaMember {
  JinjaValue key, value;
};

struct JinjaDict {
  const JinjaMember* items = nullptr;
  std::size_t size = 0;
  unsigned depth = 1;

  std::span<const JinjaMember> members() const { return {items, size}; }
  const JinjaValue* find(std::string_view key) const {
    for (const JinjaMember& m : members())
      if (m.key.is_string() && m.key.view() == key) return &m.value;
    return nullptr;
  }
};

/// A namespace(...), the only object that a template can change. Its values may be other namespaces, and these may form
/// a cycle.
struct JinjaSpace {
  std::vector<JinjaMember> members;
};

struct JinjaLoop {
  std::span<const JinjaValue> items;
  std::size_t index = 0;  // counts from 0
};

struct JinjaMethod {
  JinjaValue self;
  std::string_view name;
};

/// The memory of one rendering: blocks that are freed together, with a limit for the sum of all requests. No block is
/// freed earlier, so that this sum limits the memory and, together with the steps, the time.
class JinjaHeap {
 public:
  explicit JinjaHeap(const JinjaLimits& limits) : limits_(limits), left_(limits.bytes), steps_left_(limits.steps) {}

  void* allocate(std::size_t bytes);
  /// Counts bytes that are held elsewhere (the output). Fails if the limit is exceeded.
  void charge(std::size_t bytes);
  /// Counts work: one step for each node that is evaluated, for each element that is visited, and for each 16 bytes
  /// that are searched.
  void step(std::size_t steps = 1) {
    if (steps > steps_left_)
      jinja_fail(JinjaError::Kind::limit, "the rendering takes more than ", limits_.steps, " steps");
    steps_left_ -= steps;
  }

  JinjaValue copy(std::string_view text);
  JinjaValue undefined(const std::string& why) {
    JinjaValue v = copy(why);
    v.kind = JinjaValue::Kind::undefined;
    return v;
  }
  JinjaValue list(std::span<const JinjaValue> items, JinjaValue::Kind kind = JinjaValue::Kind::list);
  JinjaValue generator(std::span<const JinjaValue> items);
  /// Makes a dict. If a key comes twice, the later value takes the place of the first one, as in Python.
  JinjaValue dict(std::span<const JinjaMember> members);
  JinjaValue space();
  JinjaLoop* loop();
  JinjaValue method(JinjaValue self, std::string_view name);
  /// Converts JSON. Strings are not copied, so that `json` must outlive the rendering.
  JinjaValue from_json(const Json& json);
  /// Does the same, and converts each string (but not the keys) with `string(text)`.
  template <class String>
  JinjaValue from_json(const Json& json, const String& string);

  template <class T>
  T* make() {
    return new (allocate(sizeof(T))) T();
  }

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  std::vector<std::unique_ptr<JinjaSpace>> spaces_;
  char* at_ = nullptr;
  std::size_t room_ = 0;
  JinjaLimits limits_;
  std::size_t left_;
  std::uint64_t steps_left_;
};

inline constexpr unsigned jinja_max_depth = Json::max_depth;  // largest nesting of lists and dicts

bool truth(const JinjaValue& v);
bool equal(JinjaHeap& heap, const JinjaValue& a, const JinjaValue& b);
/// True if a < b. Fails, as Python does, for kinds of values that have no order.
bool less(JinjaHeap& heap, const JinjaValue& a, const JinjaValue& b);
/// Returns Python's name of the type: "str", "dict" ...
std::string_view type_name(const JinjaValue& v);

/// These functions append values as Python's str() and repr() show them; append_repr_text() appends the repr of a text.
void append_repr_text(std::string_view text, std::string& out);
void append_str(JinjaHeap& heap, const JinjaValue& v, std::string& out);
void append_repr(JinjaHeap& heap, const JinjaValue& v, std::string& out);

struct JsonForm {
  bool ascii = false, sorted = false;
  std::optional<std::string> indent = {};
  std::string item = ", ", key = ": ";  // separators between items, and between key and value
};
/// Appends a value as Python's json.dumps writes it.
void append_json(JinjaHeap& heap, const JinjaValue& v, const JsonForm& form, std::string& out, unsigned level = 0);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/jinja_print_inl.hpp"
#include "kdlib/text/jinja_value_inl.hpp"
#endif

#endif
