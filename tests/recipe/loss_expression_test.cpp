// SPDX-License-Identifier: Apache-2.0
// The grammar of --loss: every loss with its fields, sums, open fields, places and near names in errors, the files of
// the two recipes.
#include "kdlib/recipe/loss_expression.hpp"

#include "kdlib/tools/yaml_settings.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

namespace {
using namespace kdlib;

std::string again(const std::string& text) { return parse_loss(text).text(); }

template <class L>
L only_loss(const std::string& text, const OpenLossFields& open = {}) {
  const LossExpression e = parse_loss(text, open);
  REQUIRE(e.terms.size() == 1);
  REQUIRE(e.terms[0].loss.is<L>());
  return e.terms[0].loss.as<L>();
}
}  // namespace

TEST_CASE("a name is a loss with its own defaults", "[recipe]") {
  AllLosses::for_each([&]<class L>(const L& loss) {
    std::string text = snake_case(plain_type_name<L>());
    INFO(text);
    std::string fixed;
    visit_fields(loss, [&](const FieldInfo& field, auto& value) {
      if (field.fixed) fixed = concat("(", field.name, "=", setting_text(value), ")");
    });
    SettingsList want, got;
    append_fields(want, "loss", loss);
    append_fields(got, "loss", only_loss<L>(text + fixed));
    CHECK(got == want);
  });
}

TEST_CASE("every field of every loss is read and written again", "[recipe]") {
  AllLosses::for_each([&]<class L>(const L&) {
    L loss;
    visit_fields(loss, [&](const FieldInfo& field, auto& value) {
      using V = std::remove_reference_t<decltype(value)>;
      INFO(plain_type_name<L>() << "." << field.name);
      if constexpr (std::is_const_v<V>) return;
      else if constexpr (std::is_same_v<V, bool>) value = !value;
      else if constexpr (std::is_enum_v<V>) value = static_cast<V>(1);
      else value = V(0.75);
    });
    const LossExpression written{{{0.5, loss}}};
    const LossExpression read = parse_loss(written.text());
    INFO(written.text());
    CHECK(read.describe() == written.describe());
    CHECK(read.text() == written.text());
  });
}

TEST_CASE("sums have weights, signs and blanks anywhere", "[recipe]") {
  const LossExpression e = parse_loss("0.8 reverse_kl(temperature=2) + 0.2 cross_entropy");
  REQUIRE(e.terms.size() == 2);
  CHECK(e.terms[0].weight == 0.8);
  CHECK(e.terms[0].loss.as<ReverseKl>().temperature == 2);
  CHECK(e.terms[0].loss.as<ReverseKl>().t_squared);
  CHECK(e.terms[1].weight == 0.2);
  CHECK(e.terms[1].loss.as<CrossEntropy>().temperature == 1);
  CHECK(e.needs() == LossNeeds::vocabulary);
  CHECK(again("  2*forward_kl-1e-2   negative_entropy ( temperature = 2 , t_squared = off )") ==
        "2 forward_kl - 0.01 negative_entropy(temperature=2, t_squared=off)");
  CHECK(again("forward_kl + 0.5 negative_entropy") == "forward_kl + 0.5 negative_entropy");
  CHECK(again("label_smoothing(epsilon=0)") == "cross_entropy");
  CHECK(again("label_smoothing(epsilon=1)") == "uniform_cross_entropy");
  CHECK(again("jensen_shannon(beta=.25)") == "jsd(beta=0.25)");
  CHECK(again("label_smoothing(epsilon=0.25)") == "0.75 cross_entropy + 0.25 uniform_cross_entropy");
  CHECK(parse_loss({"0.8 reverse_kl(temperature=2)", "0.2 cross_entropy", "-0.1 negative_entropy"}).text() ==
        "0.8 reverse_kl(temperature=2) + 0.2 cross_entropy - 0.1 negative_entropy");
  CHECK(parse_loss("cross_entropy + z_loss").needs() == LossNeeds::labels);
  CHECK(parse_loss("cross_entropy + policy_gradient").needs() == LossNeeds::sampled_tokens);
  CHECK(parse_loss("cross_entropy + top_k_forward_kl(mass=raw)").needs() == LossNeeds::top_k);
}

TEST_CASE("options fill what a divergence leaves open, never cross-entropy's fields", "[recipe]") {
  const OpenLossFields hot{.temperature = 3.0};
  CHECK(only_loss<ForwardKl>("forward_kl", hot).temperature == 3);
  CHECK(only_loss<TopKForwardKl>("top_k_forward_kl", hot).temperature == 3);
  const LossExpression e = parse_loss("reverse_kl(temperature=2) + forward_kl + cross_entropy + negative_entropy", hot);
  CHECK(e.terms[0].loss.as<ReverseKl>().temperature == 2);
  CHECK(e.terms[1].loss.as<ForwardKl>().temperature == 3);
  CHECK(e.terms[2].loss.as<CrossEntropy>().temperature == 1);
  CHECK(e.terms[3].loss.as<NegativeEntropy>().temperature == 1);
  CHECK_FALSE(only_loss<ForwardKl>("forward_kl", {.t_squared = false}).t_squared);
  CHECK(only_loss<JensenShannon>("jsd", {.beta = 0.9}).beta == 0.9);
  CHECK(only_loss<JensenShannon>("jsd", {.temperature = 2.0, .beta = 0.9}).temperature == 2);
  CHECK_THROWS_WITH(parse_loss("forward_kl", {.beta = 0.9}), contains("--beta is given, but no jsd"));
  CHECK_THROWS_WITH(parse_loss("jsd(beta=0.5)", {.beta = 0.9}), contains("leaves its beta open"));
  CHECK_THROWS_WITH(parse_loss("cross_entropy", hot), contains("--temperature is given, but no divergence"));
  CHECK_THROWS_WITH(parse_loss("policy_gradient", {.t_squared = true}), contains("--t-squared is given"));
}

TEST_CASE("errors name the place, what stands there and the nearest names", "[recipe]") {
  const auto refused = [](const std::string& text, const std::string& words) {
    INFO(text);
    CHECK_THROWS_WITH(parse_loss(text), contains(words));
  };
  refused("", "at character 1 of \"\": the text is empty");
  refused("revers_kl", "at character 1 of \"revers_kl\": there is no loss revers_kl; did you mean reverse_kl?");
  refused("0.5 forward_kl + 0.5 cross_entorpy", "at character 22");
  refused("0.5 forward_kl + 0.5 cross_entorpy", "did you mean cross_entropy?");
  refused("ForwardKl", "did you mean forward_kl?");
  refused("forward_kl(temperatur=2)",
          "at character 12 of \"forward_kl(temperatur=2)\": forward_kl has no field "
          "temperatur; did you mean temperature? (it has temperature, t_squared)");
  refused("z_loss(x=1)", "z_loss has no field x; it has none");
  refused("forward_kl(temperature=hot)", "at character 24");
  refused("forward_kl(temperature=2x)", "temperature is '2x'; it must be a number, > 0");
  refused("forward_kl(temperature=nan)", "it must be a number");
  refused("forward_kl(temperature=0)", "temperature is 0; it must be positive");
  refused("forward_kl(t_squared=maybe)", "it must be on or off");
  refused("forward_kl(temperature=2, temperature=3)", "given twice");
  refused("jsd(beta=2)", "beta is 2");
  refused("skew_forward_kl(lambda=1)", "lambda is 1");
  refused("forward_kl reverse_kl", "at character 12 of \"forward_kl reverse_kl\": '+' is needed between two losses");
  refused("0.5 + forward_kl", "at character 5 of \"0.5 + forward_kl\": the name of a loss is needed, not '+'");
  refused("0.5 forward_kl +", "not the end of the text");
  refused("forward_kl(temperature=2", "')' or ',' is needed");
  refused("forward_kl()x", "'+' is needed");
  refused("0.5 \xc3\xa9x", "not '\xc3\xa9'");
  refused("1e999 forward_kl", "is no weight");
  refused("inf forward_kl", "'inf' is no weight: give a finite number");
  refused("nan * forward_kl", "'nan' is no weight");
  refused("-0.5 forward_kl", "the weight of forward_kl is -0.5; it must be above 0 and at most 1e30");
  refused("forward_kl - 2 jsd", "at character 16 of \"forward_kl - 2 jsd\": the weight of jsd is -2");
  refused("forward_kl + 0 cross_entropy",
          "the weight of cross_entropy is 0; it must be above 0 and at most 1e30: leave the");
  refused("forward_kl - 0 negative_entropy",
          "the weight of negative_entropy is -0; it must be from -1e30 to 1e30 and not 0");
  refused("-1 label_smoothing", "the weight of uniform_cross_entropy is -0.1");
  refused("sampled_kl", "sampled_kl needs its estimator: k2 or k3");
  refused("sampled_kl(estimator=k1)", "The gradient of k1 as a loss is 0 in expectation");
  refused("top_k_reverse_kl(mass=raw)", "mass of top_k_reverse_kl is 'raw'; it must be tail or renormalised");
  refused("top_k_forward_kl(mass=tial)", "did you mean tail?");
  refused("top_k_forward_kl + forward_kl", "top-k targets do not tell that");
  refused("label_smoothing(epsilon=2)", "epsilon is 2");
  std::string nine = "z_loss";
  for (int i = 0; i < 8; ++i) nine += " + z_loss";
  refused(nine, "a sum has at most 8 terms");
}

TEST_CASE("the help names every loss with the ranges of its fields", "[recipe]") {
  CHECK_THAT(loss_help(), contains("  jsd(beta in [0, 1], temperature > 0, t_squared, scaled); reads vocabulary\n") &&
                              contains("  top_k_reverse_kl(temperature > 0, t_squared, mass tail or renormalised)") &&
                              contains("  sampled_kl(estimator k2 or k3); reads sampled_tokens\n"));
}

TEST_CASE("the files of the two recipes hold their sums", "[recipe]") {
  const auto loss_of = [](const char* name) {
    for (const FileSetting& setting : read_yaml_settings(concat(kdlib_tests::source_dir(), "/examples/data/", name)))
      if (setting.key == "loss") return parse_loss(setting.values).text();
    return std::string("no loss");
  };
  CHECK(loss_of("reverse_kl_and_labels.yaml") == "0.8 reverse_kl(temperature=2) + 0.2 cross_entropy");
  CHECK(loss_of("forward_kl_and_labels.yaml") == "0.5 cross_entropy + 0.5 forward_kl(temperature=2)");
}
