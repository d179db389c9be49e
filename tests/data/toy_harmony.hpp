// SPDX-License-Identifier: Apache-2.0
// Rows of thoughts as token files with the small tokenizer of examples/data/toy_harmony, and the same scored by a toy
// teacher.
#ifndef KDLIB_TESTS_DATA_TOY_HARMONY_HPP
#define KDLIB_TESTS_DATA_TOY_HARMONY_HPP

#include <string>

#include "kdlib/data/rescore.hpp"
#include "kdlib/data/token_files.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "support/shared.hpp"

namespace kdlib_tests {

inline const kdlib::Tokenizer& toy_harmony() {
  static const kdlib::Tokenizer tokenizer =
      kdlib::Tokenizer::from_pretrained(source_dir() + "/examples/data/toy_harmony/tokenizer.json");
  return tokenizer;
}

/// Token files of n rows in a folder of their own, and parts of all of them whose log-probabilities follow from token
/// and place.
class ToyRows {
 public:
  explicit ToyRows(int n, const std::string& split = "0") {
    std::string text;
    for (int i = 0; i < n; ++i) {
      const std::string number = std::to_string(i);
      text += "{\"synth_id\":\"row " + number + "\",\"query\":\"What is " + number +
              " + 1?\",\"synthetic_reasoning\":\"" + std::string(i % 2 == 0 ? "Add the numbers." : "Count on by one.") +
              " The sum follows.\",\"synthetic_answer\":\"" + std::to_string(i + 1) + "\"}\n";
    }
    kdlib::write_file_atomically(folder_ / "rows.jsonl", text);
    kdlib::TokenFileSettings s;
    s.inputs = {folder_ / "rows.jsonl"};
    s.out = folder_ / "files";
    s.split = split;
    s.rows.identity = "Toy.";
    kdlib::write_token_files(toy_harmony(), s);
    kdlib::RescoreSettings r;
    r.out = folder_ / "parts";
    r.fraction = "1";
    r.teacher = "toy";
    kdlib::rescore_documents(files(), r, [](std::span<const std::int32_t> ids) {
      std::vector<double> out;
      for (std::size_t t = 1; t < ids.size(); ++t)
        out.push_back(-0.01 * static_cast<double>((static_cast<std::size_t>(ids[t]) * 31 + t * 7) % 600));
      return out;
    });
  }
  kdlib::TokenShards files(const std::string& split = "train") const {
    return kdlib::TokenShards::open(folder_ / "files", split);
  }
  kdlib::TokenShards parts() const { return kdlib::TokenShards::open(folder_ / "parts", "parts"); }
  std::int64_t vocabulary() const { return toy_harmony().vocab_size(); }

 private:
  TemporaryDirectory folder_;
};

}  // namespace kdlib_tests

#endif
