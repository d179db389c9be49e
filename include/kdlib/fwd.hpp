// SPDX-License-Identifier: Apache-2.0
// Declares names without definitions, for headers that only mention a type. Types that hold data have the template
// parameters <T, D> (scalar type, device); types that compute have <D, T>.
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
