// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/distillkit_file.hpp.
#ifndef KDLIB_TOOLS_DISTILLKIT_FILE_INL_HPP
#define KDLIB_TOOLS_DISTILLKIT_FILE_INL_HPP

#include "kdlib/tools/distillkit_file.hpp"
#include "kdlib/tools/yaml_file.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC DType distillkit_dtype(const YamlFile& file, const YAML::Node& node, const char* key) {
  const std::string word = file.text(node, key);
  for (const auto& [name, type] :
       {std::pair("float64", DType::f64), {"float32", DType::f32}, {"float16", DType::f16}, {"bfloat16", DType::bf16}})
    if (word == name) return type;
  fail<UsageError>(file.place(node), ": ", key, " is ", word, "; it must be float64, float32, float16 or bfloat16");
}

}  // namespace detail

KDLIB_TOOLS_FUNC DistillKitFormat read_distillkit_format(const std::string& path) {
  const detail::YamlFile file(path);
  const YAML::Node root = file.load();
  file.check_keys(root, "the file",
                  {"d", "k", "exact_k", "exact_dtype", "polynomial_terms", "term_dtype", "residual_bins",
                   "delta_encoding", "error_diffusion", "normalize_t"});
  for (const char* key : {"d", "k"}) require<UsageError>(root[key].IsDefined(), path, ": ", key, " is missing");
  DistillKitFormat f;
  f.vocabulary = file.number<std::int64_t>(root["d"], "d");
  f.top_k = file.number<std::int64_t>(root["k"], "k");
  if (root["exact_k"]) f.exact_k = file.number<std::int64_t>(root["exact_k"], "exact_k");
  if (root["exact_dtype"]) f.exact = detail::distillkit_dtype(file, root["exact_dtype"], "exact_dtype");
  if (root["term_dtype"]) f.term = detail::distillkit_dtype(file, root["term_dtype"], "term_dtype");
  for (const auto& term : root["polynomial_terms"]) f.terms.push_back(file.text(term, "polynomial_terms"));
  for (const auto& bin : root["residual_bins"]) {
    file.check_keys(bin, "a residual bin", {"scale_dtype", "element_bits", "num_elements"});
    for (const char* key : {"scale_dtype", "element_bits", "num_elements"})
      require<UsageError>(bin[key].IsDefined(), file.place(bin), ": a residual bin needs ", key);
    f.bins.push_back({detail::distillkit_dtype(file, bin["scale_dtype"], "scale_dtype"),
                      file.number<int>(bin["element_bits"], "element_bits"),
                      file.number<std::int64_t>(bin["num_elements"], "num_elements")});
  }
  if (root["delta_encoding"]) f.delta_encoding = file.flag(root["delta_encoding"], "delta_encoding");
  if (root["normalize_t"]) f.normalize_t = file.flag(root["normalize_t"], "normalize_t");
  f.check();
  return f;
}

KDLIB_NAMESPACE_END

#endif
