// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/model_options.hpp.
#ifndef KDLIB_TOOLS_MODEL_OPTIONS_INL_HPP
#define KDLIB_TOOLS_MODEL_OPTIONS_INL_HPP

#include "kdlib/tools/model_options.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC void ModelOptions::add_to(Options& o, bool servers) {
  o.add("model", model, servers ? "MODEL|URL[,URL...]" : "MODEL",
        servers ? "Hugging Face directory, GGUF file, the folder of a finished run of distil, or http(s) URLs of "
                  "servers that have the model in memory (serve --teacher, vLLM, SGLang, llama.cpp)"
                : "Hugging Face directory, GGUF file, or the folder of a finished run of distil")
      .required()
      .add("adapter", adapter, "DIR", "LoRA adapter in PEFT's format")
      .add("weights", weights, "PLACE", "where matrices lie: in the mapped file as it is, or decoded in memory")
      .choices({"file", "memory"})
      .add("merge", merge,
           "merge the adapter on reading: also kinds that are not trained (DoRA, biases, embedding, head, experts)");
}

KDLIB_TOOLS_FUNC Options& add_type_options(Options& o, std::string& device, std::string& dtype) {
  return o.add("device", device, "NAME", "where models run: cpu, or cuda where the program was built with it")
      .choices({"cpu", "cuda"})
      .add("dtype", dtype, "NAME", "scalar type of weights and activations; auto: float32 on the CPU, bfloat16 on CUDA")
      .choices({"auto", "float32", "bfloat16"});
}

KDLIB_TOOLS_FUNC void ModelOptions::resolve(const Options& options) {
  const ModelPlace place = find_model(model, adapter);
  model = place.model;
  adapter = place.adapter;
  options.check_needs({{{"merge"}, !adapter.empty(), "there is no adapter (--adapter DIR)"},
                       {{"weights"}, !(merge && weights == "file"), "--merge needs the weights in memory"},
                       {{"weights"},
                        !(device == "cuda" && weights == "file"),
                        "--device cuda needs the weights in the device's memory"}});
}

KDLIB_TOOLS_FUNC Options& add_template_option(Options& o, std::string& target) {
  return o.add("template", target, "NAME|FILE",
               "how turns of conversations are written: a built-in name (chatml, smollm2, qwen2.5, qwen3, harmony), a "
               "name in the tokenizer's files or a file with a Jinja template; default: what the files say");
}

KDLIB_NAMESPACE_END

#endif
