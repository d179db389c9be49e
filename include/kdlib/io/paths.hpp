// SPDX-License-Identifier: Apache-2.0
// Paths and folders: the few operations that kdlib needs of a file system. All of them throw IoError, naming the path.
#ifndef KDLIB_IO_PATHS_HPP
#define KDLIB_IO_PATHS_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// "folder/name"; an absolute name or an empty folder gives the name alone.
std::string join_path(std::string_view folder, std::string_view name);

/// What stands before the last slash: "a/b.txt" -> "a", "/x" -> "/", "x" -> ".". Slashes at the end are not counted.
std::string parent_path(std::string_view path);

/// What stands behind the last slash: "a/b.txt" -> "b.txt".
std::string file_name(std::string_view path);

/// True when something of this name is there (links are followed). A path below a regular file is not there.
bool path_exists(const std::string& path);
bool is_directory(const std::string& path);
bool is_regular_file(const std::string& path);

/// Size of a regular file in bytes.
std::uint64_t file_size(const std::string& path);

/// Names in a folder without "." and "..", sorted by bytes.
std::vector<std::string> list_directory(const std::string& path);

/// Makes the folder and those above it. What exists is kept; a file or a link to nothing in the way is refused.
void make_directories(const std::string& path);

/// Refuses, without touching anything, a path that is no folder and cannot become one: an empty path, a file, a
/// symbolic link to nothing, or one of these above it. For a program that makes its folder late and wants to say so
/// early.
void check_folder_path(const std::string& path);

/// Renames a file or folder within one file system and makes that last (fsync of the folder it went to).
void rename_path(const std::string& from, const std::string& to);

/// Removes a file, or a folder with all that is in it. Links are removed, not followed. A missing path is no error.
void remove_tree(const std::string& path);

namespace detail {
/// The path without links, "." and "..", also where its last parts are not there yet.
std::string resolved_path(const std::string& path);
/// True when `path` is `folder` or lies below it. Both are resolved.
bool lies_in(const std::string& path, const std::string& folder);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/paths_inl.hpp"
#endif

#endif
