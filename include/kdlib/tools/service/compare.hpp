// SPDX-License-Identifier: Apache-2.0
// Compares several models on one prompt: the answers of the models, and every model's log-probability of every token of
// the answers.
#ifndef KDLIB_TOOLS_SERVICE_COMPARE_HPP
#define KDLIB_TOOLS_SERVICE_COMPARE_HPP

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kdlib/tools/service/message.hpp"

KDLIB_NAMESPACE_BEGIN

/// A model of a comparison and the name of its column.
struct ComparedModel {
  std::string name, model, adapter;
};
/// A comparison: the same prompt for several models.
struct CompareRequest {
  std::vector<ComparedModel> models;  // 2 to 4 models
  std::string reference;              // name of the model with which the others are compared; empty: none
  std::string prompt_line;            // the prompt, in the form of a line of a prompt file
  bool chat = false;
  std::vector<std::string> sampler;  // flags for the program generate
  std::string programs, folder;      // folder of the programs; folder for files of this comparison
};

/// The comparisons that clients requested. One comparison runs at a time, in child processes.
class Comparisons {
 public:
  /// Registers a comparison. Returns its id and a function with the work, which must be called on another thread.
  /// ServiceProblem 429: another comparison is running.
  std::pair<std::string, std::function<void()>> add(CompareRequest request);
  /// Returns {"id","state","reference","models":[{"name","text","tokens","ids","log_probs":{name:[...]},...}]} of a
  /// comparison. While the comparison runs there are only "id" and "state"; if it failed, "detail" says why.
  /// ServiceProblem 404: the id is unknown.
  std::string json(const std::string& id) const;

 private:
  struct Job {
    std::string id, answer;  // the answer is empty while the comparison runs
  };
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Job>> jobs_;
};

/// Runs the comparison and returns the array "models" as JSON text. If a child program fails for a model, the member
/// "problem" of this model holds the reason. IoError: a file or program cannot be used.
std::string compare_models(const CompareRequest& request);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/compare_inl.hpp"
#endif

#endif
