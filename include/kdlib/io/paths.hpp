// SPDX-License-Identifier: Apache-2.0
// Paths and folders: the few operations that kdlib needs of a file system. Functions that fail throw IoError, which
// names the path.
#ifndef KDLIB_IO_PATHS_HPP
#define KDLIB_IO_PATHS_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns "folder/name", or the name alone if the name is absolute or the folder is empty.
std::string join_path(std::string_view folder, std::string_view name);

/// Returns the text before the last slash: "a/b.txt" -> "a", "/x" -> "/", "x" -> ".". Slashes at the end are not
/// counted.
std::string parent_path(std::string_view path);

/// Returns the text behind the last slash: "a/b.txt" -> "b.txt". Slashes at the end are not counted.
std::string file_name(std::string_view path);

/// True if a file or folder of this name exists. Links are followed. A path below a regular file does not exist.
bool path_exists(const std::string& path);
bool is_directory(const std::string& path);
bool is_regular_file(const std::string& path);

/// Size of a regular file in bytes.
std::uint64_t file_size(const std::string& path);

/// Returns the names in a folder without "." and "..", sorted by bytes.
std::vector<std::string> list_directory(const std::string& path);

/// Makes the folder and all folders above it. Folders that exist are kept. Throws IoError if a file, or a link to
/// nothing, stands in the way.
void make_directories(const std::string& path);

/// Throws IoError, without changing anything, if the path is not a folder and cannot become one: the path is empty, or
/// the path or a part above it is a file or a symbolic link to nothing. A program that makes its folder late can so
/// report the problem early.
void check_folder_path(const std::string& path);

/// Renames a file or folder within one file system, and syncs the target folder so that the new name survives a crash.
void rename_path(const std::string& from, const std::string& to);

/// Removes a file, or a folder with all its content. Links are removed, not followed. A missing path is not an error.
void remove_tree(const std::string& path);

namespace detail {
/// Returns the path without links, "." and "..". The last parts of the path need not exist.
std::string resolved_path(const std::string& path);
/// True if `path` is `folder` or lies below it. Both must be resolved paths.
bool lies_in(const std::string& path, const std::string& folder);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/paths_inl.hpp"
#endif

#endif
