// SPDX-License-Identifier: Apache-2.0
// Bodies of Boost.Asio and Boost.Beast that are no templates, compiled once for the units that use them.
// cmake/service.cmake defines BOOST_ASIO_SEPARATE_COMPILATION and BOOST_BEAST_SEPARATE_COMPILATION for them all.
#include <utility>  // before Boost 1.74, which uses std::exchange without it

#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
