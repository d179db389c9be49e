// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_pair.hpp.
#ifndef KDLIB_TOOLS_DISTIL_PAIR_INL_HPP
#define KDLIB_TOOLS_DISTIL_PAIR_INL_HPP

#include <cmath>
#include <cstdio>

#include "kdlib/checkpoint/random_weights.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/temporary_folder.hpp"
#include "kdlib/tools/distil_pair.hpp"
#include "kdlib/tools/random_models.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What such a program is told besides the options of distil.
struct PairWords {
  std::string scale = "full";
  bool random_weights = false;
};

/// One run of such a program.
template <class D, class T>
class PairRun {
  using Model = Decoder<D, T>;

 public:
  PairRun(const DistilPair& pair, DistilCommand& command, const PairWords& words)
      : pair_(pair),
        command_(command),
        s_(command.settings()),
        scale_(words.scale),
        random_(words.random_weights),
        teacher_(scale_ == "tiny" ? tiny_config(pair.teacher) : pair.teacher),
        student_(scale_ == "tiny" ? tiny_config(pair.student) : pair.student) {
    check_combination();
  }

  int run() {
    if (command_.dry_run()) return print_plan(), 0;
    require_memory();
    if (random_) keep_random_models();
    return run_session<D, T>(
        s_, command_.status_file(), [this](Session<D, T>& session) { add_tasks(session, command_); },
        [this](Session<D, T>& session) {
          if (session.student() != nullptr) check_written(session);
        });
  }

 private:
  std::string random_path(const char* name) const { return join_path(join_path(s_.output.folder, "random"), name); }
  std::string tag() const { return "[" + pair_.program + "] "; }

  void check_combination();
  void check_directory(const std::string& path, const DecoderConfig& expected, const std::string& name) const;
  RecipePlan plan(const PlanMachine& machine) const {
    return plan_recipe(s_, {teacher_, student_, false, prompt_tokens_}, machine);
  }
  RecipePlan counted_plan() const;
  void print_plan();
  void require_memory();
  void keep_random_models();
  void make_random_models(RecipeSettings& settings, const std::string& folder) const;
  std::string random_prompts(std::uint32_t row, std::int64_t count) const;
  void check_written(Session<D, T>& session) const;

  const DistilPair& pair_;
  const DistilCommand& command_;
  RecipeSettings s_;
  const std::string scale_;
  const bool random_;
  DecoderConfig teacher_, student_;
  double prompt_tokens_ = 64;
};

template <class D, class T>
void PairRun<D, T>::check_combination() {
  const bool paths = !s_.models.teacher.empty() || !s_.models.student.empty();
  require<UsageError>(!s_.models.by_row(), tag(), "--teachers belongs to distil: this program has one teacher");
  require<UsageError>(!random_ || !paths, tag(),
                      "--random-weights makes both models; leave out --teacher and --student");
  require<UsageError>(random_ || command_.dry_run() || (!s_.models.teacher.empty() && !s_.models.student.empty()),
                      tag(), "give --teacher DIR (", pair_.teacher_name, ") and --student DIR (", pair_.student_name,
                      "), or --random-weights, or --dry-run");
  require<UsageError>(random_ || !paths || scale_ == "full", tag(),
                      "--scale tiny has no published weights; use it with --random-weights");
  if (!s_.models.teacher.empty()) check_directory(s_.models.teacher, teacher_, pair_.teacher_name);
  if (!s_.models.student.empty()) check_directory(s_.models.student, student_, pair_.student_name);
  if (random_ && s_.text.prompts.empty()) prompt_tokens_ = 8;
}

/// A directory must hold the model that the program was written for.
template <class D, class T>
void PairRun<D, T>::check_directory(const std::string& path, const DecoderConfig& expected,
                                    const std::string& name) const {
  require<IoError>(is_directory(path), tag(), path, " is not a Hugging Face directory");
  const DecoderConfig found = read_hf_config(path);
  struct Field {
    const char* name;
    std::int64_t expected, found;
  };
  require<ConfigError>(found.family == expected.family, tag(), join_path(path, "config.json"), ": model_type is ",
                       family_name(found.family), "; ", name, " has ", family_name(expected.family),
                       ". For other models use distil");
  for (const Field f : {Field{"vocab_size", expected.vocab_size, found.vocab_size},
                        Field{"hidden_size", expected.hidden_size, found.hidden_size},
                        Field{"intermediate_size", expected.intermediate_size, found.intermediate_size},
                        Field{"num_hidden_layers", expected.layers, found.layers},
                        Field{"num_attention_heads", expected.query_heads, found.query_heads},
                        Field{"num_key_value_heads", expected.kv_heads, found.kv_heads},
                        Field{"head_dim", expected.head_size, found.head_size},
                        Field{"num_experts", expected.moe.experts, found.moe.experts},
                        Field{"num_experts_per_tok", expected.moe.active, found.moe.active},
                        Field{"moe_intermediate_size", expected.moe.intermediate, found.moe.intermediate},
                        Field{"shared_expert_intermediate_size", expected.moe.shared, found.moe.shared}})
    require<ConfigError>(f.found == f.expected, tag(), join_path(path, "config.json"), ": ", f.name, " is ", f.found,
                         "; ", name, " has ", f.expected, ". For other models use distil");
}

/// The plan of the run's own first steps on a device that counts. What the values of the weights are does not matter
/// there: where no directories are given, random models stand for them, with as long prompts as are assumed.
template <class D, class T>
RecipePlan PairRun<D, T>::counted_plan() const {
  RecipeSettings s = s_;
  const TemporaryFolder folder("[plan] a folder for random models", "kdlib_plan");
  if (s.models.teacher.empty() || s.models.student.empty()) {
    if (!random_) s.text.prompts = s.text.validation = {};
    make_random_models(s, folder.path());
  }
  return Session<D, T>(std::move(s)).plan();
}

template <class D, class T>
void PairRun<D, T>::print_plan() {
  const char* trains = recipe_word(s_.student.trains);
  if (!command_.json())
    std::printf("%s -> %s, %s scale; %s, prompts of %.0f tokens assumed\n", pair_.teacher_name.c_str(),
                pair_.student_name.c_str(), scale_.c_str(),
                (s_.student.adapts() ? concat("trained: ", trains, " rank ", s_.student.adapter.rank)
                                     : concat("trained: ", trains))
                    .c_str(),
                prompt_tokens_);
  const bool here = command_.device() == D::name;
  if constexpr (CountsMemory<D>)
    if (here) return command_.print(counted_plan());
  command_.print(
      plan(here ? measured_machine<D, T>(student_) : assumed_machine(find_accelerator(command_.device()), teacher_)));
}

template <class D, class T>
void PairRun<D, T>::require_memory() {
  PlanMachine machine;  // rates do not matter here
  machine.name = "this machine";
  machine.flops = machine.bandwidth = 1;
  machine.memory = available_memory_of<D>();
  detail::set_scalar_type<D, T>(machine);
  plan(machine).require_fit(
      tag(), "Use a larger machine, or --scale tiny to see the program work; --dry-run plans for others");
}

template <class D, class T>
std::string PairRun<D, T>::random_prompts(std::uint32_t row, std::int64_t count) const {
  const std::int64_t ids = std::min(teacher_.vocab_size, student_.vocab_size),
                     first = 16;  // the lowest are control tokens as a rule
  const std::uint32_t length = random_ ? 8 : static_cast<std::uint32_t>(prompt_tokens_);  // in a plan: as is assumed
  std::string out;
  for (std::int64_t i = 0; i < count; ++i) {
    const Rng rng(s_.seed, RngPurpose::initialise, 2 + row, static_cast<std::uint32_t>(i));
    out += "{\"prompt_ids\":[";
    for (std::uint32_t k = 0; k < length; ++k)
      out += concat(k == 0 ? "" : ",",
                    first + static_cast<std::int64_t>(rng.uniform(k) * static_cast<double>(ids - first)));
    out += "]}\n";
  }
  return out;
}

/// Makes what is not there yet in `folder`, and lets the settings name it.
template <class D, class T>
void PairRun<D, T>::make_random_models(RecipeSettings& settings, const std::string& folder) const {
  settings.models.teacher = join_path(folder, "teacher");
  settings.models.student = join_path(folder, "student");
  const auto model = [](const std::string& directory, const DecoderConfig& config, std::uint64_t seed) {
    if (!path_exists(join_path(directory, "config.json")) || weight_files(directory).empty())
      save_random_model(directory, config, seed);
  };
  model(settings.models.teacher, teacher_, s_.seed);
  model(settings.models.student, student_, s_.seed + 1);
  const auto prompts = [&](auto& source, const char* name, std::uint32_t row, std::int64_t count) {
    if (!source.empty()) return;
    source.path = join_path(folder, name);
    write_file_atomically(source.path, random_prompts(row, count));
  };
  prompts(settings.text.prompts, "prompts.jsonl", 0, 64);
  prompts(settings.text.validation, "validation.jsonl", 1, 8);
}

/// The random models of a run, in its folder.
template <class D, class T>
void PairRun<D, T>::keep_random_models() {
  RecipeSettings place = s_;
  place.models.teacher = random_path("teacher");
  check_run_place(place);
  make_directories(s_.output.folder);
  FolderLock lock;
  lock.take(s_.output.folder);
  const std::string folder = join_path(s_.output.folder, "random");
  ready_random_models(tag(), folder, concat(pair_.program, " ", scale_, " seed ", s_.seed, "\n"),
                      "scale or seed; use another --out, or --resume no", s_.output.resume == RecipeResume::no);
  make_random_models(s_, folder);
}

/// Reads what the run wrote and compares it with the student in memory: weights are equal where they are stored as
/// float32, else rounded once.
template <class D, class T>
void PairRun<D, T>::check_written(Session<D, T>& session) const {
  const bool lora = s_.student.trains == RecipeTrains::lora;
  const std::string folder = join_path(s_.output.folder, lora ? "adapter" : "model");
  if (s_.student.rounded) {
    std::fprintf(stderr, "%s is not read back: its base is rounded in memory alone\n", folder.c_str());
    return;
  }
  Model again = Model::from_pretrained(lora ? s_.models.student : folder, {.trainable = false});
  if (lora) load_adapter(again, folder);
  const std::vector<T> a = host_copy<T, D>(session.student()->forward(session.held_out())),
                       b = host_copy<T, D>(again.forward(session.held_out()));
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::abs(static_cast<double>(a[i])));
  }
  const double allowed = again.config().dtype == "float32" || lora ? 0 : 0.1;
  require<Error>(worst <= allowed * largest, tag(), folder,
                 " read back gives other hidden states than the trained student: they differ by up to ", worst, " of ",
                 largest);
  std::fprintf(stderr, "read back %s: hidden states of %lld held-out tokens differ by at most %.3g of %.3g\n",
               folder.c_str(), static_cast<long long>(session.held_out().tokens()), worst, largest);
}

}  // namespace detail

template <class... Types>
int run_distil_pair(int argc, const char* const* argv, const DistilPair& pair) {
  start_process();
  DistilCommand command({pair.program, pair.purpose, false}, pair.defaults);
  detail::PairWords words;
  command.options()
      .group("Scale")
      .add("scale", words.scale, "NAME",
           "full: the real sizes; tiny: the same structure with 3 layers, for a look and for tests")
      .choices({"full", "tiny"})
      .add("random-weights", words.random_weights,
           "make both models from --seed instead of reading them; prompts are random ids unless given");
  command.parse(argc, argv);
  if (command.threads() > 0) set_thread_count(command.threads());
  return with_session_type<Types...>(
      pair.program, command.session_device(), command.session_dtype(),
      [&](auto type) {
        using Type = decltype(type);
        command.settle_dtype(type.dtype());
        return detail::PairRun<typename Type::device_type, typename Type::scalar_type>(pair, command, words).run();
      },
      command.dry_run());
}

KDLIB_NAMESPACE_END

#endif
