// SPDX-License-Identifier: Apache-2.0
// Bodies of hdf5.hpp, by HDF5's C interface (1.10 or later).
#ifndef KDLIB_HDF5_INL_HPP
#define KDLIB_HDF5_INL_HPP

#include <hdf5.h>

#include <algorithm>

#include "kdlib/core/dtype.hpp"
#include "kdlib/hdf5.hpp"
#include "kdlib/io/atomic_file.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// An object of the library, closed at the end of its scope. `path` and `what` are for the message where the call that
/// made it failed.
class Hdf5Object {
 public:
  Hdf5Object(hid_t id, herr_t (*close)(hid_t), const std::string& path, const char* what) : id_(id), close_(close) {
    require<FormatError>(id >= 0, "[hdf5] ", path, ": ", what,
                         " cannot be opened or made: no HDF5 file, or a damaged one");
  }
  Hdf5Object(const Hdf5Object&) = delete;
  Hdf5Object& operator=(const Hdf5Object&) = delete;
  ~Hdf5Object() { close_(id_); }
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

/// HDF5 prints every error to stderr unless it is told not to.
inline void be_silent() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

/// IEEE half precision, little-endian.
inline hid_t hdf5_half() {
  const hid_t half = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(half, 15, 10, 5, 0, 10);
  H5Tset_size(half, 2);
  H5Tset_ebias(half, 15);
  return half;
}

inline hid_t hdf5_type(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return hdf5_half();
    case DType::bf16:
    case DType::u16:
      return H5Tcopy(H5T_STD_U16LE);
    case DType::i32:
      return H5Tcopy(H5T_STD_I32LE);
    case DType::i64:
      return H5Tcopy(H5T_STD_I64LE);
    case DType::u8:
      return H5Tcopy(H5T_STD_U8LE);
    case DType::f64:
      return H5Tcopy(H5T_IEEE_F64LE);
    case DType::f32:
      return H5Tcopy(H5T_IEEE_F32LE);
    default:
      fail<FormatError>("[hdf5] arrays of type ", dtype_name(dtype), " are not written");
  }
}

/// The element type of a dataset in a file.
inline DType hdf5_dtype(hid_t type, const std::string& place) {
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t size = H5Tget_size(type);
  const bool little = size == 1 || H5Tget_order(type) == H5T_ORDER_LE;
  if (little && kind == H5T_FLOAT && size == 8) return DType::f64;
  if (little && kind == H5T_FLOAT && size == 4) return DType::f32;
  if (little && kind == H5T_FLOAT && size == 2) return DType::f16;
  const bool is_signed = kind == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2;
  if (little && kind == H5T_INTEGER && is_signed && size == 8) return DType::i64;
  if (little && kind == H5T_INTEGER && is_signed && size == 4) return DType::i32;
  if (little && kind == H5T_INTEGER && !is_signed && size == 2) return DType::u16;
  if (little && kind == H5T_INTEGER && !is_signed && size == 1) return DType::u8;
  fail<FormatError>("[hdf5] ", place, ": elements of class ", static_cast<int>(kind), " and ", size,
                    " bytes are not read");
}

inline void write_text_attribute(hid_t object, const std::string& name, const std::string& text,
                                 const std::string& path) {
  const Hdf5Object type(H5Tcopy(H5T_C_S1), H5Tclose, path, "a text type");
  H5Tset_size(type, std::max<std::size_t>(text.size(), 1));
  H5Tset_cset(type, H5T_CSET_UTF8);
  const Hdf5Object space(H5Screate(H5S_SCALAR), H5Sclose, path, "a scalar");
  const Hdf5Object attribute(H5Acreate2(object, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, path,
                             "an attribute");
  const std::string padded = text.empty() ? std::string(1, '\0') : text;
  require<IoError>(H5Awrite(attribute, type, padded.data()) >= 0, "[hdf5] ", path, ": attribute ", name,
                   " cannot be written");
}

/// The text of an open attribute of fixed size; empty where it is something else.
inline std::string read_text(hid_t attribute, const char* name, const std::string& path) {
  const Hdf5Object type(H5Aget_type(attribute), H5Tclose, path, "the type of an attribute");
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0) return {};
  std::string text(H5Tget_size(type), '\0');
  require<FormatError>(H5Aread(attribute, type, text.data()) >= 0, "[hdf5] ", path, ": attribute ", name,
                       " cannot be read");
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}
/// The same of an object's attribute; empty where there is none.
inline std::string read_text_attribute(hid_t object, const char* name, const std::string& path) {
  if (H5Aexists(object, name) <= 0) return {};
  const Hdf5Object attribute(H5Aopen(object, name, H5P_DEFAULT), H5Aclose, path, "an attribute");
  return read_text(attribute, name, path);
}

inline void write_hdf5_array(hid_t file, const TensorInfo& t, int gzip, const std::string& path) {
  std::vector<hsize_t> extents(t.extents.begin(), t.extents.end());
  const Hdf5Object space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), H5Sclose, path,
                         "a shape");
  const Hdf5Object type(hdf5_type(t.dtype), H5Tclose, path, "a type");
  const Hdf5Object how(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, path, "a list of properties");
  H5Pset_obj_track_times(how, false);  // equal runs write equal bytes
  if (!t.data.empty() && gzip > 0) {
    std::vector<hsize_t> chunk = extents;
    chunk[0] = std::min<hsize_t>(chunk[0], extents.size() > 1 ? 256 : 65536);
    H5Pset_chunk(how, static_cast<int>(chunk.size()), chunk.data());
    H5Pset_shuffle(how);
    H5Pset_deflate(how, static_cast<unsigned>(gzip));
  }
  const Hdf5Object dataset(H5Dcreate2(file, t.name.c_str(), type, space, H5P_DEFAULT, how, H5P_DEFAULT), H5Dclose, path,
                           "a dataset");
  if (t.dtype == DType::bf16) write_text_attribute(dataset, "dtype", "bf16", path);
  require<IoError>(t.data.empty() || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, t.data.data()) >= 0,
                   "[hdf5] ", path, ": dataset ", t.name, " cannot be written");
}

/// The file is made in memory and written as others are: HDF5 itself, where it finds no room, keeps a broken file open
/// until the process ends.
inline void write_hdf5_segment(const std::string& path, const CacheArrays& arrays, int gzip) {
  be_silent();
  std::vector<std::byte> image;
  {
    const Hdf5Object access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, path, "a list of properties");
    require<IoError>(H5Pset_fapl_core(access, std::size_t{1} << 20, false) >= 0, "[hdf5] ", path,
                     ": a file cannot be made in memory");
    const Hdf5Object file(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose, path, "the file");
    for (const auto& [key, value] : arrays.metadata) write_text_attribute(file, key, value, path);
    for (const TensorInfo& t : arrays.tensors) write_hdf5_array(file, t, gzip, path);
    write_text_attribute(file, "alignment", "predicts_next", path);
    write_text_attribute(file, "complete", "1", path);  // last
    const bool flushed = H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0;
    const ssize_t size = flushed ? H5Fget_file_image(file, nullptr, 0) : -1;
    if (size > 0) image.resize(static_cast<std::size_t>(size));
    require<IoError>(size > 0 && H5Fget_file_image(file, image.data(), image.size()) == size, "[hdf5] ", path,
                     ": the file cannot be made in memory");
  }
  AtomicFile out(path);
  out.write(image.data(), image.size());
  out.commit();
}

inline void read_hdf5_array(hid_t file, const char* name, const std::string& path, CacheArrays& arrays) {
  const Hdf5Object dataset(H5Dopen2(file, name, H5P_DEFAULT), H5Dclose, path, name);
  const Hdf5Object space(H5Dget_space(dataset), H5Sclose, path, name),
      stored(H5Dget_type(dataset), H5Tclose, path, name);
  TensorInfo t;
  t.name = name;
  t.dtype = hdf5_dtype(stored, concat(path, ": dataset ", name));
  if (t.dtype == DType::u16 && read_text_attribute(dataset, "dtype", path) == "bf16") t.dtype = DType::bf16;
  const int rank = H5Sget_simple_extent_ndims(space);
  require<FormatError>(rank >= 1 && rank <= 4, "[hdf5] ", path, ": dataset ", name, " has ", rank, " axes");
  std::vector<hsize_t> extents(static_cast<std::size_t>(rank));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  t.extents.assign(extents.begin(), extents.end());
  t.file = std::make_shared<const std::string>(path);
  std::uint64_t bytes = dtype_bits(t.dtype) / 8;
  for (const std::uint64_t e : t.extents) {
    // What a header promises is no reason to fill the memory: deflate gives at most about 1032 times its input.
    require<FormatError>(e == 0 || bytes <= (std::uint64_t{1} << 46) / e, "[hdf5] ", path, ": dataset ", name,
                         " is too large");
    bytes *= e;
  }
  const std::uint64_t most = 1100 * (file_size(path) + 4096);
  require<FormatError>(bytes <= most, "[hdf5] ", path, ": dataset ", name, " has ", bytes,
                       " bytes, more than the file can hold");
  auto buffer = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(bytes));
  const Hdf5Object type(hdf5_type(t.dtype), H5Tclose, path, "a type");
  require<FormatError>(bytes == 0 || H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer->data()) >= 0,
                       "[hdf5] ", path, ": dataset ", name, " cannot be read: the file is damaged");
  t.data = *buffer;
  arrays.buffers.push_back(std::move(buffer));
  arrays.tensors.push_back(std::move(t));
}

/// All datasets and texts of the root.
inline CacheArrays read_hdf5_arrays(const std::string& path) {
  be_silent();
  require<IoError>(path_exists(path), "[hdf5] ", path, " is not there");
  CacheArrays arrays;
  const Hdf5Object file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, path, "the file");
  const Hdf5Object root(H5Gopen2(file, "/", H5P_DEFAULT), H5Gclose, path, "the root");
  char name[256];
  const int attributes = H5Aget_num_attrs(root);
  for (int i = 0; i < attributes; ++i) {
    const Hdf5Object one(
        H5Aopen_by_idx(root, ".", H5_INDEX_NAME, H5_ITER_INC, static_cast<hsize_t>(i), H5P_DEFAULT, H5P_DEFAULT),
        H5Aclose, path, "an attribute");
    if (H5Aget_name(one, sizeof name, name) > 0) arrays.metadata.emplace_back(name, read_text(one, name, path));
  }
  H5G_info_t info{};
  require<FormatError>(H5Gget_info(root, &info) >= 0, "[hdf5] ", path, ": the root cannot be read");
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const ssize_t length = H5Lget_name_by_idx(root, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
    require<FormatError>(length > 0 && length < static_cast<ssize_t>(sizeof name), "[hdf5] ", path, ": link ", i,
                         " has no name of up to 255 bytes");
    read_hdf5_array(file, name, path, arrays);
  }
  return arrays;
}

inline CacheArrays read_hdf5_segment(const std::string& path) {
  CacheArrays arrays = read_hdf5_arrays(path);
  std::string complete;
  for (const auto& [key, value] : arrays.metadata)
    if (key == "complete") complete = value;
  require<FormatError>(complete == "1", "[hdf5] ", path, ": complete is \"", complete, "\", \"1\" is needed");
  return arrays;
}

}  // namespace detail

inline void use_hdf5_caches() {
  static const Hdf5Functions functions{detail::read_hdf5_segment, detail::write_hdf5_segment};
  detail::installed_hdf5_functions() = &functions;
}

KDLIB_NAMESPACE_END

#endif
