// SPDX-License-Identifier: Apache-2.0
// Names without definitions, for headers that only mention a type. Data are ordered <T, D>, things that compute <D, T>.
#ifndef KDLIB_FWD_HPP
#define KDLIB_FWD_HPP

#include "kdlib/core/dtype.hpp"

KDLIB_NAMESPACE_BEGIN

struct Cpu;
struct Cuda;
template <class D, class T>
struct Kernels;
template <class D>
struct Memory;

class Shape;
struct TokenBatch;
template <class T, class D>
class View;
template <class T, class D>
class Buffer;
template <class T, class D>
class Tensor;
template <class T, class D>
struct Parameter;

template <class T, class D>
class Tape;
template <class T, class D>
struct HeadView;

struct DecoderConfig;
template <class D, class T>
class Decoder;
template <class T, class D>
class KvCache;

class Tokenizer;
class Error;

KDLIB_NAMESPACE_END

#endif
