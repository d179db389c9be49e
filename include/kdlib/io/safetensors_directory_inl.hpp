// SPDX-License-Identifier: Apache-2.0
// Bodies of SafetensorsDirectory (io/safetensors.hpp): the single file, or index and shards.
#ifndef KDLIB_IO_SAFETENSORS_DIRECTORY_INL_HPP
#define KDLIB_IO_SAFETENSORS_DIRECTORY_INL_HPP

#include "kdlib/io/safetensors_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_FUNC bool is_plain_file_name(std::string_view name) {
  constexpr std::string_view separators("/\\\0", 3);
  return !name.empty() && name != "." && name.find("..") == std::string_view::npos &&
         name.find_first_of(separators) == std::string_view::npos;
}
}  // namespace detail

KDLIB_FUNC SafetensorsDirectory::SafetensorsDirectory(const std::string& path) : path_(path) {
  if (!is_directory(path)) {
    if (std::string_view(path).ends_with(".index.json")) open_shards(path);
    else files_.emplace_back(path);
  } else {
    open_folder();
  }
  collect();
}

KDLIB_FUNC void SafetensorsDirectory::open_folder() {
  const std::string single = join_path(path_, "model.safetensors"),
                    index = join_path(path_, "model.safetensors.index.json");
  if (path_exists(single)) {
    files_.emplace_back(single);
    if (path_exists(index))
      warnings_.push_back(
          concat(path_, ": model.safetensors and an index of shards are both there; the single file is read"));
    return;
  }
  require<IoError>(path_exists(index), "[safetensors] ", path_,
                   ": neither model.safetensors nor model.safetensors.index.json is there",
                   path_exists(join_path(path_, "pytorch_model.bin"))
                       ? "; pytorch_model.bin is not read, save the model as safetensors first"
                       : "; name the folder of a model in safetensors form");
  open_shards(index);
}

KDLIB_FUNC void SafetensorsDirectory::open_shards(const std::string& index_path) {
  const Json index = Json::parse_file(index_path);
  const Json weight_map = index.at("weight_map");
  if (!weight_map.is_object()) weight_map.refuse("is not an object");
  struct Wanted {
    std::string_view shard, tensor;
  };
  std::vector<Wanted> wanted;
  for (const auto& [tensor, shard] : weight_map.members()) {
    const std::string_view name = shard.as_string();
    if (!detail::is_plain_file_name(name))
      shard.refuse(concat("is \"", printable(name), "\", not the name of a file beside the index"));
    wanted.push_back({name, tensor});
  }
  std::stable_sort(wanted.begin(), wanted.end(), [](const Wanted& a, const Wanted& b) { return a.shard < b.shard; });
  std::uint64_t bytes = 0;
  for (std::size_t begin = 0, end = 0; begin < wanted.size(); begin = end) {
    const SafetensorsFile& file = files_.emplace_back(join_path(parent_path(index_path), wanted[begin].shard));
    for (end = begin; end < wanted.size() && wanted[end].shard == wanted[begin].shard; ++end) {
      require<FormatError>(file.find(wanted[end].tensor) != nullptr, "[safetensors] ", index_path, ": tensor \"",
                           printable(wanted[end].tensor), "\" is not in ", file.path(), ", where weight_map puts it");
    }
    for (const TensorInfo& tensor : file.tensors()) {
      bytes += tensor.data.size();
      const std::optional<Json> listed = weight_map.find(tensor.name);
      if (!listed)
        warnings_.push_back(
            concat(file.path(), ": tensor \"", printable(tensor.name), "\" is not listed in ", file_name(index_path)));
    }
  }
  const std::optional<Json> metadata = index.find_set("metadata");
  const std::optional<Json> total = metadata ? metadata->find_set("total_size") : std::nullopt;
  if (total && (!total->is_number() || total->as_double() != static_cast<double>(bytes)))
    warnings_.push_back(concat(index_path, ": metadata.total_size is not ", bytes, ", the bytes of all tensors"));
}

KDLIB_FUNC void SafetensorsDirectory::collect() {
  for (const SafetensorsFile& file : files_)
    for (const TensorInfo& tensor : file.tensors()) by_name_.push_back(&tensor);
  std::stable_sort(by_name_.begin(), by_name_.end(),
                   [](const TensorInfo* a, const TensorInfo* b) { return a->name < b->name; });
  for (std::size_t i = 1; i < by_name_.size(); ++i) {
    const TensorInfo &a = *by_name_[i - 1], &b = *by_name_[i];
    require<FormatError>(a.name != b.name, "[safetensors] ", path_, ": tensor \"", printable(a.name),
                         "\" is in two shards, ", *a.file, " and ", *b.file);
  }
}

KDLIB_FUNC const TensorInfo* SafetensorsDirectory::find(std::string_view name) const {
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [](const TensorInfo* t, std::string_view n) { return t->name < n; });
  return at != by_name_.end() && (*at)->name == name ? *at : nullptr;
}

KDLIB_FUNC const TensorInfo& SafetensorsDirectory::at(std::string_view name) const {
  if (const TensorInfo* found = find(name)) return *found;
  detail::fail_missing_tensor(path_, name, by_name_.size(), by_name_.empty() ? "" : by_name_.front()->name);
}

KDLIB_NAMESPACE_END

#endif
