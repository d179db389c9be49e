// SPDX-License-Identifier: Apache-2.0
// A teacher's hidden states on disk: the same targets and the same training as with the live teacher.
#include <algorithm>
#include <cmath>

#include "kdlib/data/document_dataset.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/optim/adamw.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/run_files.hpp"
#include "support/tolerance.hpp"
#include "teacher/cache_support.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// Trains a student for as many steps as there are batches; answers its values.
template <class Teacher>
std::vector<float> trained(const Teacher& teacher, const TokenBatch& documents, std::int64_t batch) {
  Toy student(toy_vocabulary, 4, 9);
  Trainer trainer{student, DocumentDataset{documents, {.batch = batch, .seed = 3, .epochs = 1}},
                  Objective{teacher, ForwardKl{}}, AdamW{}, ConstantRate{1e-2}};
  trainer.run({.steps = (documents.documents() + batch - 1) / batch});
  return all_values(student);
}

}  // namespace

TEST_CASE("cached hidden states are the live teacher's, in every order and batch", "[teacher][cache][C20]") {
  const TemporaryDirectory folder;
  Toy model(toy_vocabulary, toy_width, 1);
  const TokenBatch documents = toy_documents();
  make_cache(model, folder.path(), hidden_settings(), documents);
  const TeacherCache cache(folder.path());
  cache.verify();
  CHECK(cache.meta().rows == static_cast<std::int64_t>(documents.rows().token.size()));
  CHECK(cache.tokens().ids == documents.ids);
  CHECK(cache.tokens().offsets == documents.offsets);
  CHECK(cache.tokens().rows().weight == documents.rows().weight);
  LiveTeacher live{model};
  CachedHiddenTeacher<Cpu> cached{cache};
  static_assert(TeacherSource<CachedHiddenTeacher<Cpu>>);
  for (const std::vector<std::int64_t>& order : {std::vector<std::int64_t>{0}, {7, 2, 11}, {3, 3}, {11, 10, 9, 8, 0}}) {
    TokenBatch batch;
    for (const std::int64_t b : order) batch.append(documents.document(b));
    live.prepare(batch);
    cached.prepare(batch);
    const auto expected = live.targets(0, live.rows()), got = cached.targets(0, live.rows());
    REQUIRE(got.hidden.shape() == expected.hidden.shape());
    CHECK(std::equal(got.hidden.data(), got.hidden.data() + got.hidden.count(), expected.hidden.data()));
    REQUIRE(got.head.weight.shape() == expected.head.weight.shape());
    CHECK(std::equal(got.head.weight.data(), got.head.weight.data() + got.head.weight.count(),
                     expected.head.weight.data()));
    if (live.rows() > 1) CHECK(cached.targets(1, 1).hidden.data() == got.hidden.data() + toy_width);
    CHECK_THROWS_AS(cached.targets(1, live.rows()), ShapeError);
  }
}

TEST_CASE("a run from a cache in float gives the bytes of the run beside the live teacher", "[teacher][cache]") {
  const TemporaryDirectory folder;
  Toy model(toy_vocabulary, toy_width, 1);
  const TokenBatch documents = toy_documents();
  CacheSettings settings = hidden_settings();
  settings.shuffled = true;
  settings.seed = 3;
  make_cache(model, folder.path(), settings, documents);
  const TeacherCache cache(folder.path());
  const std::vector<float> live = trained(LiveTeacher{model}, documents, 2);
  CHECK(trained(CachedHiddenTeacher<Cpu>{cache}, documents, 2) == live);
  CHECK(trained(CachedHiddenTeacher<Cpu>{cache}, cache.tokens(), 2) == live);
  Toy untrained(toy_vocabulary, 4, 9);
  CHECK(all_values(untrained) != live);
}

TEST_CASE("the beginning of a cached document is found in it; hidden states in bf16 are rounded once",
          "[teacher][cache]") {
  const TemporaryDirectory folder;
  Toy model(toy_vocabulary, toy_width, 1);
  const TokenBatch documents = toy_documents();
  CacheSettings settings = hidden_settings();
  settings.store = CacheStore::bf16;
  make_cache(model, folder.path(), settings, documents);
  const TeacherCache cache(folder.path());
  CachedHiddenTeacher<Cpu> cached{cache};
  LiveTeacher live{model};
  for (std::int64_t b = 0; b < documents.documents(); ++b) {
    const TokenBatch whole = documents.document(b);
    TokenBatch part;
    const auto length = static_cast<std::size_t>(std::max<std::int64_t>(2, whole.tokens() / 2));
    part.append(std::span(whole.ids).first(length), std::span(whole.weights).first(length));
    live.prepare(part);
    cached.prepare(part);
    const auto expected = live.targets(0, live.rows()), got = cached.targets(0, live.rows());
    for (std::int64_t i = 0; i < expected.hidden.count(); ++i)
      CHECK(got.hidden.data()[i] == static_cast<float>(bf16(expected.hidden.data()[i])));
  }
}

TEST_CASE("a head with a bias, a cap and a scale comes back whole", "[teacher][cache]") {
  const TemporaryDirectory folder;
  const std::vector<float> weight = {1, 2, 3, 4, 5, 6}, bias = {7, 8};
  HeadView<float, Cpu> head;
  head.weight = {weight.data(), {2, 3}};
  head.bias = {bias.data(), {2}};
  head.softcap = 30.1f;
  head.logit_scale = 0.3f;
  const std::string path = folder / "head.safetensors";
  write_cache_head(path, head);
  const auto back = read_cache_head<float, Cpu>(path, 2, 3);
  const HeadView<float, Cpu> view = back.view();
  CHECK(view.softcap == head.softcap);
  CHECK(view.logit_scale == head.logit_scale);
  CHECK(std::equal(weight.begin(), weight.end(), view.weight.data()));
  CHECK(std::equal(bias.begin(), bias.end(), view.bias.data()));
  CHECK_THAT(refusal([&] { read_cache_head<float, Cpu>(path, 3, 2); }), contains("weight") && contains("[3, 2]"));
  const auto read = [&](const char* key, const char* value) {
    SafetensorsWriter file(path);
    for (const char* name : {"softcap", "logit_scale"})
      file.metadata(name, std::string_view(name) == key ? value : "1");
    if (std::string_view(key) == "type") file.metadata(key, value);
    file.add("weight", Shape{2, 3}, std::span<const float>(weight));
    file.commit();
    return refusal([&] { read_cache_head<float, Cpu>(path, 2, 3); });
  };
  CHECK_THAT(read("softcap", "1e300"), contains("head.safetensors: softcap is inf"));
  CHECK_THAT(read("softcap", "-2"), contains("softcap is -2"));
  CHECK_THAT(read("logit_scale", "-1e39"), contains("logit_scale -inf"));
  for (const char* type : {"1e300", "-1", "4294967296", "30.5"})
    CHECK_THAT(read("type", type), contains("are no blocks of type"));
}

TEST_CASE("a head in the blocks of its file is kept in them", "[teacher][cache]") {
  const TemporaryDirectory folder;
  std::vector<bf16> values;
  for (int i = 0; i < 5 * 4; ++i) values.emplace_back(0.37f * static_cast<float>(i) - 3);
  StoredParts parts;
  parts.type = GgufType::bf16;
  parts.parts = {reinterpret_cast<const std::byte*>(values.data())};
  parts.rows = 5;
  parts.columns = 4;
  const StoredMatrix<float, Cpu> stored(parts, nullptr);
  HeadView<float, Cpu> head;
  head.weight = {nullptr, {5, 4}};
  head.packed = &stored;
  const std::string path = folder / "head.safetensors";
  write_cache_head(path, head);
  const auto back = read_cache_head<float, Cpu>(path, 5, 4);
  REQUIRE(back.packed != nullptr);
  CHECK(back.packed->description() == stored.description());
  const Tensor<float, Cpu> a = stored.decode_all(), b = back.packed->decode_all();
  CHECK(std::equal(a.data(), a.data() + a.count(), b.data()));
  CHECK(file_size(path) < 5 * 4 * 4 + 300);
}

TEST_CASE("a teacher that gives NaN is refused, and nothing that holds it is written", "[teacher][cache]") {
  const TemporaryDirectory folder;
  Toy model(toy_vocabulary, toy_width, 1);
  const TokenBatch documents = toy_documents();
  const std::int64_t token = documents.rows().token.back();
  model.parameters()[0]->value.data()[documents.ids[static_cast<std::size_t>(token)] * toy_width + 2] = NAN;
  for (const CacheSettings& settings : {hidden_settings(), top_k_settings()}) {
    const std::string out = folder / setting_text(settings.kind);
    CHECK_THAT(refusal([&] { make_cache(model, out, settings, documents); }),
               contains("not a finite number") && contains("token"));
    CHECK_THAT(refusal([&] { TeacherCache{out}; }), contains("complete is false, true is needed"));
  }
}
