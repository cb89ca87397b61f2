// What every transport does the same way: bounds of what is sent, and running a Router's handlers.
#pragma once

#include <string>
#include <variant>

#include "rpc/rpc.h"

namespace datom::rpc {

// Throws Error{too_large} when header or payload is over its bound.
void check_bounds(const Message& message);

// A handler's reply, or the error it ended with: what goes back to the caller.
using Answer = std::variant<Message, Error>;

// Runs the handler of `method`; Error{unsupported} where there is none. An exception that is no
// Error becomes Error{internal}. `self` is named in messages.
runtime::Task<Answer> answer(const Router& router, std::string self, Method method, Peer peer,
                             Message request);

// Runs the handler of a one-way message. Throws what it throws, Error{unsupported} where there is
// none.
void hand_over(const Router& router, const std::string& self, Method method, const Peer& peer,
               Message message);

}  // namespace datom::rpc
