#include "rpc/dispatch.h"

#include <exception>
#include <optional>
#include <utility>

namespace datom::rpc {
namespace {

// A handler may answer with more than may cross the wire; its caller hears of it.
runtime::Task<Message> run_handler(const Router::Handler& handler, Peer peer, Message request) {
  Message reply = co_await handler(std::move(peer), std::move(request));
  check_bounds(reply);
  co_return reply;
}

Error unknown_method(const std::string& self, Method method) {
  return Error(Code::unsupported, "service \"{}\" knows no method {}", self, method);
}

}  // namespace

void check_bounds(const Message& message) {
  if (message.header.size() > kMaxHeaderBytes) {
    throw Error(Code::too_large, "message header of {} bytes, at most {} are allowed",
                message.header.size(), kMaxHeaderBytes);
  }
  if (message.payload.size() > kMaxPayloadBytes) {
    throw Error(Code::too_large, "message payload of {} bytes, at most {} are allowed",
                message.payload.size(), kMaxPayloadBytes);
  }
}

runtime::Task<Answer> answer(const Router& router, std::string self, Method method, Peer peer,
                             Message request) {
  const Router::Handler* handler = router.find_call(method);
  if (handler == nullptr) co_return unknown_method(self, method);
  std::optional<Error> error;
  try {
    Message reply = co_await run_handler(*handler, std::move(peer), std::move(request));
    co_return reply;
  } catch (const Error& thrown) {
    error = thrown;
  } catch (const std::exception& thrown) {
    error = Error(Code::internal, "method {} of service \"{}\" failed: {}", method, self,
                  thrown.what());
  }
  co_return *error;
}

void hand_over(const Router& router, const std::string& self, Method method, const Peer& peer,
               Message message) {
  const Router::MessageHandler* handler = router.find_message(method);
  if (handler == nullptr) throw unknown_method(self, method);
  (*handler)(peer, std::move(message));
}

}  // namespace datom::rpc
