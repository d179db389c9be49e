// SPDX-License-Identifier: Apache-2.0
// Lists of fields, the texts of their values, names near to a misspelt one.
#include "kdlib/core/fields.hpp"

#include <array>

#include "support/catch.hpp"

namespace {

enum class Colour { red, green };
constexpr std::array<const char*, 2> enum_names(Colour) { return {"red", "green"}; }
enum class Plain { a, b };

struct Inner {
  int count = 3;
  bool on = false;
};
/// No list of its own.
struct Unlisted {
  double x = 0.1;
  float y = 0.1f;
  Colour colour = Colour::green;
  Plain plain = Plain::b;
  Inner inner{};
};
struct Listed {
  double rate = 0.5;
  Inner inner{};

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(kdlib::FieldInfo{"rate", "steps", "> 0", "of something"}, self.rate);
    f(kdlib::FieldInfo{"inner"}, self.inner);
    constexpr Colour colour = Colour::red;
    f(kdlib::FieldInfo{"colour", "", "", "", true}, colour);
  }
};
class Closed {
 public:
  explicit Closed(int x) : x_(x) {}
  int x() const { return x_; }

 private:
  int x_;
};

template <class X>
kdlib::SettingsList fields_of(const X& x) {
  kdlib::SettingsList list;
  kdlib::append_fields(list, "it", x);
  return list;
}

}  // namespace

TEST_CASE("a type that lists its fields is written as it lists them, fields of fields too", "[core]") {
  CHECK(fields_of(Listed{}) ==
        kdlib::SettingsList{
            {"it.rate", "0.5"}, {"it.inner.member_0", "3"}, {"it.inner.member_1", "false"}, {"it.colour", "red"}});
  Listed changed;
  kdlib::visit_fields(changed, [](const kdlib::FieldInfo& field, auto& value) {
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, double>) {
      CHECK(std::string(field.unit) == "steps");
      value = 2;
    }
  });
  CHECK(changed.rate == 2);
}

TEST_CASE("a small aggregate without a list is written by the places of its members", "[core]") {
  CHECK(fields_of(Unlisted{}) == kdlib::SettingsList{{"it.member_0", "0.1"},
                                                     {"it.member_1", "0.1"},
                                                     {"it.member_2", "green"},
                                                     {"it.member_3", "1"},
                                                     {"it.member_4.member_0", "3"},
                                                     {"it.member_4.member_1", "false"}});
  CHECK(kdlib::has_comparable_fields<Unlisted>);
  CHECK_FALSE(kdlib::has_comparable_fields<Closed>);
  int captured = 3;
  const auto lambda = [captured](int x) { return x + captured; };
  CHECK_FALSE(kdlib::has_comparable_fields<decltype(lambda)>);
  STATIC_REQUIRE(kdlib::detail::member_count<Unlisted>() == 5);
  STATIC_REQUIRE(kdlib::detail::member_count<Listed>() == 2);
}

TEST_CASE("numbers are written in the shortest form that reads back as the same number", "[core]") {
  CHECK(kdlib::setting_text(0.1) == "0.1");
  CHECK(kdlib::setting_text(0.1f) == "0.1");
  CHECK(kdlib::setting_text(static_cast<double>(0.1f)) != "0.1");
  CHECK(kdlib::setting_text(true) == "true");
  CHECK(kdlib::setting_text(std::uint64_t{18446744073709551615u}) == "18446744073709551615");
  CHECK(kdlib::setting_text(std::vector<std::int32_t>{2, 0, -1}) == "2 0 -1");
}

TEST_CASE("texts of every kind are compared by their characters", "[core]") {
  struct Texts {
    std::string own = "a";
    std::string_view seen = "b";
    const char* plain = "c";
    const char* none = nullptr;
  };
  CHECK(fields_of(Texts{}) ==
        kdlib::SettingsList{{"it.member_0", "a"}, {"it.member_1", "b"}, {"it.member_2", "c"}, {"it.member_3", ""}});
}

TEST_CASE("type names become words, and near names are found", "[core]") {
  CHECK(kdlib::snake_case("TopKForwardKl") == "top_k_forward_kl");
  CHECK(kdlib::plain_type_name<Listed>() == "Listed");
  CHECK(kdlib::plain_type_name<std::vector<int>>() == "vector");
  const std::vector<std::string> names{"forward_kl", "reverse_kl", "cross_entropy"};
  CHECK(kdlib::nearest_names("reverse_lk", names) == std::vector<std::string>{"reverse_kl"});
  CHECK(kdlib::did_you_mean("forwrd_kl", names) == "; did you mean forward_kl?");
  CHECK(kdlib::did_you_mean("entirely different", names).empty());
}
