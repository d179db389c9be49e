// SPDX-License-Identifier: Apache-2.0
// One prompt, several models: their answers and every model's log-probability of every token.
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

/// A model of a comparison, with the name of its column.
struct ComparedModel {
  std::string name, model, adapter;
};
/// The same prompt, answered by several models.
struct CompareRequest {
  std::vector<ComparedModel> models;  // 2 to 4
  std::string reference;              // name of the model that the others are compared with; empty: none
  std::string prompt_line;            // a line of a file of prompts
  bool chat = false;
  std::vector<std::string> sampler;  // flags of generate
  std::string programs, folder;      // of the programs; for files of this comparison
};

/// Comparisons that were asked for; one runs at a time, in children.
class Comparisons {
 public:
  /// Registers a comparison: its id and the work, to be called on another thread. ServiceProblem 429: one is running.
  std::pair<std::string, std::function<void()>> add(CompareRequest request);
  /// {"id","state","models":[{"name","text","tokens","ids","log_probs":{name:[...]},...}]}; 404 for unknown ones.
  std::string json(const std::string& id) const;

 private:
  struct Job {
    std::string id, answer;  // the answer is empty while the comparison runs
  };
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Job>> jobs_;
};

/// Does the work and answers the members after "state" as JSON text. IoError, Error with the sentence of a child.
std::string compare_models(const CompareRequest& request);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/compare_inl.hpp"
#endif

#endif
